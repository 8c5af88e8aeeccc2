"""E14: is an even load the least that the auxiliary loss can be?

The documents say that E sum_e f_e P_e is smallest when the load is even, where it is 1. It is a stationary
point only: 100 tokens that are sure of one expert and 900 that lean to the other (0.49 against 0.51) give
0.934 at a load of 10 to 90. f_e is the share of pairs that were sent to an expert, which has no gradient; P_e
the mean probability (Switch, arXiv 2101.03961, eq 4-6, f over the T K pairs).
Fixed before the run: the logits of T tokens are free, drawn from the seed with a lean to some experts, and
follow the gradient of the loss alone, in two ways. *Free*: as in training, the load is taken anew by top-k
each step. *Kept*: a token whose K experts a step would change stays and halves its own rate, so that the load
remains the uneven one it began with. `minimum` is the least value of the *kept* arm that comes lowest (mean
over seeds), `load_most` the busiest expert's load there in units of the even share.
For two experts and K = 1 the least is 7/8, at a load of 1 to 3: f_2 = 1 - q with every such token just above
one half gives 2 q^2 - q + 1.
Legend: T tokens, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from moe_core.labs.training import arms
from moe_core.labs.training.board import Board
from moe_core.labs.training.statistics import Finding, over_seeds
from moe_core.nn.balance import switch_loss
from moe_core.nn.router import from_choice
from moe_core.nn.routing import Routing
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec


class Free(NamedTuple):
    """How logits are moved. Every arm of the experiment: (experts, top_k)."""

    tokens: int
    steps: int
    seeds: int
    spread: float = 1.0  # of logits
    lean: float = 0.5  # of all tokens towards some experts
    rate: float = 1.0  # times the tokens: the loss is a mean over them


SIZES = {"quick": Free(tokens=512, steps=300, seeds=3), "full": Free(tokens=1024, steps=1500, seeds=8)}
SHAPES = ((2, 1), (8, 1), (8, 2), (64, 8))
WAYS = ("free", "kept")
EVERY = 5  # steps between two points of a series


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    asked = arms.settings(spec)
    size = SIZES[asked.setting]
    board = Board(spec, context, {"shapes": SHAPES, **size._asdict()})
    seeds = range(spec.seed, spec.seed + (asked.seeds or size.seeds))
    every = [(way, shape, seed) for way in WAYS for shape in SHAPES for seed in seeds]
    for number, (way, shape, seed) in enumerate(every):
        for step in _descend(board, way, shape, seed, size):
            board.step((number + step / (size.steps + 1)) / len(every), "descend")
    return board.publish(_findings(board), {})


def routed(logits_TE: Tensor, top_k: int) -> Routing:
    """Softmax scores and the K best of each token."""
    scores_TE = logits_TE.softmax(-1)
    chosen_TK = scores_TE.detach().topk(top_k, dim=-1).indices
    return from_choice(chosen_TK, scores_TE.gather(-1, chosen_TK), scores_TE, logits_TE)


def example() -> Routing:
    """The audit's: 100 tokens at (1, 0) and 900 at (0.49, 0.51)."""
    scores_TE = torch.tensor([[1.0, 0.0]] * 100 + [[0.49, 0.51]] * 900, dtype=torch.float64)
    chosen_T1 = scores_TE.argmax(-1, keepdim=True)
    return from_choice(chosen_T1, scores_TE.gather(-1, chosen_T1), scores_TE)


def most(routing: Routing) -> float:
    """The busiest expert's load in units of the even share."""
    load_E = routing.load_E().double()
    return float(load_E.max() / load_E.mean())


def _arm(way: str, shape: tuple[int, int]) -> str:
    return f"{way}, {shape[0]} experts, k={shape[1]}"


def begun(experts: int, seed: int, size: Free) -> Tensor:
    """[T, E]: the logits at first, in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits_TE = torch.randn(size.tokens, experts, generator=generator, dtype=torch.float64)
    lean_E = torch.randn(experts, generator=generator, dtype=torch.float64)
    return size.spread * logits_TE + size.lean * lean_E


def _descend(board: Board, way: str, shape: tuple[int, int], seed: int, size: Free) -> Iterator[int]:
    arm, (experts, top_k) = _arm(way, shape), shape
    logits_TE = begun(experts, seed, size)
    rate_T1 = torch.full((size.tokens, 1), size.rate * size.tokens, dtype=torch.float64)
    least, load = float("inf"), 0.0
    for step in range(size.steps + 1):
        routing = routed(logits_TE.requires_grad_(), top_k)
        loss = switch_loss(routing)
        (gradient_TE,) = torch.autograd.grad(loss, logits_TE)
        value, busiest = loss.item(), most(routing)
        if value < least:
            least, load = value, busiest
        if step % EVERY == 0:
            board.put(arm, seed, "auxiliary", step, value)
            board.put(arm, seed, "load_most", step, busiest)
            yield step
        moved_TE = logits_TE.detach() - rate_T1 * gradient_TE
        if way == "kept":
            stays_T1 = chosen(moved_TE, top_k).ne(chosen(logits_TE.detach(), top_k)).any(-1, keepdim=True)
            moved_TE = torch.where(stays_T1, logits_TE.detach(), moved_TE)
            rate_T1 = torch.where(stays_T1, rate_T1 / 2, rate_T1)
        logits_TE = moved_TE
    board.put(arm, seed, "minimum", experts, least, "experts")
    board.put(arm, seed, "minimum_load_most", experts, load, "experts")


def chosen(logits_TE: Tensor, top_k: int) -> Tensor:
    """[T, K]: each token's K best experts by number, by score as a router has it: rounded."""
    return logits_TE.softmax(-1).topk(top_k, dim=-1).indices.sort(-1).values


def _findings(board: Board) -> dict[str, Finding]:
    found: dict[str, Finding] = {}
    for way in WAYS:
        for shape in SHAPES:
            name, arm = f"{way}_e{shape[0]}_k{shape[1]}", _arm(way, shape)
            found[f"minimum.{name}"] = over_seeds(board.last(arm, "minimum", "experts"))
            found[f"load_most.{name}"] = over_seeds(board.last(arm, "minimum_load_most", "experts"))
    lowest = min(
        (name for name in found if name.startswith("minimum.kept_")), key=lambda name: found[name].value
    )
    audit = example()
    return {
        "minimum": found[lowest],
        "load_most": found[lowest.replace("minimum", "load_most")],
        "example": Finding(float(switch_loss(audit)), seeds=0),
        "example_load_most": Finding(most(audit), seeds=0),
        **found,
    }
