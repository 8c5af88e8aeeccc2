"""The short probe: complete where there is time, sound where there is little, never long past its budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from moe_core.labs import tuning
from moe_core.labs.tuning import Bench, TuningPlace
from moe_core.nn.experts import KERNELS
from moe_core.nn.tuning import NEUTRAL
from moe_core.threads import smaller_teams

CPU = torch.device("cpu")
WAYS = ("right", "left", "widened")


class Machine(Bench):
    """A processor with a clock of its own: seconds of a candidate by a rule, nothing computed."""

    def __init__(self, budget_s: float, seconds: Callable[[TuningPlace, str], float]) -> None:
        self.now, self.seconds, self.calls = 0.0, seconds, 0
        super().__init__(budget_s, lambda: self.now)

    def _calls(self, place: TuningPlace) -> dict[str, Callable[[], object]]:
        teams = tuple(map(str, self._numbers))
        names = {"threads": teams, "linear": ("linear",), "expert": WAYS}.get(place.what)
        names = names or tuning.CANDIDATES[place.what]

        def one(name: str) -> Callable[[], object]:
            def call() -> None:
                self.calls += 1
                self.now += self.seconds(place, name)

            return call

        return {name: one(name) for name in names}


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MEMORY", 2**16)


def amx(place: TuningPlace, name: str) -> float:
    """bf16 five times as fast; `sorted` ahead in it, `grouped` in fp32."""
    half = place.dtype == "bf16"
    ahead = {"sorted": 0.5 if half else 1.0, "grouped": 1.0 if half else 0.7}.get(name, 1.2)
    return 1e-6 + ahead * place.work * (0.2 if half else 1.0) / 1e12


def emulated(place: TuningPlace, name: str) -> float:
    """bf16 thirty times as slow with many rows, unless its weights are widened."""
    slow = 1.0 if place.dtype == "fp32" or name in ("each", "widened") else min(30.0, 1 + place.rows)
    return 1e-6 + slow * place.work / 1e11


def test_with_time_every_place_is_measured_and_the_fastest_found():
    found = Machine(10.0, amx).run()
    for what in set(tuning.SHARES) - {"threads"}:
        for dtype in ("fp32", "bf16"):
            places = {(t.elements, t.rows) for t in found.timings if (t.what, t.dtype) == (what, dtype)}
            assert len(places) >= len(tuning.ROWS[what])
    assert {t.best for t in found.timings if (t.what, t.dtype) == ("bank", "bf16")} == {"sorted"}
    assert {t.best for t in found.timings if (t.what, t.dtype) == ("bank", "fp32")} == {"grouped"}
    assert not found.emulates("bf16")
    assert found.source == "probe"


def test_where_bf16_is_emulated_that_is_found_and_its_weights_are_widened():
    machine = Machine(1.0, emulated)
    found = machine.run()
    assert found.emulates("bf16")
    assert found.best("expert", "bf16", 10**6, 64) == "widened"
    assert found.best("bank", "bf16", 10**6, 64) == "each"
    assert machine.now <= 1.0


@pytest.mark.parametrize("speed", [0.01, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("rule", [amx, emulated])
def test_the_budget_holds_on_any_machine(speed: float, rule: Callable[[TuningPlace, str], float]):
    machine = Machine(0.9, lambda place, name: rule(place, name) / speed)
    found = machine.run()
    assert machine.now <= 1.0
    kinds = {(t.what, t.dtype) for t in found.timings}
    assert {
        (what, dtype) for what in ("linear", "bank") for dtype in ("fp32", "bf16")
    } <= kinds or speed < 0.1


def test_one_disturbed_call_does_not_lose_a_candidate():
    hit: list[str] = []

    def disturbed(place: TuningPlace, name: str) -> float:
        if name == "sorted" and len(hit) < 1 and place.what == "bank":
            hit.append(name)
            return 0.004
        return amx(place, name)

    found = Machine(10.0, disturbed).run()
    assert hit
    assert {t.best for t in found.timings if (t.what, t.dtype) == ("bank", "bf16")} == {"sorted"}


def many_cores(place: TuningPlace, name: str) -> float:
    """A team gathers in a microsecond a thread, and then shares the work."""
    return int(name) * 1e-6 + place.work / 1e9 / int(name) if place.what == "threads" else amx(place, name)


def test_on_many_cores_small_work_is_done_by_few_threads_and_large_work_by_all(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("moe_core.device.threads", lambda: 64)
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    found = Machine(10.0, many_cores).run()
    few, more, all_ = (found.threads("fp32", 3 * 256 * 64, rows) for rows in (1, 64, 10**6))
    assert few is not None
    assert more is not None
    assert few <= 32
    assert few < more
    assert all_ is None


def test_with_one_core_there_are_no_teams_to_choose_from(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("moe_core.device.threads", lambda: 1)
    found = Machine(10.0, amx).run()
    assert {t.what for t in found.timings} == set(tuning.SHARES) - {"threads"}
    assert found.threads("fp32", 10**5, 1) is None


def test_a_gpu_is_not_asked():
    assert tuning.measure(torch.device("cuda")) == NEUTRAL


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SIZES", dict.fromkeys(tuning.SIZES, ((16, 8),)))
    monkeypatch.setattr(tuning, "EXPERTS", {(16, 8): 4})
    monkeypatch.setattr(tuning, "ROWS", {what: rows[:2] for what, rows in tuning.ROWS.items()})


def test_the_real_probe_times_every_candidate_of_this_device(quick: None):
    found = tuning.measure(CPU, budget_s=60.0)
    seen: dict[Any, set[str]] = {}
    for timing in found.timings:
        assert all(seconds > 0 for seconds in timing.seconds.values())
        seen.setdefault((timing.what, timing.dtype), set()).update(timing.seconds)
    for dtype in ("fp32", "bf16"):
        assert seen["bank", dtype] == set(tuning.CANDIDATES["bank"])
        assert seen["training", dtype] == set(tuning.CANDIDATES["training"])
        assert {"right", "left"} <= seen["expert", dtype]
        assert seen["linear", dtype] == {"linear"}
        teams = {str(count) for count in smaller_teams(torch.get_num_threads())}
        assert seen.get(("threads", dtype), {"1"}) == teams
    assert "widened" in seen["expert", "bf16"]
    assert set(tuning.CANDIDATES["bank"]) <= set(KERNELS)
