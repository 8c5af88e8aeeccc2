"""FLOPs by component: sums over `perf.ops`.

Cross-checked against `torch.utils.flop_counter` on the loop kernel of our own decoder.
"""

from __future__ import annotations

from collections import Counter

from moe_core.perf.ops import Step, ops
from moe_core.specs import Architecture


def forward(arch: Architecture, step: Step) -> dict[str, int]:
    """FLOPs of one forward pass by component, logits for every new token."""
    totals: Counter[str] = Counter()
    for op in ops(arch, step):
        totals[op.component] += op.flops
    return dict(totals)


def total(arch: Architecture, step: Step) -> int:
    """FLOPs of one forward pass."""
    return sum(forward(arch, step).values())


def per_token(arch: Architecture, context: int) -> float:
    """FLOPs to decode one token after `context` others: 2 a visited parameter, and attention."""
    return float(total(arch, Step(new=1, past=context)))


def training(arch: Architecture, step: Step) -> int:
    """FLOPs of forward and backward: the backward pass multiplies twice as much. No recomputation."""
    return 3 * total(arch, step)
