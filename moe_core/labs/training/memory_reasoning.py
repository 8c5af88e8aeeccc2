"""E8: do more experts of the same active size help to remember, and do they help to compute?

Two tasks, each trained from scratch with 1 (dense), 2, 4, 8 and 16 experts of one width, top-1, and with a
dense model as wide as all 16 experts together.

* facts: a phone book drawn by the seed. A key of two symbols has a value of two, 6 bits each: 12 bits a fact
  that nothing else tells. Asked are the facts that were trained on: how many values come back whole, and how
  many bits of each (12 less its cross-entropy).
* reasoning: the sum of eight (full: twelve) digits, written as one symbol. Every instance is drawn afresh,
  those asked from another seed (2,000 of 10^8 or 10^12: next to none was trained on by chance). How many sums
  are exact.

Published: Mixture of Parrots (arXiv 2410.19034): memory rises with the experts at a fixed active size,
reasoning saturates and is decided by the width; a dense model of equal total size does both. Fixed before the
run: sizes, tasks, one learning rate for all, an auxiliary loss of 0.01 in every mixture, no weight decay,
since facts are to be kept and instances never repeat. `full` has more facts than the smallest model can hold
(a first trial: 2 of 12 bits each). A gain is that of the most experts over one, paired by seed.
Legend: B sequences, S bytes, A bytes of the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from moe_core.labs.training import arms
from moe_core.labs.training.arms import Arm, TrainSize
from moe_core.labs.training.board import Board
from moe_core.labs.training.corpus import NATS, TextWindow
from moe_core.labs.training.loop import Recipe, train
from moe_core.labs.training.statistics import Finding, over_seeds, paired
from moe_core.labs.training.strategies import Balancing
from moe_core.nn.model import Decoder, initialise
from moe_core.nn.observe import RoutingLog
from moe_core.perf import params
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec

EXPERTS = {"quick": (1, 4, 16), "full": (1, 2, 4, 8, 16)}
MOST = 16
ALPHA = 0.01
PEAK = 1e-2
SYMBOLS = 64  # of a key's and of a value's bytes
KEY, VALUE = 2, 2
FACTS = {"quick": 600, "full": 4096}
DIGITS = {"quick": 8, "full": 12}
SHARE = 4  # of a batch of facts that a batch of sums is: they are longer
FIRST_SUM = 64  # the byte of the sum 0: digits are below
ASKED = 2000  # sums
ASKED_SEED = 10**9  # of no training run
LOOKS = 4  # at what is known, along the steps
TOTAL = "dense of equal total size"

SIZES = {  # seq: bytes a fact has before its last; heldout is not read
    "quick": TrainSize(hidden=32, layers=2, width=16, batch=512, seq=3, steps=160, seeds=1, heldout=0),
    "full": TrainSize(hidden=32, layers=2, width=32, batch=512, seq=3, steps=1500, seeds=3, heldout=0),
}


class LearnedTask(NamedTuple):
    """What is learned. `answer`: bytes at the end that are asked for; `symbols`: that each of them may be.

    draw: (batch, seed) -> endless training text [B, S].   asked: seed -> what is tested, [B, S].
    """

    answer: int
    symbols: int
    draw: Callable[[int, int], Iterator[Tensor]]
    asked: Callable[[int], Tensor]


def tasks(setting: str) -> dict[str, LearnedTask]:
    """Both tasks, of a setting."""
    facts, digits = FACTS[setting], DIGITS[setting]
    return {
        "facts": LearnedTask(
            answer=VALUE,
            symbols=SYMBOLS,
            draw=lambda batch, seed: _pages(book(facts, seed), batch, seed),
            asked=lambda seed: book(facts, seed),
        ),
        "reasoning": LearnedTask(
            answer=1,
            symbols=9 * digits + 1,
            draw=lambda batch, seed: _sums(batch // SHARE, digits, seed),
            asked=lambda seed: sums(ASKED, digits, _generator(ASKED_SEED + seed)),
        ),
    }


def book(facts: int, seed: int) -> Tensor:
    """[facts, KEY + VALUE] bytes: different keys, each with a value drawn evenly."""
    generator = _generator(seed)
    number_B = torch.randperm(SYMBOLS**KEY, generator=generator)[:facts]
    keys = torch.stack([number_B // SYMBOLS**place % SYMBOLS for place in range(KEY)], 1)
    values = torch.randint(0, SYMBOLS, (facts, VALUE), generator=generator)
    return torch.cat([keys + 32, values + 128], 1)


def sums(count: int, digits: int, generator: torch.Generator) -> Tensor:
    """[count, digits + 1] bytes: digits, and their sum as one symbol."""
    drawn = torch.randint(0, 10, (count, digits), generator=generator)
    return torch.cat([drawn + 48, drawn.sum(1, keepdim=True) + FIRST_SUM], 1)


def _pages(book_FS: Tensor, batch: int, seed: int) -> Iterator[Tensor]:
    generator = _generator(seed)
    while True:
        yield book_FS[torch.randint(0, len(book_FS), (batch,), generator=generator)]


def _sums(batch: int, digits: int, seed: int) -> Iterator[Tensor]:
    generator = _generator(seed)
    while True:
        yield sums(batch, digits, generator)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def answer_loss(answer: int) -> Callable[[Decoder, Tensor, RoutingLog | None], Tensor]:
    """Mean nats a byte of the last `answer` bytes alone: the rest is drawn, not to be learned."""

    def nats(model: Decoder, ids_BS: Tensor, log: RoutingLog | None) -> Tensor:
        logits_BSV = model(ids_BS[:, :-1], observer=log or RoutingLog())
        return F.cross_entropy(logits_BSV[:, -answer:].flatten(0, 1), ids_BS[:, -answer:].flatten())

    return nats


class Mastery(NamedTuple):
    """What a model knows: the share of whole answers that are right, and bits of each answer."""

    accuracy: float
    bits: float


@torch.no_grad()
def known(model: Decoder, ids_BS: Tensor, task: LearnedTask) -> Mastery:
    """Of the answers to `ids_BS`; the most likely byte is the answer given."""
    right, nats = 0, 0.0
    for part_BS in ids_BS.split(1024):
        logits_BAV = model(part_BS[:, :-1])[:, -task.answer :].float()
        wanted_BA = part_BS[:, -task.answer :]
        right += int((logits_BAV.argmax(-1) == wanted_BA).all(1).sum())
        nats += float(F.cross_entropy(logits_BAV.flatten(0, 1), wanted_BA.flatten(), reduction="sum"))
    bits = task.answer * math.log2(task.symbols) - nats / len(ids_BS) / NATS
    return Mastery(right / len(ids_BS), bits)


def compared(size: TrainSize, setting: str) -> Mapping[str, tuple[int, Arm]]:
    """Name -> experts (0 for the dense control) and the arm."""
    found = {
        f"{experts} experts" if experts > 1 else "1 expert (dense)": (experts, _arm(size, experts))
        for experts in EXPERTS[setting]
    }
    return found | {TOTAL: (0, Arm(TOTAL, arms.dense(size, MOST * size.width)))}


def _arm(size: TrainSize, experts: int) -> Arm:
    if experts == 1:
        return Arm("1", arms.dense(size, size.width))
    return Arm(f"{experts}", arms.mixture(size, experts, 1, size.width), Balancing(auxiliary=ALPHA))


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    setting = arms.settings(spec).setting
    size, wanted = SIZES[setting], tasks(setting)
    sizes = {"experts": EXPERTS[setting], "facts": FACTS[setting], "digits": DIGITS[setting]}
    board = Board(spec, context, {**sizes, "alpha": ALPHA, "peak": PEAK, "size": size._asdict()})
    every = compared(size, setting)
    seeds = arms.seeds(spec, size)
    work = [(seed, name, arm) for seed in seeds for name in wanted for arm in every.items()]
    for number, (seed, name, (arm, (experts, what))) in enumerate(work):
        for share in _learn(board, f"{name}, {arm}", what, wanted[name], seed, size):
            board.step((number + share) / len(work))
        _sum_up(board, name, arm, experts, what, seed)
    return board.publish(_findings(board), {"moe": every[f"{MOST} experts"][1].arch})


def _learn(
    board: Board, name: str, arm: Arm, task: LearnedTask, seed: int, size: TrainSize
) -> Iterator[float]:
    """Train one arm on one task; yields the share done."""
    model = Decoder(arm.arch)
    initialise(model, seed)
    recipe = Recipe(steps=size.steps, peak=PEAK, decay=0.0, balancing=arm.balancing)
    source = (
        TextWindow(ids_BS, torch.zeros(len(ids_BS), dtype=torch.int64))
        for ids_BS in task.draw(size.batch, seed)
    )
    asked_BS, losses = task.asked(seed), list[float]()
    for step in train(model, recipe, source, nats=answer_loss(task.answer)):
        losses.append(step.loss)
        at = step.number + 1
        if at % max(1, size.steps // size.windows) == 0:
            board.put(name, seed, "loss", at, sum(losses) / len(losses))
            losses.clear()
        if at % max(1, size.steps // LOOKS) == 0 or at == size.steps:
            now = known(model.eval(), asked_BS, task)
            model.train()
            board.put(name, seed, "accuracy", at, now.accuracy)
            board.put(name, seed, "bits", at, now.bits)
        yield at / size.steps


def _sum_up(board: Board, task: str, arm: str, experts: int, what: Arm, seed: int) -> None:
    """What an arm knows at last, along the number of experts and of parameters."""
    total = params.count(what.arch).total
    series = f"{task}, mixtures" if experts else f"{task}, {TOTAL}"
    for metric in ("accuracy", "bits"):
        value = board.curve(f"{task}, {arm}", seed, metric).value[-1]
        board.put(series, seed, metric, experts or MOST, value, "experts")
        board.put(series, seed, metric, total, value, "parameters")


def _findings(board: Board) -> dict[str, Finding]:
    found: dict[str, Finding] = {}
    for task in ("facts", "reasoning"):
        rising = [
            board.curve(f"{task}, mixtures", seed, "accuracy", "experts").value for seed in _seeds(board)
        ]
        one, most = [values[0] for values in rising], [values[-1] for values in rising]
        dense = board.last(f"{task}, {TOTAL}", "accuracy", "experts")
        found[f"{task}_gain"] = paired(most, one, "share of answers")
        found[f"{task}.one_expert"] = over_seeds(one, "share of answers")
        found[f"{task}.most_experts"] = over_seeds(most, "share of answers")
        found[f"{task}.dense_total"] = over_seeds(dense, "share of answers")
        found[f"{task}_against_dense_total"] = paired(most, dense, "share of answers")
    bits = [board.curve("facts, mixtures", seed, "bits", "experts").value for seed in _seeds(board)]
    found["facts_bits_gain"] = paired([b[-1] for b in bits], [b[0] for b in bits], "bits a fact")
    return found


def _seeds(board: Board) -> list[int]:
    return board.seeds("facts, mixtures")
