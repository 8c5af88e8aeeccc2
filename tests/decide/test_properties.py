"""What holds of every verdict: more memory never hurts, more traffic never takes less, and nothing jumps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from moe_core.decide import knobs
from moe_core.decide.case import Case, case
from moe_core.decide.limits import misses
from moe_core.decide.spec import DecideSpec
from moe_core.decide.verdict import judged
from moe_core.scenario.decision import decision
from moe_core.scenario.spec import Scenario
from tests.decide.strategies import specs

slowly = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
ASKED = (
    Scenario(),
    Scenario("Mixtral-8x7B", "A100 80GB"),
    Scenario("gpt-oss-120b", "H200", prompt=8192),
    Scenario("Qwen3-235B-A22B", "B200", precision="fp8", rival="total"),
)


def name(asked: Scenario) -> str:
    return f"{asked.architecture} on {asked.hardware}"


def turned(spec: DecideSpec, knob: str, value: float) -> Case:
    return case(knobs.turned(spec, knob, value))


def geometric(low: float, high: float, ratio: float) -> list[float]:
    found = [low]
    while found[-1] * ratio < high:
        found.append(found[-1] * ratio)
    return found


@given(specs(traffic=False), st.floats(1.0, 4.0))
@slowly
def test_with_more_memory_nobody_needs_more_devices_or_stops_fitting(asked: DecideSpec, more: float) -> None:
    assert asked.capacity_gb is not None
    larger = asked.model_copy(update={"capacity_gb": asked.capacity_gb * more})
    for before, after in zip(case(asked).both, case(larger).both, strict=True):
        fitted = not [miss for miss in misses(before) if miss.name == "memory"]
        if fitted:
            assert not [miss for miss in misses(after) if miss.name == "memory"]
            assert after.devices <= before.devices or asked.workload.latency_ms or asked.workload.ttft_ms


@pytest.mark.parametrize("asked", ASKED, ids=name)
def test_over_memory_an_answer_once_there_stays(asked: Scenario) -> None:
    """Neither will do, then one, then both: never back."""
    spec = decision(asked._replace(devices=2))
    order = {(False, False): 0, (True, False): 1, (False, True): 1, (True, True): 2}
    found = [turned(spec, "memory", gb) for gb in geometric(16.0, 1500.0, 1.15)]
    fits = [tuple(one.fits for one in point.both) for point in found]
    ranks = [order[both] for both in fits]  # type: ignore[index]
    assert ranks == sorted(ranks)
    assert ranks[-1] == 2
    for point, both in zip(found, fits, strict=True):
        if sum(both) == 1 and not any(misses(one) for one, fit in zip(point.both, both, strict=True) if fit):
            assert judged(point).winner == ("mixture" if both[0] else "dense")


@pytest.mark.parametrize("asked", ASKED, ids=name)
def test_the_margin_jumps_only_where_a_device_is_added(asked: Scenario) -> None:
    """Where it moves by much between two batches, it moves by less and less between nearer ones."""
    spec = decision(asked)
    points = [turned(spec, "batch", batch) for batch in geometric(1.0, 600.0, 1.01)]
    for here, there in pairwise(points):
        low, high = here, there
        while low.devices == high.devices and far(low, high) > 0.05:
            a, b = low.spec.workload.batch, high.spec.workload.batch
            assert b - a > 1e-4, (a, judged(low), judged(high))
            middle = turned(spec, "batch", (a + b) / 2)
            low, high = (low, middle) if far(low, middle) >= far(middle, high) else (middle, high)


def far(one: Case, other: Case) -> float:
    return abs(judged(one).margin - judged(other).margin)


@pytest.mark.parametrize("asked", ASKED, ids=name)
def test_who_may_have_another_device_does_not_lose_by_being_full(asked: Scenario) -> None:
    """Full memory on its own devices is no limit: one batch on, it has a device more."""
    spec = decision(asked)
    free = spec.workload.model_copy(update={"latency_ms": None, "ttft_ms": None})
    spec = spec.model_copy(update={"workload": free})
    for batch in range(1, 300):
        found = turned(spec, "batch", batch)
        if not any(misses(one) for one in found.both):
            assert judged(found).margin == pytest.approx(judged(found).support)


@given(specs(), st.floats(0.05, 40.0), st.floats(1.0, 8.0))
@slowly
def test_more_traffic_never_takes_fewer_devices(asked: DecideSpec, rate: float, more: float) -> None:
    spec = asked.model_copy(update={"devices": None})
    few, many = (turned(spec, "traffic", value) for value in (rate, rate * more))
    for one, other in zip(few.both, many.both, strict=True):
        assume(one.fleet is not None)
        assert other.fleet is not None
        assert one.fleet is not None
        assert other.fleet >= one.fleet
        assert other.devices >= one.devices
        assert one.carried >= rate * (1 - 1e-6)


@pytest.mark.parametrize("asked", ASKED, ids=name)
def test_a_larger_batch_never_takes_fewer_devices(asked: Scenario) -> None:
    spec = decision(asked)
    found = [turned(spec, "batch", batch).both for batch in geometric(1.0, 1024.0, 1.3)]
    for smaller, larger in pairwise(found):
        for one, other in zip(smaller, larger, strict=True):
            assert other.devices >= one.devices


@given(specs(), st.integers(1, 40))
@slowly
def test_one_device_more_takes_nothing_away(asked: DecideSpec, many: int) -> None:
    """On N devices is on at most N: what fitted still fits, and nothing that is served gets less."""
    few, more = (case(asked.model_copy(update={"devices": n, "parallel": None})) for n in (many, many + 1))
    for one, other in zip(few.both, more.both, strict=True):
        assert other.carried >= one.carried * (1 - 1e-9)
        if not one.fits:
            continue
        assert other.fits
        if asked.workload.traffic is None and one.gate == 1:
            assert other.batch / other.step.seconds >= one.batch / one.step.seconds * (1 - 1e-9)
            assert other.first.seconds <= one.first.seconds * (1 + 1e-9)
