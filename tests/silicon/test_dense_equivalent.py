"""The dense-equivalent curve on measured devices."""

from __future__ import annotations

from functools import cache

import pytest

from moe_core import hardware, registry
from moe_core.errors import ConfigError
from moe_core.perf.dense_equivalent import widest
from moe_core.perf.device_model import Mixture
from moe_core.silicon import dense_equivalent as curve
from moe_core.silicon import tables
from moe_core.silicon.dense_equivalent import Series
from moe_core.silicon.tables import Where

H100 = hardware.get("H100")
QWEN = Mixture(2048, 768, 128, 8)
MIXTRAL = Mixture(4096, 14336, 8, 2)
NOBODY = Mixture(2048, 640, 96, 6, shared_width=640)  # in no table
KNOWN = {"Qwen3-30B-A3B": QWEN, "Mixtral-8x7B": MIXTRAL}


@cache
def both(name: str) -> tuple[Series | None, Series]:
    layer = KNOWN[name]
    return curve.measured(H100, "bf16", layer), curve.predicted(H100, "bf16", layer)


def test_the_layers_here_are_the_published_ones() -> None:
    for name, layer in KNOWN.items():
        arch = registry.get(name).architecture
        assert arch is not None
        bank = arch.experts
        assert bank is not None
        assert (arch.hidden, bank.width, bank.count, bank.top_k) == layer[:4]


@pytest.mark.parametrize("tokens", [1, 64, 4096])
def test_a_dense_network_is_the_sum_of_its_products(tokens: int) -> None:
    """At a width that both tables hold, nothing is interpolated."""
    found = curve.dense(H100, "bf16", QWEN, tokens)
    assert found.held
    where, at = Where("h100_sxm", "vllm", "bf16"), found.widths.index(4096.0)
    up, down = tables.gemm(where, tokens, 8192, 2048), tables.gemm(where, tokens, 2048, 4096)
    assert up is not None
    assert down is not None
    between = found.seconds[at] - up - down
    assert 0 < between < 5e-6 + 6 * 4096 * tokens / H100.bandwidth * 1.01  # activation and its launch


@pytest.mark.parametrize("tokens", [1, 32, 1024, 16384])
def test_wider_is_slower(tokens: int) -> None:
    found = curve.dense(H100, "bf16", MIXTRAL, tokens)
    assert found.seconds[-1] > 4 * found.seconds[0]
    assert curve.width_seconds(found, 2 * found.widths[-1]) == pytest.approx(2 * found.seconds[-1])
    assert curve.width_seconds(found, 1.0) == found.seconds[0]


@pytest.mark.parametrize("name", KNOWN)
def test_a_mixture_costs_its_total_in_the_middle_and_less_at_both_ends(name: str) -> None:
    """The claim that it costs its active size is wrong where batches are of middle size."""
    measured, _ = both(name)
    assert measured is not None
    assert measured.source == "measured elsewhere"
    top, total = widest(measured.points), KNOWN[name].total_width
    assert 8 <= top.tokens <= 512
    assert 0.75 < top.width / total < 1.3
    assert measured.points[0].width < 0.3 * total
    assert measured.points[-1].width < 0.4 * total


@pytest.mark.parametrize("name", KNOWN)
def test_predicted_without_the_architecture_comes_near_the_measured(name: str) -> None:
    measured, predicted = both(name)
    assert measured is not None
    assert "never saw" in predicted.note
    off = [abs(p.width / m.width - 1) for p, m in zip(predicted.points, measured.points, strict=True)]
    assert sum(off) / len(off) < 0.2
    assert all(p.low <= p.width <= p.high for p in predicted.points)


def test_what_no_table_holds_is_predicted_only() -> None:
    assert curve.measured(H100, "bf16", NOBODY) is None
    found = curve.predicted(H100, "bf16", NOBODY, tokens=(1, 64, 4096))
    assert found.source == "modelled"
    assert "fitted" in found.note
    active = [point.width / NOBODY.active_width for point in found.points]
    assert active[1] > active[0] > 0.9


def test_shared_experts_are_paid_for() -> None:
    plain = curve.predicted(H100, "bf16", NOBODY._replace(shared_width=0), tokens=(64,)).points[0]
    shared = curve.predicted(H100, "bf16", NOBODY, tokens=(64,)).points[0]
    assert shared.seconds > plain.seconds
    assert shared.width > plain.width


def test_a_recorded_load_is_between_one_expert_set_and_all() -> None:
    """Everybody visits the same eight experts: at 64 tokens far below an even load."""
    hot = (1.0,) * 8 + (1e-6,) * 120
    uneven = curve.predicted(H100, "bf16", QWEN, hot, tokens=(64,)).points[0]
    even = curve.predicted(H100, "bf16", QWEN, None, tokens=(64,)).points[0]
    assert uneven.seconds < 0.6 * even.seconds


def test_a_device_without_tables_is_modelled() -> None:
    device = hardware.get("MI300X")
    assert curve.measured(device, "bf16", QWEN) is None
    found = curve.predicted(device, "bf16", QWEN, tokens=(1, 64))
    assert found.source == "modelled"
    assert all(point.low < point.width < point.high for point in found.points)


def test_a_hidden_size_between_the_measured_ones_is_interpolated() -> None:
    between = curve.dense(H100, "bf16", QWEN._replace(hidden=2880), 64)
    assert not between.held
    low, high = (curve.dense(H100, "bf16", QWEN._replace(hidden=h), 64) for h in (2560, 3072))
    for width in (1024.0, 8192.0):
        ends = curve.width_seconds(low, width), curve.width_seconds(high, width)
        assert min(ends) * 0.999 <= curve.width_seconds(between, width) <= max(ends) * 1.001


def test_a_format_that_nobody_multiplied_is_refused() -> None:
    with pytest.raises(ConfigError, match="dtype"):
        curve.predicted(H100, "fp7", QWEN, tokens=(1,))
