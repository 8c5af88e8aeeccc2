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
from moe_core.perf import memory
from moe_core.perf.fit import WIDEST, last, ways
from moe_core.perf.memory import Model, Workload
from moe_core.perf.precision import Format, Precision
from moe_core.perf.shard import Parallel, shard

MOST = 65_536  # sequences at once on one group


class Layout(NamedTuple):
    """`replicas` groups of devices, each split by `parallel`; `weights` are bytes of the fullest device."""

    parallel: Parallel
    replicas: float
    held: Fullest
    weights: int
    clock: Clock

    def each(self, batch: float) -> float:
        """Sequences of one group when `batch` are spread over all; a group that works has at least one."""
        return max(batch / self.replicas, 1.0)

    def need(self, batch: float, context: float) -> float:
        """Bytes of the fullest device. Between whole batches a straight line."""
        many, whole = self.each(batch), max(round(context), 1)
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
        return self.clock.decode(self.each(batch), past)

    @property
    def words(self) -> str:
        """`2 × (tensor 8)`, `tensor 8, expert 16`, `one device`."""
        ways = [f"{name} {n}" for name, n in self.parallel.model_dump().items() if n > 1]
        group = ", ".join(ways) or "one device"
        return group if self.replicas == 1 else f"{self.replicas:g} × ({group})"


class Way:
    """What decides a candidate's layouts, the number of devices apart. Equal by value, hashed once."""

    __slots__ = ("candidate", "formats", "hash", "kv", "load", "name", "spec")

    def __init__(self, candidate: Candidate, spec: DecideSpec, load: tuple[float, ...] | None) -> None:
        sparse = candidate.kind == "mixture"
        self.candidate, self.spec, self.load = candidate, spec, load if sparse else None
        self.formats, self.kv = spec.formats(candidate.architecture), spec.cache(candidate.architecture)
        self.name = (
            *(candidate.key, candidate.name, self.load, (self.formats, self.kv)),
            *(spec.listed.name, spec.framework),
            spec.parallel if sparse else None,
        )
        self.hash = hash(self.name)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Way) and self.name == other.name)


def layouts(way: Way, devices: int) -> tuple[Layout, ...]:
    """Every layout of so many devices. Raises InfeasibleError where the model cannot be split so."""
    found = _layouts(way, devices)
    if not found:
        raise InfeasibleError(f"{way.candidate.name} cannot be split over {devices} devices")
    return found


@lru_cache(maxsize=10_000)
def groups(way: Way, devices: int) -> tuple[Layout, ...]:
    """Those that make one group of all devices; none where the model cannot be split so."""
    return tuple(one for one in _layouts(way, devices) if one.replicas == 1)


@lru_cache(maxsize=10_000)
def _layouts(way: Way, devices: int) -> tuple[Layout, ...]:
    candidate, spec = way.candidate, way.spec
    asked = [spec.parallel] if spec.parallel and candidate.kind == "mixture" else _ways(candidate, devices)
    found = []
    for parallel in asked:
        with suppress(InfeasibleError):  # heads or experts do not divide so
            model, weights = _sharded(_Named(candidate.key, candidate.model), parallel, way.formats)
            clock = Clock(
                *(candidate.architecture, candidate.key, spec.listed, way.formats, way.kv),
                *(parallel, spec.framework, way.load),
            )
            held = Fullest(candidate.key, model, parallel, way.kv)
            found.append(Layout(parallel, devices / parallel.devices, held, weights, clock))
    return tuple(found)


def _ways(candidate: Candidate, devices: int) -> list[Parallel]:
    """Groups of a power of two that divides the devices: tensors split, experts split, both."""
    sizes = [2**i for i in range(WIDEST.bit_length()) if 2**i <= min(devices, WIDEST) and devices % 2**i == 0]
    found: dict[Parallel, None] = {}
    for size in sizes:
        found |= dict.fromkeys(ways(size, candidate.kind == "mixture"))
    return list(found)


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
        self.name = (key, parallel.tensor, parallel.expert, kv)
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
    held = shard(named.model, parallel)
    return held, sum(memory.weights(held.parameters.breakdown, precision).values())
