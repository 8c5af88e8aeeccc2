"""E5: how many experts can be left out at inference when all of them were trained?

A mixture is trained with every expert active in every token, weighed by its gate, with a mutual-information
loss that wants every token sure of its experts and all experts used alike, and without; then its best k are
kept. Beside it a mixture of the same shape that was trained sparse, at k = ACTIVE, and a dense model with as
many neurons as all experts together.
Published (DS-MoE, arXiv 2404.05567): quality is kept with 30 to 40 % active, coefficients are 2e-4 to 6.3e-4,
and the result is close to a dense model of equal total size: 58.5 against 59.2 at 6B, 51.4 against 50.5 at 1B
(table 3). There attention is a mixture too; here it is not.
Fixed before the run: 30 % is 3 of 10 experts (`active_share` says how much of all parameters that is); ALPHA
is larger than published because there are hundreds of steps, not hundreds of thousands; the loss at k has the
gate values as they were trained, those of experts left out lost. Gate values renormalised over the best k are
drawn beside it. All arms see the same tokens; training with every expert takes the FLOPs of the dense model.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from moe_core.labs.training import arms
from moe_core.labs.training.arms import Arm, Trained, TrainSize
from moe_core.labs.training.board import Board
from moe_core.labs.training.statistics import Finding, over_seeds, paired
from moe_core.labs.training.strategies import Balancing
from moe_core.nn import balance
from moe_core.nn.carve import sharing
from moe_core.nn.model import Decoder
from moe_core.nn.routing import Routing
from moe_core.perf.params import count
from moe_core.perf.training import step_flops
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec

EXPERTS = 10
ACTIVE = 3  # of them, which is 30 %
TOP_K = (1, 2, 3, 4, 5, 7, 10)
ALPHA = 0.01  # of the mutual-information loss, summed over the layers
AUXILIARY = 0.01  # of the Switch loss, where training is sparse

# Width is that of one expert.
SIZES = {
    "quick": TrainSize(hidden=64, layers=2, width=24, batch=8, seq=128, steps=120, seeds=1, heldout=1024),
    "full": TrainSize(hidden=96, layers=3, width=32, batch=16, seq=128, steps=700, seeds=3, heldout=8192),
}
WITH, WITHOUT = "all experts, MI loss", "all experts"
SPARSE, DENSE = f"sparse, k={ACTIVE}", "dense"


def compared(size: TrainSize) -> list[Arm]:
    """Every arm. All have the same neurons."""
    everything = arms.mixture(size, EXPERTS, EXPERTS, size.width)
    sparse = arms.mixture(size, EXPERTS, ACTIVE, size.width)
    return [
        Arm(WITH, everything, extra=information),
        Arm(WITHOUT, everything),
        Arm(SPARSE, sparse, Balancing(auxiliary=AUXILIARY)),
        Arm(DENSE, arms.dense(size, EXPERTS * size.width)),
    ]


def information(routings: list[Routing]) -> Tensor:
    """The mutual-information loss of all layers, with its coefficient."""
    return ALPHA * torch.stack([balance.mutual_information_loss(routing) for routing in routings]).sum()


def at_top_k(model: Decoder, top_k: int, renormalise: bool) -> Decoder:
    """The same weights, of which every token uses its best `top_k` experts."""
    experts = model.arch.experts
    assert experts is not None
    router = experts.router.model_copy(update={"renormalise": renormalise})
    fewer = experts.model_copy(update={"top_k": top_k, "router": router})
    return sharing(model, model.arch.model_copy(update={"experts": fewer}))


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    size = SIZES[arms.settings(spec).setting]
    rules = {
        **{"experts": EXPERTS, "active": ACTIVE, "top_k": TOP_K, "alpha": ALPHA, "auxiliary": AUXILIARY},
        "size": size._asdict(),
    }
    board = Board(spec, context, rules)
    every = compared(size)

    def judge(arm: Arm, seed: int, trained: Trained) -> None:
        _over_flops(board, arm, seed, size)
        if arm.name in (WITH, WITHOUT):
            _over_top_k(board, arm.name, seed, size, trained.model)

    arms.run(board, every, size, after=judge)
    found = _findings(board)
    sparse = count(every[2].arch)
    found["active_share"] = Finding(sparse.active.incl_embeddings / sparse.total, seeds=0)
    return board.publish(found, {"moe": every[0].arch, "sparse": every[2].arch, "dense": every[3].arch})


def _over_flops(board: Board, arm: Arm, seed: int, size: TrainSize) -> None:
    flops = step_flops(arm.arch, size.batch, size.seq)
    curve = board.curve(arm.name, seed, "loss")
    for x, value in zip(curve.x, curve.value, strict=True):
        board.put(arm.name, seed, "loss", x * flops, value, axis="flops")


def _over_top_k(board: Board, name: str, seed: int, size: TrainSize, model: Decoder) -> None:
    for k in TOP_K:
        for metric, renormalise in (("heldout", False), ("heldout_renormalised", True)):
            loss = arms.evaluate(at_top_k(model, k, renormalise), size)
            board.put(name, seed, metric, k, loss, axis="top_k")


def _findings(board: Board) -> dict[str, Finding]:
    def at(arm: str, k: int, metric: str = "heldout") -> list[float]:
        curves = [board.curve(arm, seed, metric, "top_k") for seed in board.seeds(arm)]
        return [curve.value[curve.x.index(k)] for curve in curves]

    found = {f"loss.k{k}": over_seeds(at(WITH, k), "nats") for k in TOP_K}
    found |= {f"loss_without_mi.k{k}": over_seeds(at(WITHOUT, k), "nats") for k in TOP_K}
    for name, arm in (("", WITH), ("_without_mi", WITHOUT)):
        few, every = at(arm, ACTIVE), at(arm, EXPERTS)
        found[f"loss_ratio{name}.active30"] = over_seeds([a / b for a, b in zip(few, every, strict=True)])
    renormalised = at(WITH, ACTIVE, "heldout_renormalised")
    sparse, dense = board.last(SPARSE, "heldout"), board.last(DENSE, "heldout")
    pairs = {
        "with_without_mi": (at(WITH, ACTIVE), at(WITHOUT, ACTIVE)),
        "against_sparse": (at(WITH, ACTIVE), sparse),
        "against_sparse_renormalised": (renormalised, sparse),
        "against_dense": (at(WITH, EXPERTS), dense),
        "against_dense_active30": (at(WITH, ACTIVE), dense),
    }
    return found | {f"loss_difference.{name}": paired(*pair, "nats") for name, pair in pairs.items()}
