"""The verdict: its rule, at and around each limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.decide.scale import PAYS, SAVES, Memory, Span, Times, verdict

ROOM = Memory(need=50e9, capacity=80e9)


def exactly(prefill: float, decode: float, spread: float = 0.0) -> Times:
    """Times with a symmetric relative spread."""
    return Times(*(Span(x, x * (1 - spread), x * (1 + spread)) for x in (prefill, decode)))


def test_a_faster_mixture_of_equal_quality_that_fits_wins() -> None:
    found = verdict(exactly(1.0, 0.1), exactly(0.5, 0.05), (2.0, 2.0), ROOM, write=10)
    assert found.choice == "mixture"
    assert found.time.median == pytest.approx(0.5)
    assert found.decides == "quality"  # five per cent from its limit; time is much further
    assert found.passed == {"memory": True, "time": True, "quality": True}


def test_what_does_not_fit_loses_however_fast() -> None:
    found = verdict(exactly(1.0, 0.1), exactly(0.1, 0.01), (2.0, 2.0), Memory(96e9, 80e9), write=10)
    assert (found.choice, found.decides) == ("dense", "memory")
    assert found.margin == pytest.approx(-0.2)


def test_quality_decides_when_the_price_is_too_high() -> None:
    found = verdict(exactly(1.0, 0.1), exactly(0.5, 0.05), (2.0, 2.4), ROOM, write=10)
    assert (found.choice, found.decides) == ("dense", "quality")
    assert found.margin == pytest.approx(1 - 1.2 / (1 + PAYS))


def test_a_spread_over_the_limit_is_too_close_to_call() -> None:
    found = verdict(exactly(1.0, 0.1, 0.1), exactly(0.95, 0.095, 0.1), (2.0, 2.0), ROOM, write=10)
    assert (found.choice, found.decides) == ("close", "time")
    assert found.passed["time"] is None


def test_an_unclear_time_does_not_hide_a_quality_that_fails() -> None:
    found = verdict(exactly(1.0, 0.1, 0.1), exactly(0.95, 0.095, 0.1), (2.0, 3.0), ROOM, write=10)
    assert (found.choice, found.decides) == ("dense", "quality")


def test_the_flip_is_where_the_time_crosses_its_limit() -> None:
    dense, mixture = exactly(1.0, 0.10), exactly(2.0, 0.05)  # slow to read, quick to write
    at = verdict(dense, mixture, (2.0, 2.0), ROOM, write=1).flip_write
    assert at is not None
    before, after = (verdict(dense, mixture, (2.0, 2.0), ROOM, write=w) for w in (int(at), int(at) + 1))
    assert (before.choice, after.choice) == ("dense", "mixture")


def test_no_flip_when_the_mixture_is_quicker_at_both() -> None:
    assert verdict(exactly(1.0, 0.1), exactly(0.5, 0.05), (2.0, 2.0), ROOM, write=1).flip_write is None


seconds = st.floats(1e-4, 10.0)


@given(seconds, seconds, seconds, seconds, st.floats(0.5, 2.0), st.floats(0.1, 3.0), st.integers(1, 1024))
def test_the_rule_holds_everywhere(
    pd: float, dd: float, pm: float, dm: float, quality: float, load: float, write: int
) -> None:
    found = verdict(exactly(pd, dd), exactly(pm, dm), (2.0, 2.0 * quality), Memory(load, 1.0), write)
    wins = load <= 1 and (pm + write * dm) <= (1 - SAVES) * (pd + write * dd) and quality <= 1 + PAYS
    near = min(abs(found.time.median - (1 - SAVES)), abs(load - 1), abs(quality - 1 - PAYS)) < 1e-9
    assert near or found.choice == ("mixture" if wins else "dense")
    assert near or (found.margin >= 0) == wins
