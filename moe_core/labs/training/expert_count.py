"""E9: does the loss fall with the number of experts at the same active size, and with finer ones?

* count: 1 (dense), 2, 4 ... 32 experts at k = 1, and at k = 2 with experts half as wide, so that a token
  always passes the same width.
* granularity: 4 choose 1, 8 choose 2, 16 choose 4, 32 choose 8, experts ever narrower: equal active and equal
  total size.

Published: the loss falls with the experts, with returns that diminish (Clark et al., arXiv 2202.01169;
Slicing and Dicing, 2605.11689); finer experts help (Krajewski et al., 2402.07871). At k = 1 and few tokens it
may rise with the experts: each sees too few. Fixed before the run: sizes, one learning rate, an auxiliary
loss of 0.01 in every mixture, the same bytes for every arm. Equal steps is neither equal work nor equal size:
losses along the training are kept by step, by token and by training FLOPs (three times those of a forward
pass), held-out losses by experts, by parameters and by the FLOPs of a token. A gain is the fall of the
held-out loss: nats a byte, above zero where more is better. First and last doubling are those of k = 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from moe_core.labs.training import arms
from moe_core.labs.training.arms import Arm, Trained, TrainSize
from moe_core.labs.training.board import Board
from moe_core.labs.training.statistics import Finding, over_seeds, paired
from moe_core.labs.training.strategies import Balancing
from moe_core.perf import params
from moe_core.perf.step_time import token_flops
from moe_core.runs.context import RunContext
from moe_core.specs import Architecture, RunSpec

ALPHA = 0.01
DENSE = "dense"
PASSES = 3  # FLOPs of a training step in forward passes: one forward, two backward

SIZES = {
    "quick": TrainSize(hidden=64, layers=2, width=64, batch=8, seq=96, steps=110, seeds=1, heldout=1024),
    "full": TrainSize(hidden=64, layers=2, width=64, batch=12, seq=128, steps=900, seeds=3, heldout=8192),
}
COUNTS: Mapping[str, Mapping[int, tuple[int, ...]]] = {
    "quick": {1: (2, 4, 16), 2: (4, 8, 32)},
    "full": {1: (2, 4, 8, 16, 32), 2: (4, 8, 16, 32)},
}
FINENESS = {"quick": (1, 2, 8), "full": (1, 2, 4, 8)}  # k; there are four times as many experts


class ExpertCount(NamedTuple):
    """A mixture of E experts, k a token."""

    experts: int
    top_k: int

    @property
    def name(self) -> str:
        return f"{self.experts} choose {self.top_k}"


def lines(setting: str) -> dict[str, list[ExpertCount]]:
    """Name of a line -> its mixtures; a mixture may stand on two."""
    counts = {f"k={k}": [ExpertCount(experts, k) for experts in many] for k, many in COUNTS[setting].items()}
    return counts | {"granularity": [ExpertCount(4 * k, k) for k in FINENESS[setting]]}


def compared(size: TrainSize, setting: str) -> list[Arm]:
    """The dense model, and every mixture once."""
    every = dict.fromkeys(count for line in lines(setting).values() for count in line)
    mixtures = [
        Arm(count.name, arms.mixture(size, count.experts, count.top_k, size.width // count.top_k), BALANCED)
        for count in every
    ]
    return [Arm(DENSE, arms.dense(size, size.width)), *mixtures]


BALANCED = Balancing(auxiliary=ALPHA)


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    setting = arms.settings(spec).setting
    size = SIZES[setting]
    rules = {"alpha": ALPHA, "counts": COUNTS[setting], "fineness": FINENESS[setting], "size": size._asdict()}
    board = Board(spec, context, rules)
    every = compared(size, setting)

    def after(arm: Arm, seed: int, trained: Trained) -> None:
        _other_axes(board, arm, seed, size)

    arms.run(board, every, size, after=after)
    architectures = {arm.name: arm.arch for arm in every}
    for name, line in lines(setting).items():
        for seed in arms.seeds(spec, size):
            _line(board, name, line, architectures, seed, size)
    return board.publish(_findings(board, setting), {"moe": architectures[lines(setting)["k=2"][-1].name]})


def flops(arch: Architecture, size: TrainSize) -> float:
    """Of a forward pass, a token, at the mean place of a sequence."""
    return float(token_flops(arch, size.seq // 2))


def _other_axes(board: Board, arm: Arm, seed: int, size: TrainSize) -> None:
    """The loss along the training again, by token and by training FLOPs."""
    per_step = PASSES * flops(arm.arch, size) * size.tokens
    curve = board.curve(arm.name, seed, "loss")
    for step, value in zip(list(curve.x), list(curve.value), strict=True):
        board.put(arm.name, seed, "loss", step * size.tokens, value, "tokens")
        board.put(arm.name, seed, "loss", step * per_step, value, "flops")


def _line(
    board: Board,
    name: str,
    line: list[ExpertCount],
    architectures: dict[str, Architecture],
    seed: int,
    size: TrainSize,
) -> None:
    """Held-out losses of one line. A line over the number of experts begins with the dense model."""
    for experts, of in _points(name, line):
        loss = board.curve(of, seed, "heldout").value[-1]
        board.put(name, seed, "heldout", experts, loss, "experts")
        board.put(name, seed, "heldout", params.count(architectures[of]).total, loss, "parameters")
        board.put(name, seed, "heldout", flops(architectures[of], size), loss, "token_flops")


def _points(name: str, line: list[ExpertCount]) -> Iterator[tuple[int, str]]:
    if name != "granularity":
        yield line[0].top_k, DENSE  # as many experts as a token takes: all of them, always
    for count in line:
        yield count.experts, count.name


def _findings(board: Board, setting: str) -> dict[str, Finding]:
    found: dict[str, Finding] = {}
    for k, line in ((k, lines(setting)[f"k={k}"]) for k in (1, 2)):
        least, most = _losses(board, DENSE), _losses(board, line[-1].name)
        found[f"loss_difference.k{k}_most_least"] = paired(most, least, "nats")
        found[f"loss.k{k}_most"] = over_seeds(most, "nats")
        names = [DENSE, *(count.name for count in line)]
        for (fewer, more), (few, many) in zip(
            pairwise(names), pairwise((k, *COUNTS[setting][k])), strict=True
        ):
            found[f"gain.k{k}.{few}_to_{many}"] = paired(_losses(board, fewer), _losses(board, more), "nats")
    found["loss.dense"] = over_seeds(_losses(board, DENSE), "nats")
    two = [DENSE, *(count.name for count in lines(setting)["k=2"])]
    found["gain_first_doubling"] = _doubling(board, two[0], two[1], setting, first=True)
    found["gain_last_doubling"] = _doubling(board, two[-2], two[-1], setting, first=False)
    coarse, fine = lines(setting)["granularity"][0].name, lines(setting)["granularity"][-1].name
    found["granularity_gain"] = paired(_losses(board, coarse), _losses(board, fine), "nats")
    return found


def _doubling(board: Board, fewer: str, more: str, setting: str, first: bool) -> Finding:
    """The gain of one doubling; a step of the line that is wider counts in equal parts."""
    counts = (2, *COUNTS[setting][2])
    few, many = counts[:2] if first else counts[-2:]
    doublings = (many // few).bit_length() - 1
    pairs = zip(_losses(board, fewer), _losses(board, more), strict=True)
    return over_seeds([(a - b) / doublings for a, b in pairs], "nats")


def _losses(board: Board, arm: str) -> list[float]:
    return board.last(arm, "heldout")
