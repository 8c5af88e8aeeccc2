"""Layout: one way of using the devices: equal groups, how each splits the model, what a device then holds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from math import ceil, floor
from operator import itemgetter
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
        return self.parallel.times(self.replicas)


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
    every = ((many, _group(way, parallel)) for many, parallel in _groups(way) if many <= devices)
    found = tuple(one._replace(replicas=devices // many) for many, one in every if one is not None)
    if not found:
        raise InfeasibleError(f"{way.candidate.name} cannot be split over {devices} devices")
    return found


def instances(way: Way, least: int = 1) -> Iterator[Layout]:
    """Single groups of `least` to `WIDEST` devices, small ones first, each built when it is asked for."""
    for many, parallel in sorted(_groups(way), key=itemgetter(0)):
        one = _group(way, parallel) if many >= least else None
        if one is not None:
            yield one


def fewest(way: Way, batch: float, context: float, usable: int) -> int | None:
    """The fewest devices, any whole number, of which some layout holds so many sequences; None: none do.

    However a model is split, all groups together hold its weights once each and every sequence: a layout
    that could not be better by that is not looked at.
    """
    model, best = way.candidate.model, WIDEST + 1
    weights = sum(memory.weights(model.parameters.breakdown, way.formats).values())
    kept = batch * model.cache.sequence_bytes(max(round(context), 1), way.kv)
    for one in instances(way, floor(weights / max(usable, 1)) + 1):
        most, beside = (best - 1) // one.devices, one.devices * usable - weights
        least = max(ceil(kept / beside - 1e-9), 1) if beside > 0 else most + 1
        if most == 0:
            break

        def holds(groups: int, one: Layout = one) -> bool:
            return one._replace(replicas=groups).holds(batch, context, usable)

        if least <= most and (holds(least) or holds(most)):
            best = (least + bisect_left(range(least, most), True, key=holds)) * one.devices
    return best if best <= WIDEST else None


@lru_cache(maxsize=4096)
def _groups(way: Way) -> tuple[tuple[int, Parallel], ...]:
    """Ways of one group, each after its devices."""
    every = _ways(way.candidate.architecture) if way.asked is None else [way.asked]
    return tuple((parallel.devices, parallel) for parallel in every)


@lru_cache(maxsize=50_000)
def _group(way: Way, parallel: Parallel) -> Layout | None:
    """One such group; None where the model cannot be split so."""
    candidate, spec = way.candidate, way.spec
    if refused(candidate.model, parallel, way.formats):
        return None
    model, weights = _sharded(_Named(candidate.key, candidate.model), parallel, way.formats)
    clock = Clock(
        *(candidate.architecture, candidate.key, spec.listed, way.formats, way.kv),
        *(parallel.model_copy(update={"pipeline": 1}), spec.framework, way.load),
    )
    return Layout(parallel, 1, Fullest(candidate.key, model, parallel, way.kv), weights, clock)


def _ways(arch: Architecture) -> list[Parallel]:
    """Ways of a group, the same whatever the number of devices: nothing is lost with one more.

    Powers of two over tensors, experts or both; other numbers of tensor ways where the heads divide so; and
    stages of few tensor ways.
    """
    found: dict[Parallel, None] = {}
    for size in (2**i for i in range(WIDEST.bit_length())):
        found |= dict.fromkeys(split(size, arch.experts is not None))
    odd = [Parallel(tensor=ways) for ways in _ODD if arch.attention.heads % ways == 0]
    stages = _stages(arch.layers)
    return [*found, *odd, *(Parallel(tensor=ways, pipeline=many) for ways in _STAGES for many in stages)]


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
    return own * _sequence(held, context) + memory.activations(held.model.inner, asked)


@lru_cache(maxsize=20_000)
def _sequence(held: Fullest, context: int) -> int:
    return held.model.cache.all_bytes(context, held.kv)


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
