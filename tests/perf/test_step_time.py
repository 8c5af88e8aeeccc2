"""The kernels of a step are the sums of `perf.ops`, shape by shape, however it is split."""

from __future__ import annotations

from math import prod

import pytest

from moe_core import registry
from moe_core.perf.ops import Step, ops
from moe_core.perf.shard import Parallel
from moe_core.perf.step_time import (
    SPARSE,
    Attend,
    Bank,
    Exchange,
    Product,
    Reduce,
    State,
    block_products,
    small_kernels,
    works,
)

NAMES = [record.name for record in registry.records() if record.architecture is not None]
DECODE = Step(batch=4, new=1, past=1000)


def arch(name: str):
    return registry.get(name).architecture


def weights(found) -> float:
    """Elements of every product's weights."""
    products = ((work.kernel, work.times) for work in found)
    return sum(times * one.n * one.k for one, times in products if isinstance(one, Product))


@pytest.mark.parametrize("name", NAMES)
def test_products_read_the_weights_that_ops_count(name):
    """Latent attention decodes with the same matrices absorbed. Indexers are left out of `ops`."""
    found = [work for work in works(arch(name), DECODE) if work.name != "indexer"]
    expected = sum(op.weights for op in ops(arch(name), DECODE) if op.name not in ("experts", "shared gate"))
    assert weights(found) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("ways", [2, 4, 8])
def test_tensor_parallelism_splits_products_and_adds_two_reductions_a_layer(ways):
    model = arch("llama-3.1-70b")
    found = works(model, DECODE, parallel=Parallel(tensor=ways))
    assert weights(found) == pytest.approx(weights(works(model, DECODE)) / ways, rel=0.01)
    assert sum(work.times for work in found if isinstance(work.kernel, Reduce)) == 2 * model.layers


def test_expert_parallelism_exchanges_tokens_and_keeps_attention_whole():
    model, parallel = arch("deepseek-v3"), Parallel(expert=8)
    found = works(model, Step(batch=64, new=1, past=100), parallel=parallel)
    bank = next(work.kernel for work in found if isinstance(work.kernel, Bank))
    exchange = next(work.kernel for work in found if isinstance(work.kernel, Exchange))
    assert (bank.tokens, bank.ep, bank.tp) == (64, 8, 1)
    assert (exchange.tokens, exchange.ranks, exchange.decode) == (8, 8, True)
    attention = next(work.kernel for work in found if isinstance(work.kernel, Attend))
    assert (attention.batch, attention.heads.heads) == (8, 128)


def test_windows_states_and_indexers_have_their_own_kernels():
    windowed = [w for w in works(arch("gpt-oss-120b"), DECODE) if isinstance(w.kernel, Attend)]
    assert {(w.kernel.window, w.times) for w in windowed} == {(0, 18), (128, 18)}
    states = [w for w in works(arch("qwen3-next-80b-a3b"), DECODE) if isinstance(w.kernel, State)]
    assert sum(w.times for w in states) == 36
    long = Step(new=1, past=50_000)
    sparse = [w.kernel for w in works(arch("deepseek-v3.2"), long) if isinstance(w.kernel, Attend)]
    assert {kernel.past for kernel in sparse} == {SPARSE}


def test_a_prefill_computes_the_logits_of_the_last_position_only():
    head = works(arch("qwen3-8b"), Step(batch=3, new=500))[-1].kernel
    assert isinstance(head, Product)
    assert head.m == 3


def test_every_architecture_has_its_small_kernels_counted():
    assert small_kernels(arch("llama-3.1-8b")) == 4 * 32
    assert small_kernels(arch("qwen3-30b-a3b")) == (4 + 2 + 4) * 48
    for name in NAMES:
        assert small_kernels(arch(name)) >= 4 * arch(name).layers


def test_only_products_scaled_by_blocks_are_counted():
    from moe_core.perf.precision import Precision

    model = arch("llama-3.1-8b")
    assert block_products(works(model, DECODE)) == 0
    assert block_products(works(model, DECODE, Precision(default="fp8_block", head="bf16"))) == 4 * 32


def test_the_busiest_group_has_the_odd_sequence():
    found = works(arch("deepseek-v3"), Step(batch=9, new=1, past=10), parallel=Parallel(expert=8))
    assert next(work.kernel.batch for work in found if isinstance(work.kernel, Attend)) == 2
    assert prod((2, 8)) == next(work.kernel.tokens for work in found if isinstance(work.kernel, Bank))
