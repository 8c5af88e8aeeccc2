"""Calibration: surfaces between measurements, and samples that become one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.perf.calibrate import Calibration, Probe, RateCurve, assemble, interpolate
from tests import synthetic_layers

SIZES, ROWS = (10.0, 100.0, 1000.0), (1.0, 8.0, 64.0, 512.0)


def law(size: float, rows: float) -> float:
    """A start, a part by weights, one by rows, one by both."""
    return 3.0 + 0.02 * size + 0.01 * rows + 0.005 * size * rows


SURFACE = tuple(RateCurve(size=s, rows=ROWS, seconds=tuple(law(s, r) for r in ROWS)) for s in SIZES)


@given(st.floats(10, 1000), st.floats(1, 4096))
def test_a_sum_of_the_four_parts_is_exact_between_and_beyond_the_rows(size: float, rows: float):
    assert interpolate(SURFACE, size, rows) == pytest.approx(law(size, rows))


@given(st.floats(0.1, 10), st.floats(0.5, 1e4), st.floats(0.5, 1e4))
def test_more_rows_never_take_less_time(share: float, one: float, other: float):
    low, high = sorted((one, other))
    assert interpolate(SURFACE, 100 * share, low) <= interpolate(SURFACE, 100 * share, high) * (1 + 1e-9)


def test_beyond_the_largest_weights_time_is_in_proportion():
    assert interpolate(SURFACE, 4000.0, 8.0) == pytest.approx(4 * law(1000.0, 8.0))


def test_a_falling_end_is_not_drawn_on_downwards():
    noisy = RateCurve(size=1.0, rows=(1.0, 2.0), seconds=(5.0, 4.0))
    assert noisy.at(100.0) == 4.0


def samples(dtype: str = "bf16") -> dict[Probe, list[float]]:
    """Probes of the synthetic device, with a slow outlier each."""
    found = {
        Probe("launch"): 2e-6,
        Probe("read", rows=2**18): 2e-6 + 2**18 / 1e11,
        Probe("read", rows=2**30): 2**30 / 2e10,
    }
    s = synthetic_layers
    tiny = Probe("each", dtype, 16, 64, 32, 64, 4)
    found[Probe("layer", dtype, 1, 64, 32, 64, 1)] = s.LAYER_S + s.EXPERT_S
    found[tiny] = s.LAYER_S + 64 * s.EXPERT_S
    found[Probe("pairs", dtype, 4096, 1024, 16, 8, 2)] = s.LAYER_S + 8 * s.EXPERT_S + s.MOVE_S * 8192 * 1024
    for hidden, width in ((960, 1344), (1408, 17920)):
        for rows in (1, 64, 1024):
            found[Probe("ffn", dtype, rows, hidden, width)] = s.dense_s(hidden, width, rows)
    for rows in (1, 64, 4096):
        found[Probe("router", dtype, rows, 512, 0, 16)] = 3e-5 + 1e-6 * rows
        bank = Probe("experts", dtype, rows, 768, 256, 64, 4)
        found[bank] = s.mixture_s(768, 256, 64, 4, rows)
    return {probe: [seconds, seconds, 9 * seconds] for probe, seconds in found.items()}


def test_overheads_come_out_of_their_probes():
    rates = assemble(samples(), {"bf16": 2}, {"bf16": 0.0}).rates["bf16"]
    assert rates.layer_s == pytest.approx(synthetic_layers.LAYER_S)
    assert rates.experts[0].seconds == (pytest.approx(synthetic_layers.EXPERT_S),)
    assert rates.pair_s == pytest.approx(synthetic_layers.MOVE_S)
    hit, size = 4, 3 * 768 * 256
    first = rates.experts[1]
    assert first.rows[0] == pytest.approx(4 / 64)
    assert first.seconds[0] == pytest.approx(synthetic_layers.expert_s(size, 4 / hit))


def test_the_roof_is_the_best_that_was_seen():
    rates = assemble(samples(), {"bf16": 2}, {"bf16": 0.0}).rates["bf16"]
    for probe, (seconds, *_) in samples().items():
        if probe.kind in ("ffn", "experts"):
            assert rates.peak_flops >= probe.flops / seconds * (1 - 1e-9)


def test_memory_is_faster_in_a_cache_and_never_outside_what_was_read():
    known = synthetic_layers.calibration()
    assert known.bandwidth() == known.bandwidth(2.0**40) == 2e10
    assert known.bandwidth(1.0) == 1e11
    assert 2e10 < known.bandwidth(2.0**29) < 1e11


def test_json_there_and_back():
    known = synthetic_layers.calibration()
    assert Calibration.parse_json(json.dumps(known.model_dump(mode="json"))) == known
