"""Dense-equivalent width: an inverse, monotone, robust to noise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.perf.dense_width import dense_equivalent

positive = st.floats(1e-6, 1e3)
curves = st.lists(
    st.tuples(st.integers(1, 10**6), positive), min_size=1, max_size=8, unique_by=lambda p: p[0]
)


@given(st.floats(1.0, 1e5), st.floats(0.0, 1e-2), st.floats(1e-9, 1e-5))
def test_it_inverts_a_line(width: float, start: float, slope: float):
    widths = [1.0, 10.0, 1e3, 1e5]
    found = dense_equivalent(start + slope * width, widths, [start + slope * w for w in widths])
    assert found.width == pytest.approx(width, rel=1e-6)
    assert not found.beyond


@given(curves, positive, positive)
def test_more_time_is_never_a_narrower_network(points: list[tuple[int, float]], one: float, other: float):
    widths, seconds = [w for w, _ in points], [s for _, s in points]
    low, high = sorted((one, other))
    few, many = (dense_equivalent(t, widths, seconds).width for t in (low, high))
    assert few <= many * (1 + 1e-9)


@given(curves, positive)
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
