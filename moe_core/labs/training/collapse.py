"""E2: what happens to the experts when nothing balances them.

The same mixture trained without balancing, with an auxiliary loss and with a bias, at k = 1 and k = 2.
Published: without balancing few experts take most tokens (Shazeer et al. 2017, section 4); the loss may not
show it at all (arXiv 2605.11689). Fixed before the run: the window is the last quarter of the steps; the bias
moves by 3 / steps, so that it can cross the whole range of a softmax score; a step has the tokens of SIZES.
"""

from __future__ import annotations

from pathlib import Path

from moe_core.labs.training import arms
from moe_core.labs.training.arms import SIZES, Arm, TrainSize
from moe_core.labs.training.board import Board
from moe_core.labs.training.statistics import Finding, over_seeds, paired
from moe_core.labs.training.strategies import Balancing
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec

EXPERTS = 8
ALPHA = 0.01
TOP_K = (1, 2)


def balancings(size: TrainSize) -> dict[str, Balancing]:
    """Name -> what is compared."""
    return {
        "none": Balancing(),
        "auxiliary": Balancing(auxiliary=ALPHA),
        "bias": Balancing(rule="sign", rate=rate(size)),
    }


def rate(size: TrainSize) -> float:
    """Of the bias: DeepSeek's 0.001 is for many thousands of steps, so it is scaled to those there are."""
    return 3.0 / size.steps


def compared(size: TrainSize) -> list[Arm]:
    """Every arm: `none, k=1` and so on. An expert is as wide as a token's experts may be together, over k."""
    return [
        Arm(name=f"{name}, k={k}", arch=arms.mixture(size, EXPERTS, k, size.width // k), balancing=balancing)
        for k in TOP_K
        for name, balancing in balancings(size).items()
    ]


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    size = SIZES[arms.settings(spec).setting]
    board = Board(spec, context, arms.rules(size, experts=EXPERTS, alpha=ALPHA, rate=rate(size)))
    every = compared(size)
    floors = {k: arms.floor(board, f"uniform, k={k}", size, EXPERTS, k) for k in TOP_K}
    arms.run(board, every, size)
    findings = {name: found for k in TOP_K for name, found in _findings(board, k, floors[k]).items()}
    return board.publish(findings, {"moe": every[0].arch})


def _findings(board: Board, k: int, floor: float) -> dict[str, Finding]:
    found: dict[str, Finding] = {f"floor_step.k{k}": Finding(floor, seeds=0)}
    for name in ("none", "auxiliary", "bias"):
        for metric in ("maxvio_step", "maxvio_window", "effective", "dead"):
            found[f"{metric}.{name}.k{k}"] = over_seeds(arms.late(board, f"{name}, k={k}", metric))
    for metric in ("step", "window"):
        none, bias = (arms.late(board, f"{name}, k={k}", f"maxvio_{metric}") for name in ("none", "bias"))
        found[f"ratio_{metric}.k{k}"] = over_seeds([a / b for a, b in zip(none, bias, strict=True)])
    none, bias = (board.last(f"{name}, k={k}", "heldout") for name in ("none", "bias"))
    found[f"loss_difference.k{k}"] = paired(none, bias, "nats")
    return found
