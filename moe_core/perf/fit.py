"""Does it fit? On how many devices, up to which context, up to which batch.

`headroom` is the share of a device left to the framework, fragmentation and communication buffers.
Every function answers for the fullest device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from moe_core.errors import InfeasibleError
from moe_core.formats import Format
from moe_core.perf.comm import NODE
from moe_core.perf.memory import Footprint, Model, Workload, footprint, weights, working
from moe_core.perf.shard import Parallel, refused, shard, share
from moe_core.specs import Precision
from moe_core.units import quantity

HEADROOM = 0.05  # engines take 0.90 to 0.95 of what the driver reports; all of them can be told 0.95
WIDEST = 256  # devices of one group
_MOST = 10_000_000  # tokens or sequences: beyond any served context


class Fit(NamedTuple):
    """The verdict for one device count: bytes on the fullest device, bytes it may use."""

    parallel: Parallel
    footprint: Footprint
    usable: int

    @property
    def fits(self) -> bool:
        return self.footprint.total <= self.usable

    @property
    def spare(self) -> int:
        """Bytes left, negative when it does not fit."""
        return self.usable - self.footprint.total


class Setting(NamedTuple):
    """Everything that decides the bytes, but the workload and the number of devices."""

    model: Model
    precision: Precision = Precision()
    kv: Format = "bf16"
    headroom: float = HEADROOM


def usable(capacity: int, headroom: float = HEADROOM) -> int:
    """Bytes of a device that weights, cache and activations may take."""
    return int(capacity * (1 - headroom))


def fit(setting: Setting, workload: Workload, capacity: int, parallel: Parallel = Parallel()) -> Fit:
    """The fullest of `parallel.devices` devices. Raises InfeasibleError if it cannot be split so."""
    held = shard(setting.model, parallel, setting.precision)
    need = footprint(held, share(workload, parallel), setting.precision, setting.kv)
    return Fit(parallel, need, usable(capacity, setting.headroom))


def require(setting: Setting, workload: Workload, capacity: int, parallel: Parallel = Parallel()) -> Fit:
    """`fit`, but a no is an InfeasibleError that names both numbers."""
    found = fit(setting, workload, capacity, parallel)
    if not found.fits:
        raise InfeasibleError(_sentence(found, capacity))
    return found


def devices(
    setting: Setting, workload: Workload, capacity: int, most: int = WIDEST, staged: bool = True
) -> Fit:
    """The fewest devices it fits on, any whole number: split over tensors, experts or, if `staged`, stages.

    Raises InfeasibleError when `most` are not enough.
    """
    least = weights(setting.model.parameters.breakdown, setting.precision)
    fewest = max(sum(least.values()) // max(usable(capacity, setting.headroom), 1), 1)
    found = needs(setting, workload, most, fewest if fewest <= most else 1)
    return first(setting, (one for one in found if staged or one[0].pipeline == 1), capacity)


def needs(
    setting: Setting, workload: Workload, most: int = WIDEST, fewest: int = 1
) -> Iterator[tuple[Parallel, Footprint]]:
    """What the fullest device holds in every layout of `fewest` to `most` devices, fewest devices first.

    It does not depend on the device: what one capacity has used serves all of them.
    """
    for number in range(fewest, most + 1):
        for parallel in ways(number, setting.model.routing is not None):
            if refused(setting.model, parallel, setting.precision) is None:
                held = shard(setting.model, parallel, setting.precision)
                yield parallel, footprint(held, share(workload, parallel), setting.precision, setting.kv)


def first(setting: Setting, held: Iterable[tuple[Parallel, Footprint]], capacity: int) -> Fit:
    """The first of `needs` that fits a capacity. Raises InfeasibleError, naming the one that came nearest."""
    best: Fit | None = None
    for parallel, need in held:
        found = Fit(parallel, need, usable(capacity, setting.headroom))
        if found.fits:
            return found
        best = found if best is None or found.spare > best.spare else best
    if best is None:
        raise InfeasibleError(f"{setting.model.name} cannot be split over devices")
    raise InfeasibleError(f"{_sentence(best, capacity)}, even split over {best.parallel.devices}")


def longest_context(
    setting: Setting, workload: Workload, capacity: int, parallel: Parallel = Parallel()
) -> int:
    """The longest context that fits at the batch of `workload`; memory alone, not what was trained."""
    return _largest(setting, workload, capacity, parallel, "context")


def largest_batch(
    setting: Setting, workload: Workload, capacity: int, parallel: Parallel = Parallel()
) -> int:
    """The most sequences that fit at the context of `workload`."""
    return _largest(setting, workload, capacity, parallel, "batch")


def _largest(setting: Setting, workload: Workload, capacity: int, parallel: Parallel, field: str) -> int:
    least = fit(setting, workload.model_copy(update={field: 1}), capacity, parallel)
    if not least.fits:
        raise InfeasibleError(_sentence(least, capacity))
    held, spare = (
        shard(setting.model, parallel, setting.precision),
        least.usable - least.footprint.weights_total,
    )

    def cost(value: int) -> int:
        asked = share(workload.model_copy(update={field: value}), parallel)
        return sum(working(held, asked, setting.kv))  # the weights are the same for every value

    return last(cost, spare, _MOST)


def last(cost: Callable[[int], int], room: int, most: int) -> int:
    """The largest value in 1 .. most whose monotone `cost` is at most `room`; the cost of 1 is.

    Costs are close to straight lines, so it interpolates; every third step halves, whatever the curve.
    """
    low, high = 1, most
    below, above = cost(low), cost(high)
    if above <= room:
        return most
    step = 0
    while high - low > 1:
        step += 1
        straight = low + (room - below) * (high - low) // max(above - below, 1)
        middle = min(max(straight, low + 1), high - 1) if step % 3 else (low + high) // 2
        value = cost(middle)
        if value <= room:
            low, below = middle, value
        else:
            high, above = middle, value
    return low


@lru_cache(maxsize=1024)
def ways(number: int, sparse: bool) -> tuple[Parallel, ...]:
    """Ways to use `number` devices as one group, in the order they are tried: few stages before many."""
    found = dict.fromkeys(split(number, sparse))
    for stages in (n for n in range(2, number + 1) if number % n == 0):
        found |= dict.fromkeys(
            one.model_copy(update={"pipeline": stages}) for one in split(number // stages, sparse)
        )
    return tuple(found)


def split(number: int, sparse: bool) -> tuple[Parallel, ...]:
    """Ways to split layers over `number` devices, all of them in every layer."""
    tensor = Parallel(tensor=number)
    if not sparse or number == 1:
        return (tensor,)
    inside = max(n for n in range(1, NODE + 1) if number % n == 0)
    both = Parallel(tensor=inside, expert=number)
    return tuple(dict.fromkeys((tensor, both, Parallel(expert=number))))


def _sentence(found: Fit, capacity: int) -> str:
    need = quantity(found.footprint.total, "B")
    return f"needs {need}, the device has {quantity(capacity, 'B')} ({quantity(found.usable, 'B')} usable)"
