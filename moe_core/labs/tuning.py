"""Tuning: the short probe that finds what is fast on this device, a second at most.

Candidates at a ladder of sizes and rows, shortest work first. Before each the time is foreseen from fewer
rows; what would not fit is left out, and a candidate that is far behind is not asked again at more rows.
On a GPU nothing is measured: the documented limits hold there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from moe_core.device import DTYPES
from moe_core.labs.bank import Pool, busy, random_routing
from moe_core.nn import each_expert
from moe_core.nn.each_expert import Expert
from moe_core.nn.experts import KERNELS, ExpertWeights
from moe_core.nn.routing import Routing
from moe_core.nn.tuning import NEUTRAL, Timing, Tuning, What
from moe_core.units import MIB

BUDGET_S = 0.95
SHARES: dict[What, float] = {"linear": 0.12, "expert": 0.45, "bank": 0.94, "training": 1.0}  # done by then
TINY, SMALL, LARGE = (256, 64), (512, 256), (1024, 1024)  # hidden, width
SIZES: dict[What, tuple[tuple[int, int], ...]] = {
    "linear": (TINY, (512, 512)),
    "expert": (SMALL, LARGE),
    "bank": (TINY, SMALL),
    "training": (TINY,),
}
ROWS: dict[What, tuple[float, ...]] = {
    "linear": (1, 16, 256),
    "expert": (1, 2, 4, 8, 16, 64, 256),
    "bank": (0.5, 2, 8, 32, 128),  # pairs an expert
    "training": (4, 64),
}
LARGE_ROWS = 16  # of large weights: with more it is products, not reading, that takes the time
EXPERTS, TOP_K = 8, 2  # of a bank
MEMORY = 64 * MIB  # of weights taken in turn
BEHIND = 2.5  # times the fastest, and not catching up: not asked again at more rows
CALLS = 3  # the least of so many counts, the first one to warm up
LONG_S = 0.001  # a call that takes longer is made twice
CANDIDATES: dict[What, tuple[str, ...]] = {
    "bank": ("sorted", "each", "grouped", "padded"),
    "training": ("grouped", "padded"),
}


class Place(NamedTuple):
    """One size and number of rows."""

    what: What
    dtype: str
    hidden: int
    width: int
    rows: float

    @property
    def elements(self) -> int:
        return 3 * self.hidden * self.width

    @property
    def work(self) -> float:
        """How long it takes beside others, roughly."""
        return _work(self.what, self.elements, self.rows)


def measure(device: torch.device, budget_s: float = BUDGET_S) -> Tuning:
    """What is fast on this device. A GPU is not asked."""
    if device.type != "cpu":
        return NEUTRAL
    return Bench(budget_s).run()


class Bench:
    """Weights and a clock. `run` fills a tuning, place by place."""

    def __init__(self, budget_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._budget, self._start = clock, budget_s, clock()
        half = Pool.filled(MEMORY // 2, torch.bfloat16, torch.device("cpu"))
        self._pools = {"bf16": half, "fp32": half.viewed(torch.float32)}
        self._timings: list[Timing] = []
        self._behind: set[tuple[Place, str]] = set()
        self._ratios: dict[tuple[Place, str], float] = {}

    def run(self) -> Tuning:
        """Every place there is time for, by what is found on the way."""
        load = busy()
        for what in SHARES:
            places = sorted(_places(what), key=lambda place: place.work)
            until = self._start + SHARES[what] * self._budget
            for place in places:
                self._visit(place, until)
        return self._tuning(load)

    def _tuning(self, load: float = 0.0) -> Tuning:
        return Tuning(source="probe", timings=tuple(self._timings), bank_experts=EXPERTS, busy=load)

    def _visit(self, place: Place, until: float) -> None:
        """Times the candidates at one place, if they will be done in time."""
        ladder = place._replace(rows=0)
        with torch.set_grad_enabled(place.what == "training"):
            calls = self._calls(place)
            calls = {name: call for name, call in calls.items() if (ladder, name) not in self._behind}
            if self._clock() + CALLS * self._foreseen(place, calls) > until:
                return
            seconds = self._race(calls, until)
        self._fall_behind(ladder, seconds)
        self._timings.append(
            Timing(
                what=place.what, dtype=place.dtype, elements=place.elements, rows=place.rows, seconds=seconds
            )
        )

    def _fall_behind(self, ladder: Place, seconds: Mapping[str, float]) -> None:
        """Notes who is far behind and not catching up."""
        least = min(seconds.values())
        for name, taken in seconds.items():
            before, ratio = self._ratios.get((ladder, name), 1.0), taken / least
            if ratio > BEHIND and ratio >= before > 1.0:
                self._behind.add((ladder, name))
            self._ratios[ladder, name] = max(ratio, 1.001)

    def _foreseen(self, place: Place, names: Iterable[str]) -> float:
        """Seconds of one call of all candidates: those of the nearest place with less work, in proportion.

        Nothing to foresee it from: none. The first places are small.
        """
        kind, found = (place.what, place.dtype), 0.0
        for lower in self._timings:
            if (lower.what, lower.dtype) == kind:
                known = [lower.seconds.get(name, min(lower.seconds.values())) for name in names]
                found = sum(known) * place.work / _work(lower.what, lower.elements, lower.rows)
        return found

    def _race(self, calls: Mapping[str, Callable[[], object]], until: float) -> dict[str, float]:
        """Seconds of every candidate: the least of a few calls, all in turn; two of each at least."""
        found = dict.fromkeys(calls, math.inf)
        for turn in range(CALLS):
            for name, call in calls.items():
                slow = found[name] > min(LONG_S, BEHIND * min(found.values()))
                if turn > 1 and (slow or self._clock() > until):
                    continue
                start = self._clock()
                call()
                found[name] = min(found[name], self._clock() - start)
        return found

    def _calls(self, place: Place) -> dict[str, Callable[[], object]]:
        """Candidate -> a call on the next weights."""
        dtype, pool = DTYPES[place.dtype], self._pools[place.dtype]
        if place.what in ("bank", "training"):
            return self._banks(place)
        rows = int(place.rows)
        x_PD = torch.ones(rows, place.hidden).to(dtype)
        if place.what == "linear":
            return {"linear": lambda: pool.dense(place.hidden, place.width)(x_PD)}
        sample = pool.experts(place.hidden, place.width, 1)._replace(tuning=self._tuning())
        buffer_W, y_PD = x_PD.new_empty(rows * 2 * place.width), torch.empty_like(x_PD)

        def one(way: each_expert.Way) -> Callable[[], object]:
            def call() -> None:
                taken = pool.experts(place.hidden, place.width, 1)
                way(x_PD, Expert(taken.gate_up_EGD[0], taken.down_EDF[0], True), buffer_W, y_PD)

            return call

        return {name: one(way) for name, way in each_expert.ways(sample, dtype).items()}

    def _banks(self, place: Place) -> dict[str, Callable[[], object]]:
        pool, dtype = self._pools[place.dtype], DTYPES[place.dtype]
        tokens = max(1, round(place.rows * EXPERTS / TOP_K))
        x_TD = torch.ones(tokens, place.hidden).to(dtype)
        routing = random_routing(tokens, EXPERTS, TOP_K, 0, x_TD.device)
        tuning = self._tuning()

        def one(kernel: str) -> Callable[[], object]:
            def call() -> None:
                taken = pool.experts(place.hidden, place.width, EXPERTS)._replace(tuning=tuning)
                if place.what == "training":
                    _step(kernel, x_TD, routing, taken)
                else:
                    KERNELS[kernel](x_TD, routing, taken)

            return call

        return {name: one(name) for name in CANDIDATES[place.what]}


def _step(kernel: str, x_TD: Tensor, routing: Routing, taken: ExpertWeights) -> None:
    """Forwards and backwards."""
    leaves = [t.detach().requires_grad_() for t in (x_TD, taken.gate_up_EGD, taken.down_EDF)]
    weights = taken._replace(gate_up_EGD=leaves[1], down_EDF=leaves[2])
    torch.autograd.grad(KERNELS[kernel](leaves[0], routing, weights).sum(), leaves)


def _work(what: What, elements: int, rows: float) -> float:
    """Multiplications; of few rows what reading the weights is worth in them."""
    if what in ("linear", "expert"):
        return elements * max(rows, 8.0)
    return EXPERTS * elements * max(rows, 8.0 * min(1.0, rows)) * (3 if what == "training" else 1)


def _places(what: What) -> Iterator[Place]:
    """All places of a kind: the largest experts with few rows only, where reading them takes the time."""
    for dtype in DTYPES:
        for size in SIZES[what]:
            for rows in ROWS[what]:
                if size != LARGE or rows <= LARGE_ROWS:
                    yield Place(what, dtype, *size, rows)
