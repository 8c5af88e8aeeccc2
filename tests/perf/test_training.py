"""Training: 16 bytes a parameter with AdamW, activations that recomputing shrinks, FLOPs of a step."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.perf.memory import Workload, model
from moe_core.perf.step_time import Attend, Step, ops, visible
from moe_core.perf.training import saved, step_flops, training
from moe_core.specs import Experts
from tests.nn.small import architecture
from tests.perf.test_params import MIXTRAL

STEP = Workload(batch=1, context=4096)


def test_adamw_in_mixed_precision_takes_16_bytes_a_parameter() -> None:
    need = training(model(MIXTRAL), STEP)
    total = model(MIXTRAL).parameters.total
    assert need.weights_total + need.gradients + need.optimizer == 16 * total
    assert training(model(MIXTRAL), STEP, gradients="fp32").gradients == 4 * total
    assert training(model(MIXTRAL), STEP, "sgd").optimizer == 4 * total
    assert need.kv_cache == need.state == 0


def test_recomputing_keeps_one_input_a_layer() -> None:
    subject = model(MIXTRAL)
    kept, all_kept = saved(subject, STEP, recompute=True), saved(subject, STEP, recompute=False)
    assert 10 * kept < 2 * all_kept
    assert kept > 32 * 4096 * 4096 * 2
    assert saved(subject, Workload(batch=2, context=4096)) == 2 * kept


@pytest.mark.parametrize("experts", [None, Experts(count=6, top_k=2, width=10, shared=1)])
def test_a_step_takes_the_flops_that_torch_counts_forward_and_backward(experts) -> None:
    """But for attention: the math kernel pairs each query with keys that it may not see."""
    arch = architecture(experts)
    decoder = Decoder(arch)
    for ffn in decoder.feed_forwards:
        if isinstance(ffn, MoE):
            ffn.kernel = "loop"
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        decoder(torch.zeros(3, 12, dtype=torch.long)).sum().backward()
    attention = [op for op in ops(arch, Step(batch=3, new=12)) if isinstance(op.kernel, Attend)]
    unseen = sum(op.flops * 12 * 12 // visible(12, 0) - op.flops for op in attention)
    assert step_flops(arch, 3, 12) + 3 * unseen == counter.get_total_flops()
