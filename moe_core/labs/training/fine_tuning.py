"""E7: which experts change when one domain is trained, and what is forgotten?

A mixture and a dense model of equal active size learn every domain but one; then that one alone is trained
on, with different parts of the model free to move, from the same weights on the same bytes.
Published: routing of one task is concentrated on few experts, and training those alone with the router frozen
keeps what was known (ESFT, arXiv 2407.01906); on small tasks, training the non-expert parts alone is as good
as all of them, and the expert layers alone clearly worse (ST-MoE, arXiv 2202.08906).
Fixed before the run: the new domain; relevant experts of a layer are the fewest that have RELEVANT of its
routed pairs on new text (ESFT's token score and threshold; there the router is frozen, here it moves with
them); no balancing and no weight decay while fine-tuning, so that what gets no gradient stays as it is, bit
by bit. An update is the norm of an expert's change; its Gini coefficient is taken in each layer and averaged.
AdamW evens updates out: an expert that sees few tokens still moves by about the rate. Drift is KL(before ||
after) of a token's gate distribution over all experts, the mean over layers and tokens of held-out old text.
Held-out text is read before, and after each quarter of the steps; forgetting is its loss after less before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from moe_core.labs.training import arms, corpus
from moe_core.labs.training.arms import Arm, TrainSize
from moe_core.labs.training.board import Board
from moe_core.labs.training.corpus import TextWindow
from moe_core.labs.training.loop import Recipe
from moe_core.labs.training.statistics import Finding, over_seeds, paired
from moe_core.labs.training.strategies import Balancing
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.nn.observe import RoutingLog
from moe_core.nn.routing import Routing
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec

NEW = "markup"  # the domain that is learned last, and alone
EXPERTS, TOP_K = 16, 2
ALPHA = 0.01  # of the Switch loss, before fine-tuning only
PEAK = 1e-3  # of fine-tuning: a third of the rate before
RELEVANT = 0.2  # ESFT's threshold for token scores
CHECKS = 4
NEW_TEXT = 1_000_000  # on top of the seed

# Width is that of the experts of a token together, and of the dense model.
SIZES = {
    "quick": TrainSize(hidden=64, layers=2, width=64, batch=8, seq=128, steps=48, seeds=1, heldout=2048),
    "full": TrainSize(hidden=96, layers=3, width=96, batch=16, seq=128, steps=300, seeds=3, heldout=8192),
}
BEFORE = {"quick": 140, "full": 1100}  # steps of training before

# -- what may move ---------------------------------------------------------------------------------


class ModelPart(NamedTuple):
    """What a parameter belongs to. `layer`: -1 outside all layers."""

    kind: Literal["router", "experts", "other"]
    layer: int


def part(name: str, mixture_layers: list[int]) -> ModelPart:
    """The part of the model that the parameter `name` belongs to."""
    pieces = name.split(".")
    layer = int(pieces[1]) if pieces[0] == "blocks" else -1
    if layer in mixture_layers and pieces[2] == "ffn":
        return ModelPart("router" if pieces[3] == "router" else "experts", layer)
    return ModelPart("other", layer)


Rule = Callable[[ModelPart, int], bool]  # (part, last mixture layer) -> whether it may move
ARMS: dict[str, Rule] = {
    "all": lambda part, last: True,
    "non-MoE only": lambda part, last: part.kind == "other",
    "experts only": lambda part, last: part.kind == "experts",
    "router frozen": lambda part, last: part.kind != "router",
    "last router": lambda part, last: part == ModelPart("router", last),
    "relevant experts": lambda part, last: part.kind != "other",  # and the router
    "dense": lambda part, last: True,
}


def free(model: Decoder, rule: Rule, only: list[list[int]] | None = None) -> None:
    """Let move what `rule` lets; of each layer's experts, those of `only` where it is given."""
    layers = [layer for layer, ffn in enumerate(model.feed_forwards) if isinstance(ffn, MoE)]
    for name, parameter in model.named_parameters():
        here = part(name, layers)
        parameter.requires_grad_(rule(here, layers[-1] if layers else -1))
        if only is not None and here.kind == "experts":
            mask_E = torch.zeros(len(parameter))
            mask_E[only[layers.index(here.layer)]] = 1
            parameter.register_hook(lambda gradient, mask_E=mask_E: gradient * mask_E[:, None, None])


