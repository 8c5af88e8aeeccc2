"""Layout: one way of using the devices: equal groups, how each splits the model, what a device then holds."""

from __future__ import annotations

from contextlib import suppress
from functools import cache as once
from functools import lru_cache
from math import floor
from typing import NamedTuple

from moe_core.decide.clock import Clock, Reading
from moe_core.decide.pair import Candidate
from moe_core.decide.spec import DecideSpec
from moe_core.errors import InfeasibleError
from moe_core.perf import memory
from moe_core.perf.fit import last
from moe_core.perf.memory import Model, Workload
from moe_core.perf.precision import Format, Precision
from moe_core.perf.shard import Parallel, shard, share

MOST = 65_536  # sequences at once on one group
WIDEST = 256  # devices of one group
NODE = 8


class Layout(NamedTuple):
    """`replicas` groups of devices, each split by `parallel`; `weights` are bytes of the fullest device."""

    parallel: Parallel
    replicas: float
    held: Model
    weights: int
    kv: Format
    clock: Clock

    def each(self, batch: float) -> float:
        """Sequences of one group when `batch` are spread over all; a group that works has at least one."""
        return max(batch / self.replicas, 1.0)

    def need(self, batch: float, context: float) -> float:
        """Bytes of the fullest device. Between whole batches a straight line."""
        many = self.each(batch)
        low = floor(many)
        held = self.weights + self.working(low, context)
        if many == low:
            return held
        return held + (many - low) * (self.weights + self.working(low + 1, context) - held)

    def room(self, usable: int, context: float) -> float:
        """Sequences of `context` tokens that fit, all groups together; a fraction where not one does."""
        named = _Named(f"{self.clock.key} {self.parallel}", self.held)
        whole = max(round(context), 1)
        return self.replicas * _room(named, self.parallel, self.kv, usable - self.weights, whole)

    def working(self, batch: int, context: float) -> int:
        """Bytes beside the weights on the fullest device."""
        return _working(self.held, self.parallel, self.kv, batch, max(round(context), 1))

    def decode(self, batch: float, past: float) -> Reading:
        """One token for each of `batch` sequences over all groups."""
        return self.clock.decode(self.each(batch), past)

    @property
    def words(self) -> str:
        """`2 × (tensor 8)`, `tensor 8, expert 16`, `one device`."""
        ways = [f"{name} {n}" for name, n in self.parallel.model_dump().items() if n > 1]
        group = ", ".join(ways) or "one device"
        return group if self.replicas == 1 else f"{self.replicas:g} × ({group})"


def layouts(
    candidate: Candidate, spec: DecideSpec, devices: int, load: tuple[float, ...] | None
) -> tuple[Layout, ...]:
    """Every layout of so many devices. Raises InfeasibleError where the model cannot be split so."""
    asked = [spec.parallel] if spec.parallel and candidate.kind == "mixture" else _ways(candidate, devices)
    found = []
    for parallel in asked:
        with suppress(InfeasibleError):  # heads or experts do not divide so
            held, weights = _held(candidate, parallel, spec.formats)
            clock = Clock(
                *(candidate.architecture, candidate.key, spec.device, spec.formats, spec.kv),
                *(parallel, spec.framework, load if candidate.kind == "mixture" else None),
            )
            found.append(Layout(parallel, devices / parallel.devices, held, weights, spec.kv, clock))
    if not found:
        raise InfeasibleError(f"{candidate.name} cannot be split over {devices} devices")
    return tuple(found)


def _ways(candidate: Candidate, devices: int) -> list[Parallel]:
    """Groups of a power of two that divides the devices: tensors split, experts split, both."""
    sizes = [2**i for i in range(WIDEST.bit_length()) if 2**i <= min(devices, WIDEST) and devices % 2**i == 0]
    found: dict[Parallel, None] = {}
    for size in sizes:
        found[Parallel(tensor=size)] = None
        if candidate.kind == "mixture":
            found[Parallel(tensor=min(size, NODE), expert=size)] = None
            found[Parallel(expert=size)] = None
    return list(found)


def _held(candidate: Candidate, parallel: Parallel, precision: Precision) -> tuple[Model, int]:
    return _sharded(_Named(candidate.key, candidate.model), parallel, precision)


class _Named:
    """A model that is hashed by its key."""

    def __init__(self, key: str, model: Model) -> None:
        self.key, self.model = key, model

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and self.key == other.key


def _working(held: Model, parallel: Parallel, kv: Format, batch: int, context: int) -> int:
    asked = Workload.model_construct(batch=batch, context=context, chunk=8192)
    return sum(memory.working(held, share(asked, parallel), kv))


@lru_cache(maxsize=20_000)
def _room(named: _Named, parallel: Parallel, kv: Format, spare: int, context: int) -> float:
    """Sequences that fit into `spare` bytes of one group's fullest device; it takes a search."""

    def cost(batch: int) -> int:
        return _working(named.model, parallel, kv, batch, context)

    if cost(1) > spare:
        return max(spare / cost(1), 0.0)
    most = last(cost, spare, MOST)
    low, high = cost(most), cost(most + 1)
    return most + min((spare - low) / max(high - low, 1), 1.0)


@once
def _sharded(named: _Named, parallel: Parallel, precision: Precision) -> tuple[Model, int]:
    held = shard(named.model, parallel)
    return held, sum(memory.weights(held.parameters.breakdown, precision).values())
