"""Layout: one way of using the devices: equal groups, how each splits the model, what a device then holds."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from math import ceil, floor
from typing import NamedTuple

from moe_core.decide.clock import Clock, Reading
from moe_core.decide.pair import Candidate
from moe_core.decide.spec import DecideSpec
from moe_core.errors import InfeasibleError
from moe_core.formats import Format
from moe_core.perf import memory
from moe_core.perf.fit import WIDEST, last, split
from moe_core.perf.memory import Model, Workload
from moe_core.perf.shard import Parallel, refused, shard
from moe_core.specs import Architecture, Precision

MOST = 65_536  # sequences at once on one group
MOST_STAGES = 64
_STAGES = (1, 2, 4, 8)  # tensor ways of a stage: those inside a node
_ODD = (3, 5, 6, 7, 10, 12, 14)


class Layout(NamedTuple):
    """`replicas` groups of devices, each split by `parallel`; `weights` are bytes of the fullest device.

    A pipeline works on as many batches as it has stages, each on its way through all of them: in time it is
    as many groups of one stage, which hand on what they have computed; in memory it holds all of them.
    """

    parallel: Parallel
    replicas: int
    held: Fullest
    weights: int
    clock: Clock

    @property
    def devices(self) -> int:
        """Of all groups."""
        return self.parallel.devices * self.replicas

    @property
    def streams(self) -> int:
        """Batches at once."""
        return self.replicas * self.parallel.pipeline

    def each(self, batch: float) -> float:
        """Sequences of one batch when `batch` are spread over all; one that works has at least one."""
        return max(batch / self.streams, 1.0)

    def beside(self, batch: float) -> float:
        """Sequences that one group holds."""
        return max(batch / self.replicas, 1.0)

    def need(self, batch: float, context: float) -> float:
        """Bytes of the fullest device. Between whole batches a straight line."""
        many, whole = self.beside(batch), max(round(context), 1)
        low = floor(many)
        held = self.weights + _working(self.held, low, whole)
        if many == low:
            return held
        return held + (many - low) * (self.weights + _working(self.held, low + 1, whole) - held)

    def holds(self, batch: float, context: float, usable: int) -> bool:
        """Whether the fullest device has room for it."""
        return self.weights <= usable and self.need(batch, context) <= usable

    def room(self, usable: int, context: float) -> float:
        """Sequences of `context` tokens that fit, all groups together; a fraction where not one does."""
        whole = max(round(context), 1)
        return self.replicas * _room(self.held, usable - self.weights, whole)

    def decode(self, batch: float, past: float) -> Reading:
        """One token for each of `batch` sequences over all groups."""
        each = self.each(batch)
        return self._staged(self.clock.decode(each, past), each)

    def first(self, prompt: float, past: float) -> Reading:
        """One prompt alone."""
        return self._staged(self.clock.first(prompt, past), prompt)

    def prompt(self, prompt: float, past: float) -> Reading:
        """One prompt among enough others to fill the devices of a stage."""
        return self._staged(self.clock.prefill(prompt, past), prompt)

    def _staged(self, found: Reading, tokens: float) -> Reading:
        """With the pace of the fullest stage, and what stages send each other."""
        stages, layers = self.parallel.pipeline, self.clock.architecture.layers
        if stages == 1:
            return found
        worked = found.seconds * ceil(layers / stages) * stages / layers
        sent = (stages - 1) * self.clock.hop(tokens)
        seconds = worked + sent
        return found._replace(seconds=seconds, network=(found.network * worked + sent) / seconds)

    @property
    def words(self) -> str:
        """`2 × (tensor 8)`, `tensor 8, expert 16`, `one device`."""
        group = self.parallel.words
        return group if self.replicas == 1 else f"{self.replicas} × ({group})"


class Way:
    """What decides a candidate's layouts, the number of devices apart. Equal by value, hashed once."""

    __slots__ = ("asked", "candidate", "formats", "hash", "kv", "load", "name", "spec")

    def __init__(self, candidate: Candidate, spec: DecideSpec, load: tuple[float, ...] | None) -> None:
        sparse = candidate.kind == "mixture"
        self.candidate, self.spec, self.load = candidate, spec, load if sparse else None
        self.asked = spec.parallel if sparse else None
        self.formats, self.kv = spec.formats(candidate.architecture), spec.cache(candidate.architecture)
        self.name = (
            *(candidate.key, candidate.name, self.load, (self.formats, self.kv)),
            *(spec.listed.name, spec.framework),
            self.asked,
        )
        self.hash = hash(self.name)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Way) and self.name == other.name)


