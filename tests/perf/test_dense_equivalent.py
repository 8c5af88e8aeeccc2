"""The dense-equivalent curve: inversion, references, crossings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.perf import dense_equivalent as curves
from moe_core.perf.dense_equivalent import CurvePoint, dense_equivalent
from moe_core.perf.device_model import Mixture

WIDTHS = (100.0, 200.0, 400.0, 800.0)
LAYER = Mixture(hidden=2048, width=768, experts=128, top_k=8, shared_width=256)


def curve(*widths: float) -> list[CurvePoint]:
    """Points at 1, 2, 4 ... tokens."""
    return [CurvePoint(2**i, 1.0, width, width, width, False) for i, width in enumerate(widths)]


@given(st.floats(0.2, 10.0))
def test_a_width_that_was_timed_comes_back(seconds: float) -> None:
    """Dense times in proportion to the width: the inverse is exact inside and drawn on outside."""
    found = curves.point(4, seconds, WIDTHS, [w / 100 for w in WIDTHS], (0.9 * seconds, 1.1 * seconds))
    assert found.width == pytest.approx(100 * seconds)
    assert found.low == pytest.approx(90 * seconds)
    assert found.high == pytest.approx(110 * seconds)
    assert found.beyond == (not 1 <= seconds <= 8)


def test_references_of_a_mixture() -> None:
    found = curves.references(LAYER)
    active, total = 8 * 768 + 256, 128 * 768 + 256
    assert (found["active"], found["half the total"], found["total"]) == (active, total / 2, total)
    assert found["sqrt(active × total)"] == pytest.approx((active * total) ** 0.5)
    assert found["Epoch's rule"] == pytest.approx(total / (128**0.44 / 8**0.63))


def test_one_expert_that_everybody_visits_is_a_dense_network() -> None:
    found = curves.references(Mixture(1024, 4096, 1, 1))
    assert set(found.values()) == {4096.0, 2048.0}


def test_between_points_widths_are_read_in_logarithms() -> None:
    known = curve(100, 400)
    assert curves.at(known, 2**0.5) == pytest.approx(200)
    assert curves.at(known, 1) == pytest.approx(100)
    assert curves.at(known, 3) is None
    assert curves.at([], 1) is None


def test_how_long_it_costs_its_active_width() -> None:
    assert curves.active_until(curve(100, 110, 300, 100), 100) == 2
    assert curves.active_until(curve(180, 300), 100) is None
    assert curves.active_until(curve(100, 101), 100) == 2


def test_the_dearest_point() -> None:
    assert curves.widest(curve(100, 400, 200)).tokens == 2


# -- one width ------------------------------------------------------------------------------------

positive = st.floats(1e-6, 1e3)
timed_widths = st.lists(
    st.tuples(st.integers(1, 10**6), positive), min_size=1, max_size=8, unique_by=lambda p: p[0]
)


@given(st.floats(1.0, 1e5), st.floats(0.0, 1e-2), st.floats(1e-9, 1e-5))
def test_it_inverts_a_line(width: float, start: float, slope: float):
    widths = [1.0, 10.0, 1e3, 1e5]
    found = dense_equivalent(start + slope * width, widths, [start + slope * w for w in widths])
    assert found.width == pytest.approx(width, rel=1e-6)
    assert not found.beyond


@given(timed_widths, positive, positive)
def test_more_time_is_never_a_narrower_network(points: list[tuple[int, float]], one: float, other: float):
    widths, seconds = [w for w, _ in points], [s for _, s in points]
    low, high = sorted((one, other))
    few, many = (dense_equivalent(t, widths, seconds).width for t in (low, high))
    assert few <= many * (1 + 1e-9)


@given(timed_widths, positive)
def test_order_does_not_matter_and_inside_means_inside(points: list[tuple[int, float]], taken: float):
    found = dense_equivalent(taken, [w for w, _ in points], [s for _, s in points])
    again = dense_equivalent(taken, [w for w, _ in points][::-1], [s for _, s in points][::-1])
    assert found == again
    if not found.beyond:
        assert min(points)[0] * (1 - 1e-9) <= found.width <= max(points)[0] * (1 + 1e-9)


def test_beyond_the_ends_it_is_in_proportion_and_says_so():
    assert dense_equivalent(8.0, [10, 20], [2.0, 4.0]) == (40.0, True)
    assert dense_equivalent(1.0, [10, 20], [2.0, 4.0]) == (5.0, True)


def test_a_wider_network_that_looks_faster_is_ironed_out():
    found = dense_equivalent(3.0, [10, 20, 30], [2.9, 2.7, 4.0])
    assert 20 < found.width < 30


@pytest.mark.parametrize(
    ("taken", "widths", "seconds"),
    [(1.0, [], []), (1.0, [1], [1.0, 2.0]), (0.0, [1], [1.0]), (1.0, [0], [1.0])],
)
def test_nonsense_is_refused(taken: float, widths: list[float], seconds: list[float]):
    with pytest.raises(ConfigError, match="must be"):
        dense_equivalent(taken, widths, seconds)
