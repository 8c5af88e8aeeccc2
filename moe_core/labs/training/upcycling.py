"""E6: is a mixture made from a dense model the same at first, and better later?

A dense model is trained first. Then six arms read the same new bytes: the dense model itself for as many
tokens, and again for as many FLOPs; mixtures made from it (`nn.upcycle`): copies, virtual groups, copies with
half of each expert's neurons drawn anew; and a mixture of the same shape from scratch.
Published: upcycling beats continued dense training at equal tokens (arXiv 2410.07524: 67.6 against 65.3 MMLU
after 10^12 tokens, with more FLOPs a token); copies lead at first and fall behind a mixture from scratch
later, which drawing half anew mends (arXiv 2502.19261).
Fixed before the run: every arm warms up again to the same rate and decays to a tenth of it; all mixtures have
weights that add up to 1 and the Switch loss of ALPHA; held-out text is read at the start and after each fifth
of the steps, and "first" is the first fifth. FLOPs are those after the start: the dense model is given.
Errors at the start are those of feed-forward outputs, for inputs that the dense model really sees, in
float64: the norm of the difference over the norm of the dense output, the mean over the layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from moe_core.labs.training import arms, corpus
from moe_core.labs.training.arms import Arm, TrainSize
from moe_core.labs.training.board import Board
from moe_core.labs.training.statistics import Finding, over_seeds, paired
from moe_core.labs.training.strategies import Balancing
from moe_core.nn import upcycle
from moe_core.nn.model import Decoder, initialise
from moe_core.perf.training import step_flops
from moe_core.runs.context import RunContext
from moe_core.specs import Architecture, RunSpec

EXPERTS, TOP_K = 8, 2
SHARDS = 2  # of a virtual group, which makes experts half as wide and top-k twice as large
SHARE = 0.5  # of the neurons that are drawn anew
ALPHA = 0.01
CHECKS = 5  # readings of held-out text after the start
NEW_TEXT = 1_000_000  # on top of the seed: what the start reads is not read again in the same order

# Width is that of the dense model's feed-forward network, and of every copy of it.
SIZES = {
    "quick": TrainSize(hidden=64, layers=2, width=128, batch=8, seq=128, steps=80, seeds=1, heldout=1024),
    "full": TrainSize(hidden=96, layers=3, width=192, batch=16, seq=128, steps=480, seeds=3, heldout=8192),
}
START = {"quick": 90, "full": 300}  # steps of the dense model before: few, so that a crossing can be seen
DENSE, DENSE_FLOPS = "continued dense", "continued dense, equal FLOPs"
COPIES, GROUPS, DROP, SCRATCH = "copies", "virtual groups", "half drawn anew", "from scratch"


class Continued(NamedTuple):
    """One thing that is trained on, its first weights, and for how many steps."""

    arm: Arm
    model: Decoder
    size: TrainSize

    @property
    def flops(self) -> int:
        """Of a step."""
        return step_flops(self.arm.arch, self.size.batch, self.size.seq)


def continued(dense: Decoder, seed: int, size: TrainSize) -> list[Continued]:
    """Every arm, from the trained dense model on."""
    scratch = upcycle.copied(dense, EXPERTS, TOP_K, seed)
    initialise(scratch, seed)
    mixtures = {
        COPIES: upcycle.copied(dense, EXPERTS, TOP_K, seed),
        GROUPS: upcycle.virtual_groups(dense, EXPERTS, SHARDS, TOP_K * SHARDS, seed),
        DROP: upcycle.partly_drawn(dense, EXPERTS, TOP_K, seed, SHARE),
        SCRATCH: scratch,
    }
    balanced = Balancing(auxiliary=ALPHA)
    found = [Continued(Arm(name, m.arch, balanced), m, size) for name, m in mixtures.items()]
    same = Continued(Arm(DENSE, dense.arch), deepcopy(dense), size)
    longer = size._replace(steps=round(size.steps * found[0].flops / same.flops))
    return [same, Continued(Arm(DENSE_FLOPS, dense.arch), deepcopy(dense), longer), *found]


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    setting = arms.settings(spec).setting
    size, start = SIZES[setting], SIZES[setting]._replace(steps=START[setting])
    rules = {
        **{"experts": EXPERTS, "top_k": TOP_K, "shards": SHARDS, "share": SHARE, "alpha": ALPHA},
        **{"size": size._asdict(), "start_steps": start.steps, "checks": CHECKS, "peak": arms.PEAK},
    }
    board = Board(spec, context, rules)
    seeds = arms.seeds(spec, size)
    for number, seed in enumerate(seeds):
        for share in _seed(board, seed, size, start):
            board.step((number + share) / len(seeds))
    return board.publish(_findings(board), _architectures(size, seeds[0]))


def _seed(board: Board, seed: int, size: TrainSize, start: TrainSize) -> Iterator[float]:
    """Everything of one seed; yields the share done, after every step."""
    dense = Decoder(arms.dense(size, size.width))
    initialise(dense, seed)
    text = corpus.windows(size.batch, size.seq, seed + NEW_TEXT)
    total, done = start.steps + 7 * size.steps, 0  # nearly: only the bar moves by it
    for _ in arms.one(board, Arm("dense start", dense.arch), seed, start, dense, text):
        done += 1
        yield min(1.0, done / total)
    _put_errors(board, dense, seed)
    for one in continued(dense, seed, size):
        for _ in _trained(board, one, seed):
            done += 1
            yield min(1.0, done / total)


def _trained(board: Board, one: Continued, seed: int) -> Iterator[None]:
    """Train one arm on, held-out text read in between; its curves are then drawn over FLOPs too."""
    name, steps = one.arm.name, one.size.steps
    checks = {round(steps * part / CHECKS) for part in range(1, CHECKS)}
    board.put(name, seed, "heldout", 0, arms.evaluate(one.model, one.size))
    for at, (_, trained) in enumerate(arms.one(board, one.arm, seed, one.size, one.model), start=1):
        if at in checks and trained is None:
            board.put(name, seed, "heldout", at, arms.evaluate(one.model, one.size))
        yield
    for metric in ("loss", "heldout"):
        curve = board.curve(name, seed, metric)
        for x, value in zip(curve.x, curve.value, strict=True):
            board.put(name, seed, metric, x * one.flops, value, axis="flops")


def _put_errors(board: Board, dense: Decoder, seed: int) -> None:
    exact = deepcopy(dense).double().eval()
    for name, error in start_errors(exact, seed).items():
        board.put(name, seed, "start_error", 0, error)
    for k in range(1, EXPERTS + 1):
        error = relative_error(exact, upcycle.sharded(exact, EXPERTS, k, seed))
        board.put("shards", seed, "start_error", k, error, axis="top_k")


def start_errors(dense: Decoder, seed: int) -> dict[str, float]:
    """Name -> the relative error of a mixture that was not trained on. Exact ones are 0 but for rounding."""
    made = {
        COPIES: upcycle.copied(dense, EXPERTS, TOP_K, seed),
        "copies, raw softmax": upcycle.copied(dense, EXPERTS, TOP_K, seed, upcycle.RAW),
        "shards": upcycle.sharded(dense, EXPERTS, TOP_K, seed),
        GROUPS: upcycle.virtual_groups(dense, EXPERTS, SHARDS, TOP_K * SHARDS, seed),
        "virtual groups, not scaled": upcycle.virtual_groups(
            dense, EXPERTS, SHARDS, TOP_K * SHARDS, seed, scaled=False
        ),
        DROP: upcycle.partly_drawn(dense, EXPERTS, TOP_K, seed, SHARE),
    }
    return {name: relative_error(dense, mixture) for name, mixture in made.items()}


@torch.no_grad()
def relative_error(dense: Decoder, mixture: Decoder) -> float:
    """Of what the feed-forward parts give, the mean over the layers."""
    errors = []
    for ffn, moe, x in zip(dense.feed_forwards, mixture.feed_forwards, _inputs(dense), strict=True):
        right = ffn(x)
        errors.append(float((moe(x) - right).norm() / right.norm()))
    return sum(errors) / len(errors)


def _inputs(dense: Decoder) -> list[Tensor]:
    """What the feed-forward part of every layer reads, for a sequence of every domain's held-out text."""
    found: list[Tensor] = []
    hooks = [
        ffn.register_forward_pre_hook(lambda _, args: found.append(args[0])) for ffn in dense.feed_forwards
    ]
    dense(corpus.heldout(128, 128).ids_BS[:, :-1])
    for hook in hooks:
        hook.remove()
    return found