def relevant(routings: list[Routing], share: float = RELEVANT) -> list[list[int]]:
    """Of every layer the fewest experts that have `share` of the pairs, best first (ESFT)."""
    found = []
    for routing in routings:
        load_E = routing.load_E().double() / routing.token_ids_N.numel()
        order_E = load_E.argsort(descending=True, stable=True)
        enough = int((load_E[order_E].cumsum(0) < share - 1e-12).sum()) + 1
        found.append(order_E[:enough].tolist())
    return found


# -- what is measured ------------------------------------------------------------------------------


def gini(values: Tensor) -> float:
    """Gini's coefficient (1912): 0 when all are alike, 1 - 1 / n when one has everything. 0 for all zero."""
    sorted_N = values.double().sort().values
    total, count = float(sorted_N.sum()), len(sorted_N)
    if total == 0:
        return 0.0
    rank_N = torch.arange(1, count + 1, dtype=torch.float64)
    return float((2 * rank_N - count - 1) @ sorted_N) / (count * total)


def updates(before: Decoder, after: Decoder) -> list[Tensor]:
    """Of every mixture layer, the norm of what each expert's weights changed by, [E]."""
    found = []
    for old, new in zip(before.feed_forwards, after.feed_forwards, strict=True):
        if isinstance(old, MoE) and isinstance(new, MoE):
            gate_up_E = (new.gate_up_EGD - old.gate_up_EGD).detach().double().square().sum((1, 2))
            down_E = (new.down_EDF - old.down_EDF).detach().double().square().sum((1, 2))
            found.append((gate_up_E + down_E).sqrt())
    return found


def drift(before: list[Routing], after: list[Routing]) -> float:
    """Mean KL(before || after) of the gate distributions over tokens and layers, in nats."""
    found = []
    for old, new in zip(before, after, strict=True):
        old_TE, new_TE = (one.probabilities_TE().double().clamp_min(1e-300) for one in (old, new))
        found.append(float((old_TE * (old_TE.log() - new_TE.log())).sum(-1).mean()))
    return sum(found) / len(found)


@torch.no_grad()
def routings(model: Decoder, window: TextWindow) -> list[Routing]:
    """Of every mixture layer, for a whole window."""
    log = RoutingLog()
    model.eval()(window.ids_BS[:, :-1], observer=log)
    return [routing for _, routing in log.seen]


class HeldOut(NamedTuple):
    """Held-out text: of the domains known before, and of the new one."""

    old: TextWindow
    new: TextWindow

    @classmethod
    def of(cls, size: TrainSize) -> HeldOut:
        every = corpus.heldout(size.heldout, size.seq)
        known_B = every.domains_B != corpus.domains().index(NEW)
        old, new = (TextWindow(every.ids_BS[b], every.domains_B[b]) for b in (known_B, ~known_B))
        return cls(old, new)


def known(size: TrainSize, seed: int) -> Iterator[TextWindow]:
    """Endless windows of every domain but the new one."""
    number = corpus.domains().index(NEW)
    for window in corpus.windows(2 * size.batch, size.seq, seed):
        kept_B = (window.domains_B != number).nonzero().squeeze(1)[: size.batch]
        if len(kept_B) == size.batch:
            yield TextWindow(window.ids_BS[kept_B], window.domains_B[kept_B])


# -- the experiment --------------------------------------------------------------------------------


class Beginning(NamedTuple):
    """A model before fine-tuning, and what it routes where: old text, new text."""

    model: Decoder
    old: list[Routing]
    new: list[Routing]


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    setting = arms.settings(spec).setting
    size, before = SIZES[setting], SIZES[setting]._replace(steps=BEFORE[setting])
    rules = {
        **{"new": NEW, "experts": EXPERTS, "top_k": TOP_K, "alpha": ALPHA, "relevant": RELEVANT},
        **{"size": size._asdict(), "steps_before": before.steps, "peak": PEAK, "peak_before": arms.PEAK},
    }
    board = Board(spec, context, rules)
    seeds = arms.seeds(spec, size)
    total = 2 * (before.steps + 1) + len(ARMS) * (size.steps + 1)  # steps, and a result of each
    for number, seed in enumerate(seeds):
        for done, _ in enumerate(_seed(board, seed, size, before), start=1):
            board.step((number + done / total) / len(seeds))
    return board.publish(_findings(board), {arm.name: arm.arch for arm in beginnings(size)})


