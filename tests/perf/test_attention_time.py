"""Attention: latent and grouped shapes, windows, and the roof of the cache that decode must read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.perf.attention_time import Heads, decode, prefill
from moe_core.perf.gemm import DataSheet, GemmConstants

H100 = DataSheet(peak=989.5e12, bandwidth=3.35e12)
CONSTANTS = GemmConstants(launch=1e-5, depth=1e-12, bandwidth=0.8, compute=0.6, blend=1.5)
GROUPED = Heads(32, 8, 128, 128)
LATENT = Heads(128, 1, 576, 512, True)


@given(batch=st.integers(1, 512), past=st.integers(1, 131_072))
def test_decode_never_beats_reading_the_cache(batch, past):
    least = batch * past * 8 * 256 * 2 / H100.bandwidth
    assert decode(batch, past, GROUPED, 2.0, H100, CONSTANTS) > least


@given(batch=st.integers(1, 64), new=st.integers(2, 32_768))
def test_prefill_never_beats_multiplying_the_visible_pairs(batch, new):
    flops = 2 * batch * 32 * new * (new + 1) / 2 * 256
    assert prefill(batch, new, GROUPED, H100, CONSTANTS) > flops / H100.peak


def test_a_latent_cache_is_read_once_as_key_and_value():
    assert LATENT.kept == 576
    assert GROUPED.kept == 256


def test_fewer_heads_in_the_cache_make_a_long_decode_cheaper():
    many, few = (decode(32, 32_768, Heads(32, n, 128, 128), 2.0, H100, CONSTANTS) for n in (32, 4))
    assert many / few == pytest.approx(8, rel=0.2)


@given(new=st.integers(128, 16_384), window=st.integers(128, 4096))
def test_a_window_never_costs_more_than_none(new, window):
    whole = prefill(1, new, GROUPED, H100, CONSTANTS)
    assert prefill(1, new, GROUPED, H100, CONSTANTS, window=window) <= whole * (1 + 1e-9)


def test_a_chunk_with_a_past_costs_what_the_longer_prompt_has_more():
    first, both = (prefill(1, n, GROUPED, H100, CONSTANTS) for n in (8192, 16_384))
    second = prefill(1, 8192, GROUPED, H100, CONSTANTS, past=8192)
    assert first + second == pytest.approx(both, rel=0.05)
