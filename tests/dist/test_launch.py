"""Ranks: their values in order, and none that outlives the call, whatever happens to one of them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from moe_core.dist import launch as launching
from moe_core.dist.launch import LostRankError, environment, launch
from moe_core.errors import CancelledError
from moe_core.settings import ROOT


def children() -> list[psutil.Process]:
    """Ranks that this process has started and that live."""
    return [p for p in psutil.Process().children(recursive=True) if "moe_core.dist.launch" in p.cmdline()]


def test_values_come_in_the_order_of_the_ranks_and_each_has_one_thread():
    asked = {"text": "ü", "list": [1, 2.5, None]}
    assert launch("tests.dist.tasks:place", ranks=2, arguments=asked) == [[0, 2, 1, asked], [1, 2, 1, asked]]
    assert not children()


def test_a_killed_rank_ends_the_others_long_before_the_limit():
    start = time.monotonic()
    with pytest.raises(LostRankError, match="rank 1 of 2 ended with -9"):
        launch("tests.dist.tasks:loses_one", ranks=2, arguments={}, time_limit_s=500)
    assert time.monotonic() - start < 250  # seconds, on an idle machine
    assert not children()


def test_the_last_words_of_a_rank_are_told():
    with pytest.raises(LostRankError, match="ValueError: no such layer"):
        launch("tests.dist.tasks:raises", ranks=1, arguments={})


def test_whoever_waits_can_stop_it(tmp_path):
    def check() -> None:
        if (tmp_path / "0.pid").exists():
            raise CancelledError("stop")

    with pytest.raises(CancelledError, match="stop"):
        launch("tests.dist.tasks:sleeps", ranks=1, arguments={"folder": str(tmp_path)}, check=check)
    assert not children()


def test_time_runs_out(tmp_path):
    with pytest.raises(CancelledError, match="time limit"):
        launch("tests.dist.tasks:sleeps", ranks=1, arguments={"folder": str(tmp_path)}, time_limit_s=0.05)
    assert not children()


def test_ranks_end_when_who_started_them_is_killed(tmp_path):
    call = f"launch('tests.dist.tasks:sleeps', ranks=1, arguments={{'folder': {str(tmp_path)!r}}})"
    script = f"from moe_core.dist.launch import launch; {call}"
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as starter:
        pid = _written(tmp_path / "0.pid")
        starter.kill()
        starter.wait()
    rank = psutil.Process(pid) if psutil.pid_exists(pid) else None
    assert rank is None or not rank.is_running() or rank.wait(60) in (None, 0, 1)


def _written(path: Path) -> int:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if path.exists() and (text := path.read_text()):
            return int(text)
        time.sleep(0.02)
    raise AssertionError("the rank never started")


def test_ranks_speak_over_the_loopback_alone():
    name = environment()["GLOO_SOCKET_IFNAME"]
    assert name.startswith("lo")
    assert os.environ.get("GLOO_SOCKET_IFNAME") is None  # of the rank only
    assert launching.PEER_S == 20.0  # a stopped rank is found out after so long, not after half an hour