def _architectures(size: TrainSize, seed: int) -> dict[str, Architecture]:
    dense = Decoder(arms.dense(size, size.width))
    return {"moe": upcycle.copied(dense, EXPERTS, TOP_K, seed).arch, "dense": dense.arch}


def _findings(board: Board) -> dict[str, Finding]:
    errors = {
        **{"copy": COPIES, "copy_raw_softmax": "copies, raw softmax", "shards": "shards"},
        **{"virtual_groups": GROUPS, "virtual_groups_not_scaled": "virtual groups, not scaled", "drop": DROP},
    }
    found = {f"error.{name}": over_seeds(board.last(arm, "start_error")) for name, arm in errors.items()}

    def last(arm: str) -> list[float]:
        return board.last(arm, "heldout")

    def first(arm: str) -> list[float]:
        return [board.curve(arm, seed, "heldout").value[1] for seed in board.seeds(arm)]

    differences = {
        "tokens": (last(COPIES), last(DENSE)),
        "flops": (last(COPIES), last(DENSE_FLOPS)),
        "scratch_first": (first(SCRATCH), first(COPIES)),
        "scratch_last": (last(SCRATCH), last(COPIES)),
        "drop": (last(DROP), last(COPIES)),
        "virtual_groups": (last(GROUPS), last(COPIES)),
        "drop_tokens": (last(DROP), last(DENSE)),
        "drop_flops": (last(DROP), last(DENSE_FLOPS)),
    }
    return found | {f"loss_difference.{name}": paired(*pair, "nats") for name, pair in differences.items()}
