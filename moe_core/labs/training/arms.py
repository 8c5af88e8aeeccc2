"""Arms: what is compared. Each is a model, a way to balance and a source of text; all are watched alike.

Two settings: *quick* fits into a minute of one core beside other work; *full* is what reference runs are made
with. Seeds pair arms: the same seed gives the same first weights (where shapes agree) and the same bytes.
Legend: L layers, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from moe_core.labs.training import corpus
from moe_core.labs.training.board import Board
from moe_core.labs.training.corpus import TextWindow
from moe_core.labs.training.loop import Recipe, TrainStep, train
from moe_core.labs.training.measures import LoadSummary, LoadWindow, sampling_floor
from moe_core.labs.training.strategies import NOTHING, ROUTERS, Balancing, biases
from moe_core.nn.model import Decoder, initialise
from moe_core.nn.moe import MoE
from moe_core.nn.observe import RoutingLog
from moe_core.nn.routing import Routing
from moe_core.specs import GQA, Architecture, Experts, Router, RunSpec, Training


class TrainSize(NamedTuple):
    """How large an experiment is: the model, a step's text, how many steps and seeds, what is held out.

    width: of an expert, or of what the experts of a token have together; a lab says which.
    """

    hidden: int
    layers: int
    width: int
    batch: int
    seq: int
    steps: int
    seeds: int
    heldout: int  # bytes of each domain
    windows: int = 20  # along the steps, after each of which the load is summed up

    @property
    def tokens(self) -> int:
        """Of one step."""
        return self.batch * self.seq


QUARTER = 0.25  # of the steps, the last ones: what is told of a load is its mean over them
SIZES = {
    "quick": TrainSize(hidden=64, layers=2, width=64, batch=8, seq=128, steps=150, seeds=1, heldout=2048),
    "full": TrainSize(hidden=96, layers=3, width=96, batch=16, seq=128, steps=600, seeds=3, heldout=8192),
}


def rules(size: TrainSize, **fixed: object) -> dict[str, object]:
    """What was fixed before a run whose loads are told over their last quarter."""
    return {**fixed, "window": QUARTER, "size": size._asdict()}


def settings(spec: RunSpec) -> Training:
    """The training part of an experiment's question, which always has one."""
    assert spec.training is not None, "an experiment has settings"
    return spec.training


def seeds(spec: RunSpec, size: TrainSize) -> range:
    """The seeds that are run: from the question's own on."""
    return range(spec.seed, spec.seed + (settings(spec).seeds or size.seeds))


def dense(size: TrainSize, width: int) -> Architecture:
    """A dense model of that size."""
    return Architecture(name=f"dense-{width}", ffn_width=width, **_common(size))  # type: ignore[arg-type]


def mixture(
    size: TrainSize, experts: int, top_k: int, width: int, shared: int = 0, router: Router | None = None
) -> Architecture:
    """A mixture of that size; `width` is that of one expert."""
    spec = Experts(count=experts, top_k=top_k, width=width, shared=shared, router=router or ROUTER)
    name = f"{experts}x{top_k}" + (f"+{shared}" if shared else "")
    return Architecture(name=name, experts=spec, **_common(size))  # type: ignore[arg-type]


ROUTER = ROUTERS["softmax"]


