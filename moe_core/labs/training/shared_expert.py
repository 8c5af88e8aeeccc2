"""E13: does a shared expert help at the same work?

Published: nothing clear. OLMoE and Qwen3 have none, DeepSeek-V3 has one; one of 32 experts shared is within
.001 nats, three of 32 are worse (moe-lab); arXiv 2605.11689 finds a small effect. So this is a test for
equivalence, not for a winner.
Fixed before the run: *without* chooses 4 of 16 experts, *with* chooses 3 of 15 and always takes one more of
the same width. Experts that a token uses, and experts that are stored, are then the same; what remains is one
row of the router a layer (hidden parameters, twice that many FLOPs a token), which *without* has more. Gates
are renormalised and scaled by K, so that an expert that runs counts 1 on average in both, as a shared one
always does. Both are balanced by the sign rule at 3 / steps, at most 0.01. The margin of equivalence is 0.02
nats a byte.
"""

from __future__ import annotations

from pathlib import Path

from moe_core.labs.training import arms
from moe_core.labs.training.arms import Arm, TrainSize
from moe_core.labs.training.board import Board
from moe_core.labs.training.statistics import Finding, equivalent, over_seeds, paired
from moe_core.labs.training.strategies import Balancing
from moe_core.runs.context import RunContext
from moe_core.specs import Architecture, Router, RunSpec

SIZES = {
    "quick": TrainSize(hidden=64, layers=2, width=64, batch=8, seq=64, steps=150, seeds=3, heldout=2048),
    "full": TrainSize(hidden=96, layers=3, width=96, batch=16, seq=128, steps=900, seeds=6, heldout=8192),
}
EXPERTS, TOP_K = 16, 4
MARGIN = 0.02  # nats a byte
FASTEST = 0.01
WITH, WITHOUT = "with", "without"


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    size = SIZES[arms.settings(spec).setting]
    rate = min(FASTEST, 3.0 / size.steps)
    rules = arms.rules(size, experts=EXPERTS, top_k=TOP_K, margin=MARGIN, rate=rate)
    board = Board(spec, context, rules)
    every = compared(size)
    arms.run(board, every, size)
    return board.publish(_findings(board), {"moe": every[0].arch, "without": every[1].arch})


def compared(size: TrainSize) -> list[Arm]:
    """With a shared expert, and without."""
    balancing = Balancing(rule="sign", rate=min(FASTEST, 3.0 / size.steps))
    shapes = {WITH: _mixture(size, EXPERTS - 1, TOP_K - 1, 1), WITHOUT: _mixture(size, EXPERTS, TOP_K, 0)}
    return [Arm(name, arch, balancing) for name, arch in shapes.items()]


def _mixture(size: TrainSize, experts: int, top_k: int, shared: int) -> Architecture:
    router = Router(kind="softmax", renormalise=True, selection_bias=True, scaling=float(top_k))
    return arms.mixture(size, experts, top_k, size.width // TOP_K, shared, router)


def _findings(board: Board) -> dict[str, Finding]:
    there, gone = (board.last(arm, "heldout") for arm in (WITH, WITHOUT))
    differences = [a - b for a, b in zip(there, gone, strict=True)]
    return {
        "loss_difference": paired(there, gone, "nats"),
        "tost_margin": Finding(MARGIN, seeds=0, unit="nats"),
        "tost_p": Finding(equivalent(differences, MARGIN), seeds=len(differences)),
        "loss.with": over_seeds(there, "nats"),
        "loss.without": over_seeds(gone, "nats"),
        "maxvio_step.with": over_seeds(arms.late(board, WITH, "maxvio_step")),
        "maxvio_step.without": over_seeds(arms.late(board, WITHOUT, "maxvio_step")),
    }
