"""How busy the machine is: what others do told from what this process does; cores counted as allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moe_core import pressure
from moe_core.pressure import Busy, Counters, between


def test_work_of_others_is_all_work_less_our_own():
    start, end = Counters(10.0, 1.0, 100.0, 5.0), Counters(12.0, 2.5, 103.5, 6.5)
    busy = between(start, end)
    assert (busy.others, busy.waited, busy.wall_s, busy.processor_s) == (1.0, 0.75, 2.0, 1.5)


@pytest.mark.parametrize(
    ("end", "others"),
    [
        (Counters(10.0, 1.0, 100.0, None), 0.0),  # no time passed
        (Counters(11.0, 2.0, 100.9, None), 0.0),  # counters of different grain: never below nothing
        (Counters(11.0, 1.0, 101.0, 3.0), 1.0),  # a kernel without an account of waiting at one end
    ],
)
def test_counters_that_do_not_fit_are_not_negative_work(end: Counters, others: float):
    busy = between(Counters(10.0, 1.0, 100.0, None), end)
    assert (busy.others, busy.waited) == (others, None)


@pytest.mark.parametrize(
    ("others", "cores", "quiet"), [(0.0, 2, True), (0.3, 2, True), (0.4, 2, False), (6, 64, True)]
)
def test_a_machine_is_quiet_while_others_take_a_small_part(others: float, cores: int, quiet: bool):
    busy = Busy(others=others, waited=None, wall_s=1.0, processor_s=1.0, cores=cores)
    assert busy.quiet is quiet
    assert 0 <= busy.share <= 1


def test_our_own_work_is_not_taken_for_that_of_others():
    start = pressure.look()
    total = 0
    while pressure.look().own_s - start.own_s < 0.5:  # processor time, whatever else goes on
        total += sum(range(10_000))
    mine = between(start, pressure.look())
    assert mine.processor_s >= 0.5
    assert mine.others <= mine.cores + 0.1
    assert total


def test_work_of_another_process_is_seen():
    """Held against the kernel's own account of that process: at least half of it shows."""
    code = "while True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        try:
            start = pressure.look()
            spent = _spent(other.pid)
            while _spent(other.pid) - spent < 0.5:
                pressure.now(0.05)
            seen = between(start, pressure.look())
        finally:
            other.kill()
    assert seen.others * seen.wall_s > 0.25


def _spent(pid: int) -> float:
    import psutil

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def test_cores_are_those_this_process_may_use():
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert 1 <= pressure.cores() <= (allowed or 1)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.max": "nonsense\n"}, 8),
        ({}, 8),
    ],
)
def test_a_container_may_allow_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(pressure, "_CGROUP", tmp_path)
    monkeypatch.setattr(pressure, "_affinity", lambda: list(range(8)))
    pressure.cores.cache_clear()
    try:
        assert pressure.cores() == cores
    finally:
        pressure.cores.cache_clear()