def beginnings(size: TrainSize) -> list[Arm]:
    """What is trained before: a mixture, and a dense model of its active size."""
    moe = arms.mixture(size, EXPERTS, TOP_K, size.width // TOP_K)
    return [Arm("moe", moe, Balancing(auxiliary=ALPHA)), Arm("dense", arms.dense(size, size.width))]


def _seed(board: Board, seed: int, size: TrainSize, before: TrainSize) -> Iterator[None]:
    """Everything of one seed; yields after every step."""
    text, begun = HeldOut.of(size), dict[str, Beginning]()
    for arm in beginnings(size):
        first = Arm(f"before, {arm.name}", arm.arch, arm.balancing)
        for _, trained in arms.one(board, first, seed, before, text=known(size, seed)):
            if trained is not None:
                model = trained.model
                begun[arm.name] = Beginning(model, routings(model, text.old), routings(model, text.new))
            yield
    _put_shares(board, seed, begun["moe"].new)
    for name in ARMS:
        start = begun["dense" if name == "dense" else "moe"]
        yield from _tuned(board, name, seed, size, start, text)


def _tuned(
    board: Board, name: str, seed: int, size: TrainSize, start: Beginning, text: HeldOut
) -> Iterator[None]:
    """Train `start` on new text with the parts free that arm `name` says; what came of it."""
    model = deepcopy(start.model)
    free(model, ARMS[name], relevant(start.new) if name == "relevant experts" else None)
    recipe = Recipe(steps=size.steps, peak=PEAK, decay=0.0)
    source = corpus.windows(size.batch, size.seq, seed + NEW_TEXT, only=NEW)
    checks = {round(size.steps * quarter / CHECKS) for quarter in range(1, CHECKS + 1)}
    _put_losses(board, name, seed, 0, model, text)
    arm = Arm(name, model.arch)
    for at, (_, trained) in enumerate(arms.one(board, arm, seed, size, model, source, recipe), start=1):
        if trained is None and at in checks:
            _put_losses(board, name, seed, at, model, text)
        yield
    if start.old:
        board.put(name, seed, "router_drift", size.steps, drift(start.old, routings(model, text.old)))
    changes = updates(start.model, model)
    for layer, update_E in enumerate(changes):
        for expert, update in enumerate(update_E.tolist()):
            board.put(name, seed, f"update.layer{layer}", expert, update, axis="expert")
    if changes:
        even = sum(gini(update_E) for update_E in changes) / len(changes)
        board.put(name, seed, "gini", size.steps, even)


def _put_losses(board: Board, name: str, seed: int, at: int, model: Decoder, text: HeldOut) -> None:
    for metric, window in (("old_loss", text.old), ("new_loss", text.new)):
        board.put(name, seed, metric, at, corpus.bits_per_byte(model, window) * corpus.NATS)


def _put_shares(board: Board, seed: int, new: Sequence[Routing]) -> None:
    """How the mixture routes new text before it has learned any of it, and how unevenly."""
    loads = [routing.load_E() for routing in new]
    for layer, load_E in enumerate(loads):
        for expert, load in enumerate((load_E / load_E.sum()).tolist()):
            board.put("before, moe", seed, f"share.layer{layer}", expert, load, axis="expert")
    even = sum(gini(load_E) for load_E in loads) / len(loads)
    board.put("before, moe", seed, "gini", 0, even)


def _findings(board: Board) -> dict[str, Finding]:
    found = {
        "gini.updates": over_seeds(board.last("all", "gini")),
        "gini.load": over_seeds(board.last("before, moe", "gini")),
    }
    for name in ARMS:
        key = name.lower().replace("-", "_").replace(" ", "_")
        after = board.last(name, "old_loss")
        before = [board.curve(name, seed, "old_loss").value[0] for seed in board.seeds(name)]
        found[f"forgetting.{key}"] = paired(after, before, "nats")
        found[f"new_loss.{key}"] = over_seeds(board.last(name, "new_loss"), "nats")
        if name != "dense":
            found[f"router_drift.{key}"] = over_seeds(board.last(name, "router_drift"), "nats")
    return found
