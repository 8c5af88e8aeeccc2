"""E3: how strong an auxiliary loss, and over which batch?

Published: coefficients in use lie between 1e-4 and 2e-2; too high a one forces an even load whatever the text
and costs loss (DeepSeek-V3, 2412.19437, section 4.5.3; 2408.15664). The same loss taken over a micro-batch
balances almost every sequence and destroys what experts know of a domain; over the whole batch it does not
(arXiv 2501.11873).
Fixed before the run: 8 experts, K = 1; loads are those of the last quarter of the steps; mutual information
of domain and expert is that of held-out text, of which every domain has as much. The sweep takes the loss
over the whole batch. For the scope a micro-batch is *one sequence*, which is of one domain; a step's
sequences are sorted by domain, as nodes that read one file each would have them. "micro" takes the loss of
each micro-batch and averages them, "four" of four neighbouring ones together, "global" of all, which is the
sweep's arm of the same coefficient. All of it by splitting the step (`Recipe.micro`): the text's loss is the
same in all three.
"""

from __future__ import annotations

from pathlib import Path

from moe_core.labs.training import arms
from moe_core.labs.training.arms import Arm, Trained, TrainSize
from moe_core.labs.training.board import Board
from moe_core.labs.training.statistics import Finding, over_seeds, paired
from moe_core.labs.training.strategies import Balancing
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec

SIZES = {
    "quick": TrainSize(hidden=64, layers=2, width=64, batch=8, seq=64, steps=120, seeds=1, heldout=2048),
    "full": TrainSize(hidden=96, layers=3, width=96, batch=16, seq=128, steps=500, seeds=3, heldout=8192),
}
EXPERTS, TOP_K = 8, 1
ALPHAS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
SCOPED = 0.1  # the coefficient of the arms that differ in scope
TOLD = ("heldout", "heldout_information", "maxvio_step")


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    size = SIZES[arms.settings(spec).setting]
    rules = arms.rules(size, experts=EXPERTS, top_k=TOP_K, alphas=ALPHAS, scoped=SCOPED)
    board = Board(spec, context, rules)
    arms.floor(board, "uniform", size, EXPERTS, TOP_K)
    every = compared(size)

    def after(arm: Arm, seed: int, trained: Trained) -> None:
        load = arms.heldout_load(trained.model, size)
        board.put(arm.name, seed, "heldout_information", size.steps, load.information)

    arms.run(board, every, size, after=after)
    _over_alpha(board)
    _over_scope(board, size)
    return board.publish(_findings(board, size), {"moe": every[0].arch})


def compared(size: TrainSize) -> list[Arm]:
    """The sweep, then the two arms whose loss is taken over parts of a step."""
    arch = arms.mixture(size, EXPERTS, TOP_K, size.width // TOP_K)
    sweep = [Arm(name_of(alpha), arch, Balancing(auxiliary=alpha), by_domain=True) for alpha in ALPHAS]
    scoped = Balancing(auxiliary=SCOPED)
    return sweep + [
        Arm(name, arch, scoped, micro=size.batch // sequences, by_domain=True)
        for name, sequences in scopes(size).items()
        if name != "global"
    ]


def name_of(alpha: float) -> str:
    """Of the arm with this coefficient."""
    return f"alpha {alpha:g}"


def scopes(size: TrainSize) -> dict[str, int]:
    """Name -> sequences that one loss is taken over."""
    return {"micro": 1, "four": 4, "global": size.batch}


def _arm_of(scope: str) -> str:
    return name_of(SCOPED) if scope == "global" else scope


def _told(board: Board, arm: str, metric: str) -> list[float]:
    """One value a seed: on held-out text the last, of loads the mean of the last quarter."""
    return board.last(arm, metric) if metric.startswith("heldout") else arms.late(board, arm, metric)


def _over_alpha(board: Board) -> None:
    """The sweep as series over the coefficient."""
    for metric in TOLD:
        for alpha in ALPHAS:
            for seed, value in zip(
                board.seeds(name_of(alpha)), _told(board, name_of(alpha), metric), strict=True
            ):
                board.put("sweep", seed, metric, alpha, value, "alpha")


def _over_scope(board: Board, size: TrainSize) -> None:
    for metric in TOLD:
        for scope, sequences in scopes(size).items():
            arm = _arm_of(scope)
            for seed, value in zip(board.seeds(arm), _told(board, arm, metric), strict=True):
                board.put("scope", seed, metric, sequences, value, "sequences")


def _findings(board: Board, size: TrainSize) -> dict[str, Finding]:
    found: dict[str, Finding] = {}
    middle = board.last(name_of(0.01), "heldout")
    for alpha in ALPHAS:
        arm, name = name_of(alpha), f"a{alpha:g}"
        if alpha != 0.01:
            found[f"loss_difference.{name}"] = paired(board.last(arm, "heldout"), middle, "nats")
        found[f"mutual_information.{name}"] = over_seeds(board.last(arm, "heldout_information"), "nats")
        found[f"maxvio_step.{name}"] = over_seeds(arms.late(board, arm, "maxvio_step"))
    whole = board.last(_arm_of("global"), "heldout")
    for scope in scopes(size):
        arm = _arm_of(scope)
        found[f"scope_mutual_information.{scope}"] = over_seeds(
            board.last(arm, "heldout_information"), "nats"
        )
        found[f"scope_maxvio_step.{scope}"] = over_seeds(_told(board, arm, "maxvio_step"))
        if scope != "global":
            found[f"scope_loss_difference.{scope}"] = paired(board.last(arm, "heldout"), whole, "nats")
    return found
