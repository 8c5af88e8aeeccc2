"""What tokens cost, where two models meet, what talking takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.perf import economics


def test_a_million_tokens() -> None:
    """Two devices at 3.60 dollars an hour, 1,000 tokens a second: a million takes 1,000 s of both."""
    assert economics.per_million(3.6, 2, 1000.0) == pytest.approx(2.0)


def test_a_request_pays_for_its_share_of_the_batch() -> None:
    assert economics.request(3600, 1, 4, prefill=2.0, decode=0.5, written=4) == pytest.approx(1.0)


@pytest.mark.parametrize("values", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1)])
def test_what_is_not_above_zero_is_named(values: tuple[float, int, float]) -> None:
    with pytest.raises(ConfigError, match=r"\(-?[0-9]+\): must be above zero"):
        economics.per_million(*values)


@given(st.floats(1, 1e6), st.floats(1, 1e5))
def test_whole_copies_meet_a_demand(demand: float, capacity: float) -> None:
    found = economics.serve(demand, capacity, 2.0, 8)
    assert found.copies >= 1
    assert 0 < found.utilisation <= 1 + 1e-9
    assert (found.copies - 1) * capacity <= demand * (1 + 1e-9)
    full = economics.per_million(2.0, 8, capacity)
    assert found.per_million == pytest.approx(full / found.utilisation)


@given(st.integers(2, 1000))
def test_a_crossing_is_the_first_batch_on_the_new_side(where: int) -> None:
    points = [2**i for i in range(11)]
    assert economics.crossings(lambda batch: batch - where + 0.5, points) == [where]


def test_a_steep_step_is_bisected_exactly_and_two_are_both_found() -> None:
    assert economics.crossings(lambda b: -1.0 if 10 <= b < 100 else 1.0, [1, 8, 64, 512]) == [10, 100]
    assert economics.crossings(lambda b: 1.0, [1, 2, 4]) == []
    assert economics.crossings(lambda b: 4.0 - b, [1, 2, 4, 8]) == [
        4
    ]  # equal there, beyond it the other side


def test_the_typical_load_is_by_rank_not_by_expert() -> None:
    """Two layers with different favourites have the load curve of either."""
    assert economics.ranked([[3, 1, 0], [0, 4, 12]]) == pytest.approx((0.75, 0.25, 0.0))


@pytest.mark.parametrize("loads", [[], [[1, 2], [1]], [[0, 0]]])
def test_a_load_must_hold_something(loads: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match="loads"):
        economics.ranked(loads)


def test_share_of_the_network() -> None:
    assert economics.network_share(3.0, (1.0, 3.0)) == pytest.approx((0.25, 0.5))
    assert economics.network_share(3.0, (1.0, 3.0), overlap=1.0) == (0.0, 0.0)
    with pytest.raises(ConfigError, match="overlap"):
        economics.network_share(1.0, (1.0, 1.0), overlap=2.0)
