"""Look-ups: measured points come back, between them the curve is straight, outside there is no answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from moe_core.silicon import tables
from moe_core.silicon.tables import Curve, Where

H100 = Where("h100_sxm", "vllm", "bf16")
QWEN = {"hidden": 2048, "inter": 768, "experts": 128, "top_k": 8, "distribution": "balanced"}
HEADS = {"heads": 32, "kv_heads": 8, "head_dim": 128}


@pytest.mark.parametrize(
    ("tokens", "milliseconds"),
    [(1, 0.0491), (2, 0.0751), (8, 0.228), (64, 0.432), (1024, 0.529), (16384, 2.912)],
)
def test_measured_mixtures_come_back(tokens, milliseconds):
    assert tables.moe(H100, tokens, **QWEN) == pytest.approx(milliseconds / 1e3, rel=2e-3)


def test_between_two_points_the_logarithms_are_straight():
    low, high = tables.moe(H100, 1024, **QWEN), tables.moe(H100, 1536, **QWEN)
    assert low < tables.moe(H100, 1200, **QWEN) < high
    curve = Curve((0.0, 2.0), (0.0, 4.0))
    assert curve.at(2.718281828459045) == pytest.approx(2.718281828459045**2)


def test_outside_what_was_measured_there_is_no_answer():
    assert tables.moe(H100, 100_000, **QWEN) is None
    assert tables.moe(H100, 8, **{**QWEN, "inter": 769}) is None
    assert tables.gemm(H100, 8, 4097, 4096) is None
    assert tables.generation_attention(H100, 1, 1_000_000, **HEADS) is None
    assert tables.mla(Where("a100_sxm", "sglang", "bf16"), 1, 100, heads=16) is None
    assert tables.collective("h100_sxm", "all_reduce", 3, 1024) is None


def test_a_product_between_four_shapes_lies_between_them():
    corners = [tables.gemm(H100, 64, n, k) for n in (4096, 5120) for k in (4096, 5120)]
    assert min(corners) <= tables.gemm_between(H100, 64, 4500, 4700) <= max(corners)
    assert tables.gemm_between(H100, 64, 4096, 5120) == pytest.approx(tables.gemm(H100, 64, 4096, 5120))
    assert tables.gemm_between(H100, 64, 200_000, 4096) is None


def test_attention_grows_with_batch_and_context():
    times = [tables.generation_attention(H100, b, p, **HEADS) for b, p in ((8, 2000), (64, 2000), (64, 8000))]
    assert times == sorted(times)
    prompts = [tables.context_attention(H100, 1, n, **HEADS) for n in (1000, 4000, 12_000)]
    assert prompts == sorted(prompts)


def test_latent_attention_collectives_and_exchanges_are_there():
    sglang = Where("h200_sxm", "sglang", "bf16")
    assert 1e-5 < tables.mla(sglang, 16, 2048, heads=16) < 1e-4
    assert tables.mla(sglang, 1, 8192, heads=128, prefill=True) > 1e-3
    own = tables.collective("h100_sxm", "all_reduce", 8, 8192, library="vllm", mode="graph")
    assert own < tables.collective("h100_sxm", "all_reduce", 8, 8192)
    there, back = tables.deepep("h100_sxm", 128, hidden=7168, experts=256, top_k=8)
    assert (there, back) == (pytest.approx(36.7e-6, rel=0.1), pytest.approx(67e-6, rel=0.1))
    heads = {"key_heads": 16, "value_heads": 32, "key_dim": 128, "value_dim": 128}
    assert tables.linear_attention("h100_sxm", "vllm", 8, 1, **heads) < 5e-5


def test_threads_do_not_disturb_one_another():
    asked = [(tokens, experts) for tokens in (1, 8, 64, 512) for experts in (128, 256)] * 8
    shape = {key: value for key, value in QWEN.items() if key != "experts"}

    def ask(pair):
        return tables.moe(H100, pair[0], experts=pair[1], **shape)

    tables._curve.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, asked)) == [ask(pair) for pair in asked]
