"""FLOPs: equal to torch's counter on the loop kernel of our own decoder."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.perf import flops
from moe_core.perf.ops import Step, cache_bytes, matmul, ops, weight_bytes
from moe_core.perf.params import count
from moe_core.specs import GQA, Architecture
from tests.perf import specs
from tests.perf.test_params import MIXTRAL, V3


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


@settings(max_examples=40, deadline=None)
@given(specs.architectures(), st.integers(1, 3), st.integers(1, 9), st.integers(0, 9))
def test_equal_to_the_counter(arch: Architecture, batch: int, new: int, past: int) -> None:
    if arch.experts is not None and arch.experts.router.kind == "noisy":
        arch = arch.model_copy(update={"experts": None})  # its noise is drawn in training only
    step = Step(batch=batch, new=new, past=past, causal=False)
    assert flops.total(arch, step) == counted(arch, batch, new, past)


@given(st.integers(1, 20), st.integers(0, 20), st.none() | st.integers(1, 30))
def test_visible_pairs_by_listing_them(new: int, past: int, window: int | None) -> None:
    seen = [min(past + i + 1, window or 10**9) for i in range(new)]
    assert Step(new=new, past=past).pairs(window) == sum(seen)


def test_a_token_costs_two_flops_a_visited_parameter() -> None:
    for arch in (MIXTRAL, V3):
        visited = count(arch).active.excl_input_embedding
        assert flops.per_token(arch, 0) == pytest.approx(2 * visited, rel=0.001)


def test_a_window_bounds_attention() -> None:
    windowed = MIXTRAL.model_copy(update={"attention": GQA(heads=32, kv_heads=8, head_dim=128, window=4096)})
    assert flops.per_token(windowed, 10**5) == flops.per_token(MIXTRAL, 4095)


def test_training_is_three_forwards() -> None:
    step = Step(batch=2, new=16)
    assert flops.training(MIXTRAL, step) == 3 * flops.total(MIXTRAL, step)
    assert matmul(2, 3, 5) == 60


def test_a_step_reads_each_weight_once_and_only_touched_experts() -> None:
    everything = ops(MIXTRAL, Step(batch=4096, new=1))
    matrices = count(MIXTRAL).total - count(MIXTRAL).breakdown.norms - 32000 * 4096
    assert weight_bytes(everything) == pytest.approx(2 * matrices, rel=1e-9)
    one = ops(MIXTRAL, Step())
    idle = count(MIXTRAL).idle
    assert weight_bytes(one) == 2 * (matrices - idle)
    assert weight_bytes(ops(MIXTRAL, Step(batch=8), touched=2)) == weight_bytes(one)


def test_a_decode_step_reads_the_past_and_writes_one() -> None:
    assert cache_bytes(ops(MIXTRAL, Step(batch=3, past=1000))) == 3 * 1001 * 131_072
