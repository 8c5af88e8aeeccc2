"""The dense-equivalent curve: inversion, references, crossings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.perf import dense_curve
from moe_core.perf.dense_curve import Point
from moe_core.perf.device_model import Mixture

WIDTHS = (100.0, 200.0, 400.0, 800.0)
LAYER = Mixture(hidden=2048, width=768, experts=128, top_k=8, shared_width=256)


def curve(*widths: float) -> list[Point]:
    """Points at 1, 2, 4 ... tokens."""
    return [Point(2**i, 1.0, width, width, width, False) for i, width in enumerate(widths)]


@given(st.floats(0.2, 10.0))
def test_a_width_that_was_timed_comes_back(seconds: float) -> None:
    """Dense times in proportion to the width: the inverse is exact inside and drawn on outside."""
    found = dense_curve.point(4, seconds, WIDTHS, [w / 100 for w in WIDTHS], (0.9 * seconds, 1.1 * seconds))
    assert found.width == pytest.approx(100 * seconds)
    assert found.low == pytest.approx(90 * seconds)
    assert found.high == pytest.approx(110 * seconds)
    assert found.beyond == (not 1 <= seconds <= 8)


def test_references_of_a_mixture() -> None:
    found = dense_curve.references(LAYER)
    active, total = 8 * 768 + 256, 128 * 768 + 256
    assert (found["active"], found["half the total"], found["total"]) == (active, total / 2, total)
    assert found["sqrt(active × total)"] == pytest.approx((active * total) ** 0.5)
    assert found["Epoch's rule"] == pytest.approx(total / (128**0.44 / 8**0.63))


def test_one_expert_that_everybody_visits_is_a_dense_network() -> None:
    found = dense_curve.references(Mixture(1024, 4096, 1, 1))
    assert set(found.values()) == {4096.0, 2048.0}


def test_between_points_widths_are_read_in_logarithms() -> None:
    known = curve(100, 400)
    assert dense_curve.at(known, 2**0.5) == pytest.approx(200)
    assert dense_curve.at(known, 1) == pytest.approx(100)
    assert dense_curve.at(known, 3) is None
    assert dense_curve.at([], 1) is None


def test_how_long_it_costs_its_active_width() -> None:
    assert dense_curve.active_until(curve(100, 110, 300, 100), 100) == 2
    assert dense_curve.active_until(curve(180, 300), 100) is None
    assert dense_curve.active_until(curve(100, 101), 100) == 2


def test_the_dearest_point() -> None:
    assert dense_curve.widest(curve(100, 400, 200)).tokens == 2
