"""Balancing: the strategies that somebody picks, on the mixture that somebody picks.

Nothing is expected. Every strategy trains the same mixture (`experts`, `top_k`, `shared` of the question)
from the same weights on the same bytes, except that expert choice and hash have a router of their own. An
expert is as wide as what a token may use together, divided by the experts that it uses, so that every mixture
does the same work. Fixed before the run: loads are those of the last quarter of the steps; differences of
loss are to the first strategy.
"""

from __future__ import annotations

from pathlib import Path

from moe_core.errors import ConfigError
from moe_core.labs.training import arms
from moe_core.labs.training.arms import Arm, TrainSize
from moe_core.labs.training.board import Board
from moe_core.labs.training.picks import MOST_EXPERTS
from moe_core.labs.training.statistics import Finding, over_seeds, paired
from moe_core.labs.training.strategies import ROUTERS, balancing
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec

SIZES = {
    "quick": TrainSize(hidden=64, layers=2, width=64, batch=8, seq=64, steps=200, seeds=1, heldout=2048),
    "full": TrainSize(hidden=96, layers=3, width=96, batch=16, seq=128, steps=500, seeds=3, heldout=8192),
}
NARROWEST = 4  # neurons of an expert
STRATEGIES = {"quick": 4, "full": 6}  # times seeds of the setting
MOST = {name: (MOST_EXPERTS[name], most) for name, most in STRATEGIES.items()}  # experts, and strategies


def check(spec: RunSpec) -> TrainSize:
    """The size at which `spec` is run. Raises ConfigError for what its setting cannot pay."""
    training = arms.settings(spec)
    size, (experts, strategies) = SIZES[training.setting], MOST[training.setting]
    if not training.strategies:
        raise ConfigError("strategies (0): must be at least 1 for lab balancing")
    trained, most = len(training.strategies) * (training.seeds or size.seeds), strategies * size.seeds
    if trained > most:
        raise ConfigError(
            f"strategies times seeds ({trained}): must be at most {most} in setting {training.setting}"
        )
    if spec.experts > experts:
        raise ConfigError(
            f"experts ({spec.experts}): must be at most {experts} in setting {training.setting}"
        )
    used = spec.top_k + spec.shared
    if used * NARROWEST > size.width:
        most = size.width // NARROWEST
        raise ConfigError(f"top_k and shared ({used}): must be at most {most} in setting {training.setting}")
    return size


def compared(spec: RunSpec, size: TrainSize) -> list[Arm]:
    """One arm a strategy, named by its number from 1 on."""
    width = size.width // (spec.top_k + spec.shared)
    return [
        Arm(
            str(number),
            arms.mixture(size, spec.experts, spec.top_k, width, spec.shared, ROUTERS[strategy.router]),
            balancing(strategy),
        )
        for number, strategy in enumerate(arms.settings(spec).strategies, 1)
    ]


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises ConfigError, CancelledError, StoreError."""
    size = check(spec)
    every = compared(spec, size)
    strategies = {
        arm.name: strategy.model_dump(mode="json")
        for arm, strategy in zip(every, arms.settings(spec).strategies, strict=True)
    }
    board = Board(spec, context, arms.rules(size, strategies=strategies))
    floor = arms.floor(board, "uniform", size, spec.experts, spec.top_k)
    arms.run(board, every, size)
    found = {"floor_step": Finding(floor, seeds=0), **_findings(board, [arm.name for arm in every])}
    return board.publish(found, {"moe": every[0].arch})


def _findings(board: Board, names: list[str]) -> dict[str, Finding]:
    found: dict[str, Finding] = {}
    first = board.last(names[0], "heldout")
    for name in names:
        for metric in ("maxvio_step", "maxvio_window", "effective", "dead"):
            found[f"{metric}.{name}"] = over_seeds(arms.late(board, name, metric))
        found[f"mutual_information.{name}"] = over_seeds(arms.late(board, name, "mutual_information"), "nats")
        loss = board.last(name, "heldout")
        found[f"loss.{name}"] = over_seeds(loss, "nats")
        if name != names[0]:
            found[f"loss_difference.{name}"] = paired(loss, first, "nats")
    return found
