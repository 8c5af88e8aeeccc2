"""The one walker: its FLOPs are torch's, its weights those of the closed form, its sums everybody's."""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moe_core import registry
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.perf.device_model import Mixture
from moe_core.perf.params import count
from moe_core.perf.shard import Parallel
from moe_core.perf.step_time import (
    SPARSE,
    Attend,
    Bank,
    Exchange,
    Op,
    Product,
    Reduce,
    StateUpdate,
    Step,
    block_products,
    ops,
    small_kernels,
    token_flops,
    token_state,
    visible,
)
from moe_core.specs import GQA, Architecture
from tests.perf import specs
from tests.perf.test_params import MIXTRAL, V3

NAMES = [record.name for record in registry.records() if record.architecture is not None]
DECODE = Step(batch=4, new=1, past=1000)


def arch(name: str):
    return registry.get(name).architecture


# -- FLOPs -----------------------------------------------------------------------------------------


def counted(arch: Architecture, batch: int, new: int, past: int = 0) -> int:
    """What torch counts for `new` tokens after `past` cached ones. Only the math kernel is countable."""
    model = Decoder(arch).eval()
    for module in model.modules():
        if isinstance(module, MoE):
            module.kernel = "loop"
    cache = model.new_cache(batch, past + new)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        if past:
            model(torch.zeros(batch, past, dtype=torch.long), cache)
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(batch, new, dtype=torch.long), cache)
    return int(counter.get_total_flops())


def as_torch_counts(op: Op, step: Step) -> int:
    """The decoder computes logits of every position, and the math kernel pairs that no query may see."""
    if op.name == "head":
        return op.flops * step.new
    if isinstance(op.kernel, Attend):
        seen = visible(step.new, step.past, op.kernel.window)
        return op.flops * step.new * (step.past + step.new) // seen
    return op.flops


@settings(max_examples=40, deadline=None)
@given(specs.architectures(), st.integers(1, 3), st.integers(1, 9), st.integers(0, 9))
def test_flops_are_those_that_torch_counts(arch: Architecture, batch: int, new: int, past: int) -> None:
    bank = arch.experts
    if bank is not None and bank.router.kind == "noisy":  # its noise is drawn in training only
        bank = None
    elif bank is not None:  # the gate of shared experts is one of the small kernels
        bank = bank.model_copy(update={"shared_gate": False})
    arch = arch.model_copy(update={"experts": bank})
    step = Step(batch=batch, new=new, past=past)
    assert sum(as_torch_counts(op, step) for op in ops(arch, step)) == counted(arch, batch, new, past)


@given(st.integers(1, 20), st.integers(0, 20), st.none() | st.integers(1, 30))
def test_visible_pairs_by_listing_them(new: int, past: int, window: int | None) -> None:
    seen = [min(past + i + 1, window or 10**9) for i in range(new)]
    assert visible(new, past, window or 0) == sum(seen)


@pytest.mark.parametrize("name", NAMES)
def test_a_token_without_a_past_costs_two_flops_a_visited_parameter(name):
    """Norms and biases are no products; what a linear attention multiplies with its state is no parameter."""
    model = arch(name)
    state = sum(op.flops for op in ops(model, Step()) if isinstance(op.kernel, StateUpdate))
    visited = count(model).active.excl_input_embedding
    assert token_flops(model, 0) == pytest.approx(2 * visited + state, rel=0.005)


def test_a_window_bounds_attention() -> None:
    windowed = MIXTRAL.model_copy(update={"attention": GQA(heads=32, kv_heads=8, head_dim=128, window=4096)})
    assert token_flops(windowed, 10**5) == token_flops(MIXTRAL, 4095)


@pytest.mark.parametrize(
    ("name", "published"), [("deepseek-v2", 155), ("deepseek-v3", 250), ("llama-3.1-405b", 2448)]
)
def test_published_flops_of_a_training_token(name, published):
    """Insights into DeepSeek-V3 (arXiv 2505.09343, table 2): GFLOP a token, sequences of 4,096.

    Three forward passes with the logits of every position; Llama, which is not theirs, within 1.1 %.
    """
    step = Step(new=4096)
    forward = sum(op.flops * (step.new if op.name == "head" else 1) for op in ops(arch(name), step))
    near = 0.011 if name.startswith("llama") else 0.0025
    assert 3 * forward / step.new / 1e9 == pytest.approx(published, rel=near)


def test_work_of_a_token_of_deepseek_v3_with_latent_attention_absorbed():
    """Once 93.7 GFLOP where latent attention was counted as written, 142.9 where it was absorbed."""
    assert token_flops(V3, 4096) == 142_858_076_160
    assert token_state(4096, V3) == "latent attention absorbed, at a context of 4,096"
    assert token_state(4096, MIXTRAL) == "at a context of 4,096"


