"""What holds of every verdict: more memory never hurts, more traffic never takes less, and nothing jumps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

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
        if asked.workload.traffic is None:
            assert other.batch / other.step.seconds >= one.batch / one.step.seconds * (1 - 1e-9)
            assert other.first.seconds <= one.first.seconds * (1 + 1e-9)


FIGURES = ("mixture", "dense", "hardware", "precision", "capacity_gb", "few", "many")
CROWDED = (  # the last thousandth of memory, stages that send much, tables that waver between batches
    (
        "DBRX",
        "Llama-3.1-8B",
        "M4 Max 128GB",
        "stored",
        141.6953544343239,
        2,
        3,
        {"context": 2048, "batch": 8},
    ),
    ("GLM-5", "Llama-3.1-70B", "MI325X", "fp8", 37.23651898152708, 2, 3, {"context": 512, "batch": 1}),
    ("Grok-1", "Phi-4", "RTX 3090", "stored", 22.258382131628924, 2, 3, {"context": 8192, "batch": 7}),
    ("Qwen2-57B-A14B", "Llama-2-13B", "L40S", "bf16", None, 7, 10, {"context": 32768, "batch": 2}),
    ("gpt-oss-120b", "Llama-3.1-70B", "B300", "nvfp4", 70.59385320806437, 11, 12, {"batch": 8}),
    ("DBRX", "Qwen3-4B", "B200", "stored", None, 31, 32, {"context": 2048, "batch": 7}),
    ("Kimi-K2.5", "Qwen3.5-27B", "V100 32GB", "fp8", None, 38, 41, {"context": 32768, "latency_ms": 38.7}),
)


@pytest.mark.parametrize("found", CROWDED, ids=lambda found: f"{found[0]} and {found[1]}")
def test_more_devices_take_nothing_away_where_memory_is_full(found: tuple[Any, ...]) -> None:
    said = dict(zip(FIGURES, found[:-1], strict=True))
    counts = [said.pop(name) for name in ("few", "many")]
    spec = DecideSpec.of({**said, "workload": {"output": 16, **found[-1]}})
    few, more = (case(spec.model_copy(update={"devices": many})) for many in counts)
    for one, other in zip(few.both, more.both, strict=True):
        if one.fits:
            assert other.fits
            assert other.step.seconds <= one.step.seconds * (1 + 1e-9)
            assert other.first.seconds <= one.first.seconds * (1 + 1e-9)
            assert other.throughput * other.devices >= one.throughput * one.devices * (1 - 1e-9)


@pytest.mark.parametrize(
    ("mixture", "dense", "hardware", "work"),
    [
        ("Mixtral-8x22B", "Llama-2-7B", "L4", {"context": 8192, "batch": 100, "latency_ms": 20.0}),
        ("Llama-4-Maverick-17B-128E", "Gemma-3-27B", "DGX Spark", {"batch": 64, "latency_ms": 23.0}),
    ],
)
def test_a_target_takes_the_fewest_devices_any_whole_number(
    mixture: str, dense: str, hardware: str, work: dict[str, Any]
) -> None:
    spec = DecideSpec.of({"mixture": mixture, "dense": dense, "hardware": hardware, "workload": work})
    for at, one in enumerate(case(spec).both):
        if one.keeps_targets and one.devices > 1:
            less = case(spec.model_copy(update={"devices": one.devices - 1})).both[at]
            assert not (less.fits and less.keeps_targets)


@pytest.mark.parametrize(
    ("mixture", "dense", "hardware", "devices", "more"),
    [
        ("GLM-5.2", "Nemotron-4-15B", "DGX Spark", 15, 1.1536),
        ("Qwen2-57B-A14B", "Qwen3.5-27B", "MI355X", 15, 2.8654),
        ("Qwen3-235B-A22B", "Gemma-2-9B", "M4 Max 128GB", 64, 2.8065),
    ],
)
def test_with_more_memory_nothing_less_is_carried(
    mixture: str, dense: str, hardware: str, devices: int, more: float
) -> None:
    """A larger batch that would be slower in all need not be taken, nor a smaller instance."""
    said = {"mixture": mixture, "dense": dense, "hardware": hardware, "devices": devices}
    spec = DecideSpec.of({**said, "workload": {"context": 2048, "output": 128}})
    larger = spec.model_copy(update={"capacity_gb": spec.device.capacity / 1e9 * more})
    for one, other in zip(case(spec).both, case(larger).both, strict=True):
        assert other.carried >= one.carried * (1 - 1e-9)