def _common(size: TrainSize) -> dict[str, object]:
    heads = max(1, size.hidden // 32)
    attention = GQA(heads=heads, kv_heads=heads, head_dim=32)
    return {
        "hidden": size.hidden,
        "layers": size.layers,
        "vocab": 256,
        "attention": attention,
        "tied": True,
        "max_positions": 1024,
    }


@dataclass(frozen=True)
class Arm:
    """One thing that is trained. `by_domain`: a step's sequences are sorted, so that parts are alike."""

    name: str
    arch: Architecture
    balancing: Balancing = field(default=NOTHING)
    micro: int = 1
    by_domain: bool = False
    extra: Callable[[list[Routing]], Tensor] | None = None


class Trained(NamedTuple):
    """An arm after training, and its loss on held-out text in nats a byte."""

    model: Decoder
    loss: float


PEAK = 3e-3


def run(
    board: Board,
    arms: Sequence[Arm],
    size: TrainSize,
    *,
    after: Callable[[Arm, int, Trained], None] = lambda arm, seed, trained: None,
    span: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Train every arm with every seed, watched; `after` is told of each, with its trained model.

    span: the part of the experiment that this is, as shares of its progress.
    """
    every = [(arm, seed) for seed in seeds(board.spec, size) for arm in arms]
    for number, (arm, seed) in enumerate(every):
        for share, trained in one(board, arm, seed, size):
            board.step(span[0] + (span[1] - span[0]) * (number + share) / len(every))
            if trained is not None:
                after(arm, seed, trained)


def one(
    board: Board,
    arm: Arm,
    seed: int,
    size: TrainSize,
    model: Decoder | None = None,
    text: Iterator[TextWindow] | None = None,
    recipe: Recipe | None = None,
) -> Iterator[tuple[float, Trained | None]]:
    """Train one arm, fresh weights unless `model` is given; yields the share done, at last the result.

    text: what is read instead of the whole corpus by seed; recipe: how, instead of the arm's own way.
    """
    if model is None:
        model = Decoder(arm.arch)
        initialise(model, seed)
    if recipe is None:
        recipe = Recipe(steps=size.steps, peak=PEAK, micro=arm.micro, balancing=arm.balancing)
    told = _Watch(board, arm, seed, size, model)
    source = text or corpus.windows(size.batch, size.seq, seed)
    source = told.listening(map(corpus.by_domain, source) if arm.by_domain else source)
    for step in train(model, recipe, source, arm.extra):
        told.see(step)
        yield (step.number + 1) / size.steps, None
    loss = evaluate(model, size)
    board.put(arm.name, seed, "heldout", size.steps, loss)
    yield 1.0, Trained(model.eval(), loss)


def evaluate(model: Decoder, size: TrainSize) -> float:
    """Nats a byte on held-out text, the same for every arm and seed."""
    return corpus.bits_per_byte(model, corpus.heldout(size.heldout, size.seq)) * corpus.NATS


def heldout_load(model: Decoder, size: TrainSize) -> LoadSummary:
    """How the experts of a trained mixture are used on held-out text, of which every domain has as much."""
    window, log = corpus.shuffled(corpus.heldout(size.heldout, size.seq)), RoutingLog()
    corpus.bits_per_byte(model, window, log)
    layers, seen = sum(isinstance(ffn, MoE) for ffn in model.feed_forwards), LoadWindow(len(corpus.domains()))
    for number, domains_B in enumerate(window.domains_B.split(corpus.SEPARATE)):
        seen.add([routing for _, routing in log.seen[number * layers : (number + 1) * layers]], domains_B)
    return seen.sum_up()


class _Watch:
    """Writes down losses of every step, loads of every window of steps, biases that a rule moves."""

    def __init__(self, board: Board, arm: Arm, seed: int, size: TrainSize, model: Decoder) -> None:
        self._board, self._name, self._seed, self._size = board, arm.name, seed, size
        self._biases = biases(model)[:1] if arm.balancing.rule else []  # of the first mixture layer
        self._every = max(1, size.steps // size.windows)
        self._loads = LoadWindow(len(corpus.domains()))
        self._domains_B: Tensor | None = None
        self._losses: list[float] = []

    def listening(self, source: Iterator[TextWindow]) -> Iterator[TextWindow]:
        """The same windows; which domains they are of is kept."""
        for window in source:
            self._domains_B = window.domains_B
            yield window

    def see(self, step: TrainStep) -> None:
        self._losses.append(step.loss)
        if step.routings:
            assert self._domains_B is not None
            self._loads.add(step.routings, self._domains_B)
        if (step.number + 1) % self._every == 0:
            self._sum_up(step)

    def _sum_up(self, step: TrainStep) -> None:
        at = step.number + 1
        self._put("loss", at, sum(self._losses) / len(self._losses))
        self._losses.clear()
        if not step.routings:
            return
        found = self._loads.sum_up()
        self._put("maxvio_step", at, found.step)
        self._put("maxvio_window", at, found.window)
        self._put("effective", at, found.effective)
        self._put("router_effective", at, found.router_effective)
        self._put("dead", at, found.dead)
        self._put("mutual_information", at, found.information)
        self._board.load(self._name, self._seed, at, found.loads_LE)
        for bias_E in self._biases:
            for expert, bias in enumerate(bias_E.tolist()):
                self._put(f"bias.{expert}", at, bias)

    def _put(self, metric: str, at: int, value: float) -> None:
        self._board.put(self._name, self._seed, metric, at, value)


def floor(board: Board, arm: str, size: TrainSize, experts: int, top_k: int) -> float:
    """The sampling floor of MaxVio per step, drawn beside it as an arm of its own; its mean."""
    mean, high = sampling_floor(size.tokens, experts, top_k)
    for step in (1, size.steps):
        board.put(arm, board.spec.seed, "maxvio_step", step, mean)
        board.put(arm, board.spec.seed, "maxvio_step_p95", step, high)
    return mean


def late(board: Board, arm: str, metric: str) -> list[float]:
    """The mean of a metric over the last quarter of the steps, one value a seed: what is told of a load."""
    found = []
    for seed in board.seeds(arm):
        values = board.curve(arm, seed, metric).value
        found.append(sum(part := values[-max(1, round(len(values) * QUARTER)) :]) / len(part))
    return found
