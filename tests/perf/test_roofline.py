"""Roofline: the limit, the ridge, and what a mixture does to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.perf.roofline import Roof, ridge_tokens

positive = st.floats(1e3, 1e15)


@given(positive, positive, positive, positive)
def test_no_work_is_done_faster_than_the_roof(flops: float, speed: float, work: float, moved: float):
    roof = Roof(flops, speed)
    least = roof.seconds(work, moved)
    assert work / least <= roof.reachable(work / moved) * (1 + 1e-9)
    assert roof.bound(work, moved) == (
        "compute" if work / moved >= roof.ridge else "memory"
    ) or work / moved == (pytest.approx(roof.ridge))


def test_the_h100_needs_295_tokens_and_a_mixture_e_over_k_times_as_many():
    """H100 SXM, bf16 dense: 989 TFLOP/s, 3.35 TB/s (NVIDIA data sheet)."""
    roof = Roof(989e12, 3.35e12)
    assert ridge_tokens(roof, 2) == pytest.approx(295, abs=0.5)
    assert ridge_tokens(roof, 2, 8, 2) == pytest.approx(1181, abs=1)
