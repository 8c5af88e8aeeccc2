"""Statistics: intervals and equivalence against scipy and by hand."""

from __future__ import annotations

import pytest
from scipy import stats

from moe_core.labs.training.statistics import Finding, equivalent, over_seeds, paired

VALUES = [0.3, -0.1, 0.25, 0.4, 0.05]


def test_the_interval_is_students():
    found = over_seeds(VALUES, "nats")
    expected = stats.ttest_1samp(VALUES, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.value, found.seeds, found.unit) == (pytest.approx(0.18), 5, "nats")


def test_the_interval_by_hand():
    """Mean 2, deviation 1, three values: t is 4.3027, so half of it is 2.4841."""
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.low, found.high) == pytest.approx((-0.4841, 4.4841), abs=1e-4)


def test_one_seed_has_no_interval():
    assert over_seeds([0.5]) == Finding(0.5, None, None, 1, "")


def test_pairs_are_subtracted_seed_by_seed():
    found = paired([3.0, 5.0, 9.0], [2.0, 4.0, 8.0])
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    with pytest.raises(AssertionError):
        paired([1.0], [1.0, 2.0])


@pytest.mark.parametrize("margin", [0.05, 0.3, 1.0])
def test_equivalence_is_two_one_sided_tests(margin: float):
    above = stats.ttest_1samp(VALUES, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(VALUES, margin, alternative="less").pvalue
    assert equivalent(VALUES, margin) == pytest.approx(max(above, below))


def test_equivalence_needs_seeds_and_closeness():
    assert equivalent([0.0], 1.0) == 1.0
    assert equivalent([0.01, 0.01, 0.01], 0.02) == 0.0
    assert equivalent([0.03, 0.03, 0.03], 0.02) == 1.0
    assert equivalent([0.001, -0.001, 0.0], 0.02) < 0.05 < equivalent([0.03, -0.03, 0.0], 0.02)
