"""Threads spin on a machine of their own, sleep beside other work, and obey whoever set a policy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from moe_core import pressure, threads
from moe_core.pressure import Counters
from moe_core.settings import ROOT
from moe_core.threads import BUSY, CALM, OWN_POLICY, WINDOW_S, Waiting


class Machine:
    """Counters of a machine whose other work is set by hand."""

    def __init__(self) -> None:
        self.now, self.work = 100.0, 0.0

    def pass_by(self, seconds: float, others: float) -> None:
        self.now += seconds
        self.work += others * seconds

    def look(self) -> Counters:
        return Counters(self.now, 0.0, self.work, None)

    def clock(self) -> float:
        return self.now


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    for name in OWN_POLICY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pressure, "cores", lambda: 2)
    return Machine()


@pytest.fixture
def waiting(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    """Over a library that makes no threads."""

    class Library:
        def GOMP_parallel(self, *_: object) -> None: ...
        def omp_get_num_procs(self) -> int:
            return 2

        omp_get_max_threads = omp_get_num_procs

    monkeypatch.setattr(threads, "gcc_library", Library)
    with Waiting(machine.look, machine.clock) as found:
        yield found


def test_threads_spin_until_others_work_and_again_when_they_are_done(machine: Machine, waiting: Waiting):
    seen = [waiting.settle()]
    for others in (0.0, BUSY + 0.1, (BUSY + CALM) / 2, 0.0, (BUSY + CALM) / 2):
        machine.pass_by(WINDOW_S, others)
        seen.append(waiting.settle())
    assert seen == ["spinning", "spinning", "yielding", "yielding", "spinning", "spinning"]


def test_a_look_that_comes_too_soon_changes_nothing(machine: Machine, waiting: Waiting):
    machine.pass_by(WINDOW_S / 10, 2.0)
    assert waiting.settle() == "spinning"
    machine.pass_by(WINDOW_S, 2.0)
    assert waiting.settle() == "yielding"


def test_how_long_it_has_been_calm(machine: Machine, waiting: Waiting):
    assert waiting.calm_s == 0.0
    for _ in range(4):
        machine.pass_by(1.0, 0.0)
        waiting.settle()
    assert waiting.calm_s == pytest.approx(3.0)
    machine.pass_by(1.0, 2.0)
    waiting.settle()
    assert waiting.calm_s == 0.0


def test_whoever_set_a_policy_is_obeyed(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with Waiting(machine.look, machine.clock) as waiting:
        machine.pass_by(1.0, 2.0)
        assert waiting.settle() == "as set by the environment"


def test_one_core_has_nobody_to_wait_for(machine: Machine, waiting: Waiting, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pressure, "cores", lambda: 1)
    machine.pass_by(1.0, 1.0)
    assert waiting.settle() == "spinning"


@pytest.mark.parametrize(
    ("allowed", "logical", "physical", "threads_used"),
    [(2, 2, 2, 2), (1, 2, 1, 1), (128, 128, 64, 64), (8, 128, 64, 4), (3, 4, None, 3), (1, 64, 64, 1)],
)
def test_a_thread_for_each_physical_core_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, allowed: int, logical: int, physical: int | None, threads_used: int
):
    monkeypatch.setattr(pressure, "cores", lambda: allowed)
    sizes = {True: logical, False: physical}
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: sizes[logical])
    assert threads.count() == threads_used


@pytest.mark.parametrize(
    ("most", "teams"), [(1, [1]), (2, [1, 2]), (6, [1, 3, 6]), (64, [1, 2, 4, 8, 16, 32, 64])]
)
def test_teams_are_halved_down_to_one_thread(most: int, teams: list[int]):
    assert threads.smaller_teams(most) == teams


def test_the_number_of_threads_is_chosen_unless_somebody_said_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "count", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads.prepare()
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads.prepare()
    assert os.environ["OMP_NUM_THREADS"] == "1"


# What the rule of the library does, counted in processor time: a team that spins while one thread works alone
# burns a second core for nothing, a team that yields does not.
SPENT = """
import json, os, sys
sys.path.insert(0, {root!r})
from moe_core import threads
threads.prepare()
import torch
from moe_core.threads import Waiting

def spent():
    weights, x = torch.randn(4, 1024, 512), torch.randn(32, 512)
    left = torch.randn(300, 300)
    before = os.times()
    for turn in range(300):
        torch.nn.functional.linear(x, weights[turn % 4])
        sum(range(20000))  # nothing for a second thread to do
    after = os.times()
    return after.user + after.system - before.user - before.system

with Waiting() as waiting:
    found = {{"library": waiting.policy != "as the library does", "threads": torch.get_num_threads()}}
    spent()
    found["spinning"] = spent()
    waiting._hold()
    found["yielding"] = spent()
    waiting._let_go()
    found["again"] = spent()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_second_team_keeps_threads_from_spinning_and_its_end_lets_them():
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SPENT.format(root=str(ROOT))],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    if not found["library"] or found["threads"] == 1:
        pytest.skip("more than one core is needed, and GCC's OpenMP library")
    assert found["yielding"] < 0.9 * min(found["spinning"], found["again"])
