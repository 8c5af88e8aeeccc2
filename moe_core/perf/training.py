"""Training: memory for weights, gradients, optimizer state and saved activations; FLOPs of a step.

Bytes per parameter beside the weights themselves (ZeRO, arXiv 1910.02054, section 3.1, for mixed
precision): gradients in the weights' format or fp32; AdamW keeps an fp32 copy and two fp32 moments.
Saved activations follow Korthikanti et al. 2022 (arXiv 2205.05198), eq 2 with flash attention, written
for this project's blocks: every input a matrix product needs for its gradient is kept.
"""

from __future__ import annotations

from typing import Literal

from moe_core.formats import Format, size
from moe_core.perf.memory import Footprint, Model, Workload, footprint
from moe_core.perf.step_time import Step, ops
from moe_core.specs import Architecture, Precision

Optimizer = Literal["adamw", "adamw_8bit", "muon", "sgd"]

# Bytes per parameter of optimizer state. muon: fp32 copy and one fp32 momentum (embeddings, head and
# norms, trained by AdamW beside it, are counted alike: a slight underestimate).
STATE: dict[Optimizer, int] = {"adamw": 12, "adamw_8bit": 6, "muon": 8, "sgd": 4}


def training(
    subject: Model,
    workload: Workload,
    optimizer: Optimizer = "adamw",
    gradients: Format = "bf16",
    recompute: bool = True,
) -> Footprint:
    """Bytes to train `subject` in bf16 on `workload` (batch x context tokens a step), on one device.

    `recompute` keeps only each layer's input and recomputes the rest in the backward pass. Every
    expert has gradients and optimizer state, visited or not.
    """
    total = subject.parameters.total
    base = footprint(subject, workload, Precision())
    return base._replace(
        kv_cache=0,
        state=0,
        activations=saved(subject, workload, recompute),
        gradients=size(total, gradients),
        optimizer=total * STATE[optimizer],
    )


def saved(subject: Model, workload: Workload, recompute: bool = True) -> int:
    """Bytes of activations kept for the backward pass, and one layer's worth while it runs."""
    tokens, shape = workload.batch * workload.context, subject.inner
    inside = tokens * (4 * shape.stream + shape.attention + shape.feed_forward)
    layers = subject.layers
    kept = layers * tokens * shape.stream + inside if recompute else layers * inside
    return size(kept, "bf16") + size(tokens * shape.logits, "fp32")


def step_flops(arch: Architecture, batch: int, context: int) -> int:
    """FLOPs of one training step over `batch` sequences of `context` tokens, logits at every token.

    Forward, and twice as much backward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1): a gradient of
    the inputs and one of the weights for every product. Norms, softmax, the optimizer and any recomputing
    are left out.
    """
    found = ops(arch, Step(batch=batch, new=context))
    forward = sum(op.flops * (context if op.component == "head" else 1) for op in found)
    return 3 * forward