def test_the_bank_multiplies_what_one_layer_counts_alone():
    """`device_model`, which times layers on this machine, and the walker ask for the same products."""
    bank = [op.flops for op in ops(V3, DECODE) if isinstance(op.kernel, Bank)]
    one = Mixture(7168, 2048, 256, 8)
    assert sum(bank) == 58 * 2 * DECODE.tokens * one.top_k * one.expert_elements


# -- shapes ----------------------------------------------------------------------------------------


def weights(found) -> float:
    """Elements of every product's weights."""
    return sum(op.times * op.kernel.n * op.kernel.k for op in found if isinstance(op.kernel, Product))


@pytest.mark.parametrize("name", NAMES)
def test_products_read_the_weights_that_the_closed_form_counts(name):
    """Latent attention decodes with the same matrices absorbed."""
    model = arch(name)
    parts = count(model).breakdown
    head = model.vocab * model.hidden
    expected = head + parts.attention + parts.ffn + parts.shared + parts.router + parts.mixer
    assert weights(ops(model, DECODE)) == pytest.approx(expected, rel=0.015)


def test_the_bank_holds_the_experts_that_the_closed_form_counts():
    bank, layers = next((op.kernel, op.times) for op in ops(V3, DECODE) if isinstance(op.kernel, Bank))
    assert layers * 3 * bank.hidden * bank.inter * bank.experts == count(V3).breakdown.experts


@pytest.mark.parametrize("ways", [2, 4, 8])
def test_tensor_parallelism_splits_products_and_adds_two_reductions_a_layer(ways):
    model = arch("llama-3.1-70b")
    found = ops(model, DECODE, parallel=Parallel(tensor=ways))
    assert weights(found) == pytest.approx(weights(ops(model, DECODE)) / ways, rel=0.01)
    assert sum(op.times for op in found if isinstance(op.kernel, Reduce)) == 2 * model.layers


def test_expert_parallelism_exchanges_tokens_and_keeps_attention_whole():
    model, parallel = arch("deepseek-v3"), Parallel(expert=8)
    found = ops(model, Step(batch=64, new=1, past=100), parallel=parallel)
    bank = next(op.kernel for op in found if isinstance(op.kernel, Bank))
    exchange = next(op.kernel for op in found if isinstance(op.kernel, Exchange))
    assert (bank.tokens, bank.ep, bank.tp) == (64, 8, 1)
    assert (exchange.tokens, exchange.ranks, exchange.decode) == (8, 8, True)
    attention = next(op.kernel for op in found if isinstance(op.kernel, Attend))
    assert (attention.batch, attention.heads.heads) == (8, 128)


def test_windows_states_and_indexers_have_their_own_kernels():
    windowed = [w for w in ops(arch("gpt-oss-120b"), DECODE) if isinstance(w.kernel, Attend)]
    assert {(w.kernel.window, w.times) for w in windowed} == {(0, 18), (128, 18)}
    states = [w for w in ops(arch("qwen3-next-80b-a3b"), DECODE) if isinstance(w.kernel, StateUpdate)]
    assert sum(w.times for w in states) == 36
    long = Step(new=1, past=50_000)
    sparse = [w.kernel for w in ops(arch("deepseek-v3.2"), long) if isinstance(w.kernel, Attend)]
    assert {kernel.past for kernel in sparse} == {SPARSE}


def test_a_prefill_computes_the_logits_of_the_last_position_only():
    head = ops(arch("qwen3-8b"), Step(batch=3, new=500))[-1].kernel
    assert isinstance(head, Product)
    assert head.m == 3


def test_every_architecture_has_its_small_kernels_counted():
    assert small_kernels(arch("llama-3.1-8b")) == 4 * 32
    assert small_kernels(arch("qwen3-30b-a3b")) == (4 + 2 + 4) * 48
    for name in NAMES:
        assert small_kernels(arch(name)) >= 4 * arch(name).layers


def test_only_products_scaled_by_blocks_are_counted():
    from moe_core.specs import Precision

    model = arch("llama-3.1-8b")
    assert block_products(ops(model, DECODE)) == 0
    assert block_products(ops(model, DECODE, Precision(default="fp8_block", head="bf16"))) == 4 * 32


def test_the_busiest_group_has_the_odd_sequence():
    found = ops(arch("deepseek-v3"), Step(batch=9, new=1, past=10), parallel=Parallel(expert=8))
    assert next(op.kernel.batch for op in found if isinstance(op.kernel, Attend)) == 2
    assert prod((2, 8)) == next(op.kernel.tokens for op in found if isinstance(op.kernel, Bank))
