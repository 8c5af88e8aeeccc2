"""One matrix product: never below the roof, dearer with size, and the blend lies between sum and maximum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.perf.gemm import DataSheet, GemmConstants, blend, moved, padded, seconds

H100 = DataSheet(peak=989.5e12, bandwidth=3.35e12)
CONSTANTS = GemmConstants(launch=3e-6, depth=2e-10, bandwidth=0.9, compute=0.8, blend=2.5)
SIZES = st.integers(1, 65_536)


@given(m=SIZES, n=SIZES, k=SIZES)
def test_never_below_the_roof(m, n, k):
    least = max(2 * m * n * k / H100.peak, n * k * 2 / H100.bandwidth)
    assert seconds(m, n, k, 2.0, H100, CONSTANTS) >= least


@given(m=st.integers(1, 8192), n=SIZES, k=SIZES)
def test_more_rows_never_take_less_time(m, n, k):
    one, more = (seconds(rows, n, k, 2.0, H100, CONSTANTS) for rows in (m, 2 * m))
    assert more >= one * (1 - 1e-12)


@given(a=st.floats(1e-9, 1), b=st.floats(1e-9, 1), power=st.floats(1, 6))
def test_a_blend_lies_between_the_larger_and_the_sum(a, b, power):
    assert max(a, b) * (1 - 1e-9) <= blend(a, b, power) <= (a + b) * (1 + 1e-9)


def test_a_decode_product_is_its_weights_over_the_bandwidth():
    """Batch 1, 8192 x 8192 in 16 bits: 134 MB at 90 % of 3.35 TB/s is 44.5 us."""
    assert seconds(1, 8192, 8192, 2.0, H100, CONSTANTS) == pytest.approx(44.5e-6 + 3e-6 + 1.6e-6, rel=0.02)


def test_half_the_bytes_halve_what_is_moved():
    assert moved(1, 1000, 1000, 1.0) - 2 * 2000 == (moved(1, 1000, 1000, 2.0) - 2 * 2000) / 2


def test_padding_is_to_whole_tiles():
    assert [padded(size, 64) for size in (1, 64, 65)] == [64, 64, 128]
