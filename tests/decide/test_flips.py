"""Flips really flip, on both sides, within one per cent; the curve and the tornado tell the same story."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings

from moe_core.decide import knobs
from moe_core.decide.counter import counters
from moe_core.decide.flips import Flip, curve, flips
from moe_core.decide.sensitivity import swings
from moe_core.decide.spec import DecideSpec
from moe_core.decide.verdict import decide, judge
from moe_core.errors import InfeasibleError
from tests.decide.strategies import specs

slowly = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
PAIR = {"preset": "chat", "mixture": "Qwen3-30B-A3B", "dense": "Qwen3-14B", "budget": 2.0}
CLOSE = DecideSpec.of(PAIR | {"devices": 1})


def check(asked: DecideSpec, flip: Flip) -> None:
    """Both ends are judged afresh, by the value a user would type."""
    for value, expected in ((flip.low, flip.below), (flip.high, flip.above)):
        turned = knobs.turned(asked, flip.knob.id, int(value) if flip.knob.whole else value)
        assert judge(knobs.exact(turned)).winner == expected
    assert flip.below != flip.above
    assert flip.high - flip.low == 1 if flip.knob.whole else flip.high / flip.low <= 1.01


@given(specs())
@slowly
def test_every_flip_flips_when_it_is_applied(asked: DecideSpec) -> None:
    try:
        found = decide(asked)
    except InfeasibleError:
        assume(False)
    for flip in flips(found, ("batch", "memory", "latency", "budget")):
        check(asked, flip)


def test_every_knob_of_a_close_case() -> None:
    turns = flips(decide(CLOSE))
    assert {flip.knob.id for flip in turns} >= {"batch", "memory", "latency"}
    for flip in turns:
        check(CLOSE, flip)
    assert list(turns) == sorted(turns, key=lambda flip: flip.distance)


def test_a_flip_says_what_lies_beyond_it() -> None:
    for flip in flips(decide(CLOSE), ("memory",)):
        side = "above" if flip.now <= flip.low else "below"
        beyond = flip.above if side == "above" else flip.below
        assert flip.sentence.startswith(f"{beyond or 'neither will do'} {side} ")
        assert flip.sentence.endswith("GB a device")


def test_the_curve_changes_sides_where_the_flip_is() -> None:
    found = decide(CLOSE)
    (flip,) = (one for one in flips(found, ("batch",)) if one.below and one.above)
    for point in curve(found, "batch"):
        if point.winner is not None and point.value <= flip.high:
            assert point.winner == (flip.below if point.value <= flip.low else flip.above)


def test_the_span_of_a_knob_keeps_prompt_and_answer_inside_the_context() -> None:
    for name in ("context", "output"):
        knob = next(one for one in knobs.in_play(CLOSE) if one.id == name)
        for value in knobs.span(CLOSE, knob):
            knobs.exact(knobs.turned(CLOSE, name, value))  # raises if it cannot be


def test_a_price_is_in_play_with_a_budget_only() -> None:
    assert "price" in {knob.id for knob in knobs.in_play(CLOSE)}
    assert "price" not in {knob.id for knob in knobs.in_play(CLOSE.model_copy(update={"budget": None}))}


def test_the_tornado_is_sorted_and_holds_weights_inputs_and_errors() -> None:
    found = decide(CLOSE)
    rows = swings(found)
    assert [row.width for row in rows] == sorted((row.width for row in rows), reverse=True)
    assert {row.turned for row in rows} == {"weight", "input", "error"}
    (error,) = (row for row in rows if row.turned == "error")
    assert (error.low, error.high) == (found.low, found.high)
    memory = next(row for row in rows if row.name == "memory of a device")
    assert memory.flips  # at 40 GB neither fits, at 160 the mixture wins


def test_a_weight_of_nothing_takes_the_factor_out() -> None:
    found = decide(CLOSE)
    row = next(row for row in swings(found) if row.name == "weight of cost")
    weights = {**CLOSE.weights, "budget": 0.0}
    assert row.low == judge(CLOSE.model_copy(update={"weights": weights})).margin


@pytest.mark.parametrize(("capacity", "words"), [(80.0, "Active compute"), (400.0, "Reuse fragmentation")])
def test_the_other_side_is_always_heard(capacity: float, words: str) -> None:
    found = decide(CLOSE.model_copy(update={"capacity_gb": capacity}))
    said = counters(found)
    assert any(one.sentence.startswith(words) for one in said)
    assert all(any(letter.isdigit() for letter in one.sentence) for one in said)
    side = 1 if found.winner == "mixture" else -1
    assert [one.margin for one in said] == sorted((one.margin for one in said), key=lambda m: side * m)


def test_a_dense_model_of_equal_active_size_is_told_what_it_lacks() -> None:
    asked = DecideSpec.of({"preset": "chat", "mixture": "Qwen3-30B-A3B", "rule": "active"})
    found = decide(asked)
    assert found.winner == "dense"
    (capacity,) = (one for one in counters(found) if one.title == "Capacity")
    assert "9.11 times as many parameters" in capacity.sentence
