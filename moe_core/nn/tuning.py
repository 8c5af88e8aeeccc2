"""Tuning: what a short probe of a device found to be fast there. Plain data; whoever computes hands it down.

`moe_core.labs.tuning` measures it, `moe_core.runs.tuning` keeps it by device. Any tuning, and none, gives
the same results in other times. Seconds; sizes in elements of the weights; rows are tokens of one product,
or routed pairs an expert, idle experts included.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

from moe_core.specs import Spec

What = Literal["threads", "linear", "expert", "bank", "training"]
TIE = 0.97  # a candidate must be so much faster than the one named before it
EMULATED = 1.5  # times as long as fp32, with many rows: the device has no such products
MANY = 64  # rows from which products, not reading, are what takes the time
ENOUGH: dict[What, float] = {
    "threads": MANY,
    "linear": MANY,
    "expert": MANY,
    "bank": 8,
    "training": 4,
}  # a bank's rows are few


class Timing(Spec):
    """Seconds of every candidate at one size and number of rows.

    threads   a gated network of `elements` weights, by how many threads compute it: "1", "2" and so on.
    linear    a gated network of `elements` weights as layers compute it, the only candidate: "linear".
    expert    one such network as the `each` kernel computes an expert, by its ways.
    bank      a small bank of them, by kernel; seconds an expert, idle ones included.
    training  the same with gradients.
    """

    what: What
    dtype: str
    elements: int
    rows: float
    seconds: dict[str, float]

    @property
    def best(self) -> str:
        """The fastest; of two alike the one named first."""
        names = iter(self.seconds)
        found = next(names)
        for name in names:
            if self.seconds[name] < TIE * self.seconds[found]:
                found = name
        return found

    def among(self, names: Collection[str]) -> Timing | None:
        """Only these candidates; None when none of them was timed."""
        seconds = {name: taken for name, taken in self.seconds.items() if name in names}
        return self.model_copy(update={"seconds": seconds}) if seconds else None


class Ladder(NamedTuple):
    """The fastest candidates over rows: `names[i]` up to `bounds[i]`, the last one beyond."""

    bounds: tuple[float, ...]
    names: tuple[str, ...]

    def at(self, rows: float) -> str:
        """The fastest at the measured number of rows that is nearest, as ratios go."""
        return self.names[bisect_left(self.bounds, rows)]


Key = tuple[What, str]
BEYOND = 2.0  # times the largest bank
FURTHER = 4.0  # times the largest network that was computed with fewer threads
CHOOSING = ("sorted", "each")


class Tuning(Spec):
    """Everything the probe found. `source`: "probe", or "default" where nothing was measured.

    busy  the share of the cores that other programs used at that time.
    """

    source: Literal["default", "probe"] = "default"
    timings: tuple[Timing, ...] = ()
    busy: float = 0.0

    @cached_property
    def _curves(self) -> Mapping[Key, Mapping[int, list[Timing]]]:
        """Timings by what and dtype, then by size, rows ascending."""
        found: dict[Key, dict[int, list[Timing]]] = {}
        for timing in sorted(self.timings, key=lambda timing: (timing.elements, timing.rows)):
            sizes = found.setdefault((timing.what, timing.dtype), {})
            sizes.setdefault(timing.elements, []).append(timing)
        return found

    @cached_property
    def _ladders(self) -> Mapping[Key, tuple[Ladder, ...]]:
        """Of every size, in the order of `_curves`, each drawn on beyond its last rows."""
        found = {}
        for key, sizes in self._curves.items():
            ladders, below = [], list[Timing]()
            for points in sizes.values():
                further = [timing for timing in below if timing.rows > points[-1].rows]
                if key[0] == "bank":
                    further = _choosing(further) or _products(points[-1])
                below = points + further
                ladders.append(_ladder(below))
            found[key] = tuple(ladders)
        return found

    def ladder(self, what: What, dtype: str, elements: int) -> Ladder | None:
        """The fastest candidates at the measured size that is nearest; None where nothing was measured.

        Beyond the rows measured at a size: for one expert those of the next smaller size, as rows say more
        than weights. For a bank products take the time then, and starting them none: see `best`.
        """
        sizes = self._curves.get((what, dtype))
        return None if sizes is None else self._ladders[what, dtype][_nearest(list(sizes), elements)]

    def best(self, what: What, dtype: str, elements: int, rows: float) -> str | None:
        """The fastest candidate; None where nothing was measured.

        Of experts well above the largest bank the products take the time, and starting them none: what
        saves starts by doing more (`padded`) or by a fixed way (`grouped`) is then no candidate.
        """
        found = self.ladder(what, dtype, elements)
        if what == "bank" and elements > BEYOND * max(self._curves.get((what, dtype), {0: []})):
            found = self._beyond.get(dtype, found)
        return None if found is None else found.at(rows)

    @cached_property
    def _beyond(self) -> Mapping[str, Ladder]:
        """By dtype, the largest bank's ladder among the kernels that choose a way for every expert.

        Where it ends the smaller one's goes on: a bank of which little was measured says little.
        """
        found = {}
        for (what, dtype), sizes in self._curves.items():
            points = list[Timing]()
            for timings in sizes.values() if what == "bank" else ():
                own = _choosing(timings)
                points = own + [timing for timing in points if not own or timing.rows > own[-1].rows]
            if points:
                found[dtype] = _ladder(points)
        return found

    def seconds(self, what: What, dtype: str, elements: int, rows: float) -> float | None:
        """Seconds of the fastest candidate; None where nothing was measured, or too little.

        Linear between rows and in proportion beyond the last, if that has enough rows for products to be
        what takes the time: a probe that came no further says nothing of them. In proportion to the weights.
        """
        sizes = self._curves.get((what, dtype))
        if sizes is None:
            return None
        size = list(sizes)[_nearest(list(sizes), elements)]
        points = [(timing.rows, min(timing.seconds.values())) for timing in sizes[size]]
        if rows > points[-1][0] and points[-1][0] < ENOUGH[what]:
            return None
        return _at(points, rows) * elements / size

    def threads(self, dtype: str, elements: int, rows: float) -> int | None:
        """How many threads compute a network of so many weights fastest; None for as many as there are.

        By the measured one with the nearest number of multiplications: on many cores small products wait
        longer for one another's threads than they compute. Well beyond the largest all are of use.
        """
        curves = self._curves.get(("threads", dtype), {})
        points = [timing for timings in curves.values() for timing in timings]
        work = elements * rows
        if not points or work > FURTHER * max(point.elements * point.rows for point in points):
            return None
        nearest = min(points, key=lambda point: abs(math.log(point.elements * point.rows / max(work, 1))))
        return int(nearest.best)

    def emulates(self, dtype: str) -> bool:
        """Whether products of many rows take longer in a dtype than in fp32. Not known is no."""
        plain, other = self._curves.get(("linear", "fp32")), self._curves.get(("linear", dtype))
        if plain is None or other is None:
            return False
        shared = [
            (min(one.seconds.values()), min(two.seconds.values()))
            for size in plain.keys() & other.keys()
            for one in plain[size]
            for two in other[size]
            if one.rows == two.rows >= MANY
        ]
        if not shared:  # so slow that the probe stopped before
            return max(t.rows for ts in other.values() for t in ts) < MANY
        return sum(two for _, two in shared) > EMULATED * sum(one for one, _ in shared)


NEUTRAL = Tuning()
"""Nothing is known: the kernels follow the documented defaults."""


def _ladder(points: list[Timing]) -> Ladder:
    bounds = tuple(math.sqrt(low.rows * high.rows) for low, high in pairwise(points))
    return Ladder(bounds, tuple(timing.best for timing in points))


def _choosing(timings: list[Timing]) -> list[Timing]:
    """Where kernels that choose a way for every expert were timed, and only those."""
    return [only for timing in timings if (only := timing.among(CHOOSING)) is not None]


def _products(last: Timing) -> list[Timing]:
    """What follows the last rows of a bank: only kernels that choose a way for every expert."""
    further = last.among(CHOOSING)
    return [] if further is None else [further.model_copy(update={"rows": 4 * last.rows})]


def _nearest(sizes: list[int], elements: int) -> int:
    """Place of the size that is nearest, as ratios go. Sizes ascend."""
    return min(range(len(sizes)), key=lambda place: abs(math.log(sizes[place] / max(elements, 1))))


def _at(points: list[tuple[float, float]], rows: float) -> float:
    """Seconds at rows: the first ones below the first, a line between, in proportion beyond the last."""
    if rows <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in pairwise(points):
        if rows <= right:
            return low + (high - low) * (rows - left) / (right - left)
    return points[-1][1] * rows / points[-1][0]