@lru_cache(maxsize=10_000)
def layouts(way: Way, devices: int) -> tuple[Layout, ...]:
    """Every layout of at most so many devices. Raises InfeasibleError where the model cannot be split so."""
    asked = _ways(way.candidate.architecture, devices) if way.asked is None else [way.asked]
    every = (_layout(way, parallel, devices) for parallel in asked if parallel.devices <= devices)
    found = tuple(one for one in every if one is not None)
    if not found:
        raise InfeasibleError(f"{way.candidate.name} cannot be split over {devices} devices")
    return found


@lru_cache(maxsize=10_000)
def instances(way: Way, most: int) -> tuple[Layout, ...]:
    """Every single group of at most so many devices; none where the model cannot be split so."""
    with suppress(InfeasibleError):
        found = (_layout(way, one.parallel, one.parallel.devices) for one in layouts(way, most))
        return tuple(one for one in found if one is not None)
    return ()


@lru_cache(maxsize=50_000)
def _layout(way: Way, parallel: Parallel, devices: int) -> Layout | None:
    """As many such groups as there are devices for; None where the model cannot be split so."""
    candidate, spec = way.candidate, way.spec
    if refused(candidate.model, parallel, way.formats):
        return None
    model, weights = _sharded(_Named(candidate.key, candidate.model), parallel, way.formats)
    clock = Clock(
        *(candidate.architecture, candidate.key, spec.listed, way.formats, way.kv),
        *(parallel.model_copy(update={"pipeline": 1}), spec.framework, way.load),
    )
    held = Fullest(candidate.key, model, parallel, way.kv)
    return Layout(parallel, devices // parallel.devices, held, weights, clock)


def _ways(arch: Architecture, devices: int) -> list[Parallel]:
    """Groups of at most so many devices, the same whatever their number: nothing is lost with one more.

    Powers of two over tensors, experts or both; other numbers of tensor ways where the heads divide so; and
    stages of few tensor ways.
    """
    most = min(devices, WIDEST)
    found: dict[Parallel, None] = {}
    for size in (2**i for i in range(most.bit_length())):
        found |= dict.fromkeys(split(size, arch.experts is not None))
    odd = [Parallel(tensor=ways) for ways in _ODD if ways <= most and arch.attention.heads % ways == 0]
    staged = [
        Parallel(tensor=tensor, pipeline=stages)
        for tensor in _STAGES
        for stages in _stages(arch.layers)
        if tensor * stages <= devices
    ]
    return [*found, *odd, *staged]


@lru_cache(maxsize=4096)
def _stages(layers: int) -> tuple[int, ...]:
    """Numbers of stages, from two, of which none has a fuller stage than fewer of them would."""
    found = range(2, min(layers, MOST_STAGES) + 1)
    return tuple(stages for stages in found if ceil(layers / ceil(layers / stages)) == stages)


class _Named:
    """A model that is hashed by its key."""

    def __init__(self, key: str, model: Model) -> None:
        self.key, self.model = key, model

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and self.key == other.key


class Fullest:
    """What the fullest device of a layout holds: equal by model, split and format of the cache."""

    __slots__ = ("hash", "kv", "model", "name", "parallel")

    def __init__(self, key: str, model: Model, parallel: Parallel, kv: Format) -> None:
        self.model, self.parallel, self.kv = model, parallel, kv
        self.name = (key, parallel.tensor, parallel.expert, parallel.pipeline, kv)
        self.hash = hash(self.name)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Fullest) and self.name == other.name)


@lru_cache(maxsize=50_000)
def _working(held: Fullest, batch: int, context: int) -> int:
    """Bytes beside the weights for `batch` sequences of one group: the busiest device has its share."""
    own = ceil(batch / held.parallel.groups)
    asked = Workload.model_construct(batch=own, context=context, chunk=8192)
    return sum(memory.working(held.model, asked, held.kv))


@lru_cache(maxsize=20_000)
def _room(held: Fullest, spare: int, context: int) -> float:
    """Sequences that fit into `spare` bytes of one group's fullest device; it takes a search."""

    def cost(batch: int) -> int:
        return _working(held, batch, context)

    if cost(1) > spare:
        return max(spare / cost(1), 0.0)
    most = last(cost, spare, MOST)
    low, high = cost(most), cost(most + 1)
    return most + min((spare - low) / max(high - low, 1), 1.0)


@lru_cache(maxsize=4096)
def _sharded(named: _Named, parallel: Parallel, precision: Precision) -> tuple[Model, int]:
    held = shard(named.model, parallel, precision)
    return held, sum(memory.weights(held.parameters.breakdown, precision).values())
