"""The verdict: one answer, mirrored when the pair is, continuous, and a refusal with numbers."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_core.decide.case import Recorded, case
from moe_core.decide.pair import pair
from moe_core.decide.spec import DecideSpec
from moe_core.decide.verdict import decide, judge, judged
from moe_core.errors import InfeasibleError
from tests.decide.strategies import specs

slowly = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
CHAT = {"preset": "chat", "mixture": "Qwen3-30B-A3B", "dense": "Qwen3-14B"}


def spec(**changes: object) -> DecideSpec:
    return DecideSpec.of({**CHAT, **changes})


def test_a_preset_and_two_names_are_enough() -> None:
    found = decide(spec())
    assert found.winner in ("mixture", "dense")
    assert -1 <= found.low <= found.margin <= found.high <= 1
    assert found.name in ("Qwen3-30B-A3B", "Qwen3-14B")
    assert re.search(r"\d", found.reason)
    assert {factor.id for factor in found.factors if factor.weight} >= {"memory", "latency", "budget"}


def test_the_factors_add_up_to_the_margin_where_both_fit_easily() -> None:
    found = decide(spec(capacity_gb=400.0))
    assert found.margin == pytest.approx(sum(factor.pull for factor in found.factors))
    assert found.margin == pytest.approx(found.support)


def test_the_only_one_that_fits_wins_whatever_the_weights_say() -> None:
    everything_else = {"latency": 10.0, "memory": 0.0, "throughput": 10.0}
    small = {"hardware": "RTX 4090", "devices": 1, "workload": {"batch": 1, "context": 2048}}
    found = decide(spec(mixture="Mixtral-8x7B", dense="Qwen3-8B", weights=everything_else, **small))
    assert (found.winner, found.margin) == ("dense", -1.0)
    assert found.state == "only"
    assert found.reason.startswith("Mixtral-8x7B needs")


def test_neither_fits_is_a_refusal_with_both_numbers() -> None:
    asked = spec(mixture="Mixtral-8x7B", dense="Llama-2-70B", hardware="RTX 4090", devices=1)
    with pytest.raises(
        InfeasibleError, match=r"Mixtral-8x7B needs .* GB of 24\.5 GB, \d+ devices.*Llama-2-70B"
    ):
        decide(asked)
    assert judge(asked).winner is None


def test_the_quality_of_a_small_test_model_is_no_argument() -> None:
    assert "quality" not in {factor.id for factor in decide(spec()).factors}
    assert decide(spec(), Recorded(None, "run x")).margin == decide(spec()).margin


def test_a_recorded_load_changes_the_step() -> None:
    skewed = Recorded(tuple(1 / (i + 1) for i in range(16)), "run x")
    even, uneven = (case(spec(), recorded).first.step.distinct for recorded in (None, skewed))
    assert even is not None
    assert uneven is not None
    assert uneven < even


def test_weights_are_the_users() -> None:
    others = ("memory", "throughput", "context", "scale", "latency")
    by_price = decide(spec(weights=dict.fromkeys(others, 0.0)))
    playing = [factor.id for factor in by_price.factors if factor.weight]
    assert playing == ["budget"]
    assert by_price.margin == pytest.approx(by_price.factors[5].score)


@given(specs())
@slowly
def test_swapping_the_candidates_mirrors_the_verdict(asked: DecideSpec) -> None:
    """Margins are told from the mixture's side: a mirrored support keeps winner and margin."""
    chosen = pair(asked)
    one, other = case(asked, of=chosen), case(asked, of=chosen.swapped())
    assert judged(one).winner == judged(other).winner
    assert judged(one).margin == pytest.approx(judged(other).margin, abs=1e-12)
    assert one.first.candidate == other.second.candidate
    assert one.first.gate == other.second.gate


@given(specs(), st.floats(1.0, 8.0))
@slowly
def test_more_memory_never_makes_a_feasible_choice_infeasible(asked: DecideSpec, more: float) -> None:
    assert asked.capacity_gb is not None
    larger = asked.model_copy(update={"capacity_gb": asked.capacity_gb * more})
    before, after = case(asked), case(larger)
    for small, big in ((before.first, after.first), (before.second, after.second)):
        assert big.gate >= small.gate or asked.devices is None or asked.workload.traffic is not None
        assert big.fits or not small.fits
    if judged(before).winner is not None:
        assert judged(after).winner is not None


@given(specs(), st.sampled_from(("capacity_gb", "batch", "budget", "latency_ms", "weight")), st.floats(-1, 1))
@slowly
def test_the_margin_is_continuous(asked: DecideSpec, name: str, way: float) -> None:
    """A step of a hundred-thousandth moves the margin by little, through the last of the memory too."""
    tiny = 1 + 1e-5 * way
    work = asked.workload
    if name == "weight":
        heavier = {**asked.importance, "memory": asked.importance["memory"] * tiny}
        near = asked.model_copy(update={"weights": heavier})
    elif name in ("batch", "latency_ms"):
        value = getattr(work, name)
        near = asked.model_copy(
            update={"workload": work.model_copy(update={name: value and max(value * tiny, 1.0)})}
        )
    else:
        value = getattr(asked, name)
        near = asked.model_copy(update={name: value and value * tiny})
    if asked.devices is None and case(asked).devices != case(near).devices:
        return  # a device is added
    here, there = judge(asked), judge(near)
    if here.winner is None or there.winner is None:
        assert max(abs(here.margin), abs(there.margin)) < 0.01  # the answer fades out before it is refused
    else:
        assert here.margin == pytest.approx(there.margin, abs=0.01)
