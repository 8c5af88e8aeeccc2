"""Tuning: the short probe that finds what is fast on this device, a second at most.

Candidates at a ladder of sizes and rows, shortest work first. Before each the time is foreseen from fewer
rows; what would not fit is left out, and a candidate that is far behind is not asked again at more rows.
On a GPU nothing is measured: the documented limits hold there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from moe_core import device as dev
from moe_core import pressure, threads
from moe_core.device import DTYPES
from moe_core.labs.bank import Pool, random_routing
from moe_core.nn import each_expert
from moe_core.nn.each_expert import Expert
from moe_core.nn.experts import KERNELS, ExpertWeights
from moe_core.nn.routing import Routing
from moe_core.nn.tuning import CHOOSING, MANY, NEUTRAL, Timing, Tuning, What
from moe_core.units import MIB

BUDGET_S = 0.95
# Done by then.
SHARES: dict[What, float] = {"threads": 0.12, "linear": 0.3, "expert": 0.58, "bank": 0.95, "training": 1.0}
TINY, SMALL, LARGE = (256, 64), (512, 512), (1024, 1024)  # hidden, width
SIZES: dict[What, tuple[tuple[int, int], ...]] = {
    "threads": (TINY, SMALL),
    "linear": (TINY, SMALL),
    "expert": (SMALL, LARGE),
    "bank": (TINY, SMALL),
    "training": (TINY,),
}
ROWS: dict[What, tuple[float, ...]] = {
    "threads": (1, 8, 64),
    "linear": (1, 16, 256),
    "expert": (1, 2, 4, 16, 64, 256),
    "bank": (0.5, 2, 8, 32, 256),  # pairs an expert
    "training": (4, 64),
}
LARGE_ROWS = 16  # of large weights: with more it is products, not reading, that takes the time
EXPERTS = {TINY: 8, SMALL: 4}  # of a bank
TOP_K = 2
MEMORY = 64 * MIB  # of weights taken in turn
BEHIND = 3.0  # times the fastest, and falling back further: not asked again at more rows
CALLS = 3  # the least of so many counts, the first one to warm up
LONG_S = 0.0007  # a call that takes longer is made twice
CANDIDATES: dict[What, tuple[str, ...]] = {
    "bank": ("sorted", "each", "grouped", "padded"),
    "training": ("grouped", "padded"),
}


class TuningPlace(NamedTuple):
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
    def experts(self) -> int:
        """How many there are of these weights."""
        return EXPERTS.get((self.hidden, self.width), 1) if self.what in ("bank", "training") else 1

    @property
    def work(self) -> float:
        """How long it takes beside others, roughly."""
        return self.experts * _work(self.what, self.elements, self.rows)


def measure(device: torch.device, budget_s: float = BUDGET_S) -> Tuning:
    """What is fast on this device. A GPU is not asked."""
    if device.type != "cpu":
        return NEUTRAL
    return Bench(budget_s).run()


class Bench:
    """Weights and a clock. `run` fills a tuning, place by place."""

    def __init__(self, budget_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._budget, self._start = clock, budget_s, clock()
        half = Pool(torch.full((MEMORY // 2,), 0.01, dtype=torch.bfloat16))
        self._pools = {"bf16": half, "fp32": half.viewed(torch.float32)}
        self._timings: list[Timing] = []
        self._behind: set[tuple[TuningPlace, str]] = set()
        self._ratios: dict[tuple[TuningPlace, str], float] = {}
        self._numbers = threads.smaller_teams(dev.threads())

    def run(self) -> Tuning:
        """Every place there is time for, by what is found on the way."""
        before = pressure.look()
        for what in SHARES:
            if what == "threads" and len(self._numbers) == 1:  # one core: nothing to choose
                continue
            places = sorted(_places(what), key=lambda place: place.work)
            until = self._start + SHARES[what] * self._budget
            for place in places:
                self._visit(place, until)
        return self._tuning(pressure.between(before, pressure.look()).share)

    def _tuning(self, busy: float = 0.0) -> Tuning:
        return Tuning(source="probe", timings=tuple(self._timings), busy=busy)

    def _visit(self, place: TuningPlace, until: float) -> None:
        """Times the candidates at one place, if they will be done in time."""
        ladder = place._replace(rows=0)
        with torch.set_grad_enabled(place.what == "training"):
            calls = self._calls(place)
            calls = {name: call for name, call in calls.items() if (ladder, name) not in self._behind}
            if self._clock() + CALLS * self._foreseen(place, calls) > until:
                return
            seconds = self._teams(calls, until) if place.what == "threads" else self._race(calls, until)
        if not seconds:  # on a busy machine time may run out before the first is timed
            return
        self._fall_behind(ladder, seconds)
        each = {name: taken / place.experts for name, taken in seconds.items()}
        size = place.elements
        self._timings.append(
            Timing(what=place.what, dtype=place.dtype, elements=size, rows=place.rows, seconds=each)
        )

    def _fall_behind(self, ladder: TuningPlace, seconds: Mapping[str, float]) -> None:
        """Notes who is far behind and not catching up."""
        least = min(seconds.values())
        for name, taken in seconds.items():
            before, ratio = self._ratios.get((ladder, name), 1.0), taken / least
            if ratio > BEHIND and ratio > 1.1 * before and (ladder, name) in self._ratios:
                self._behind.add((ladder, name))
            self._ratios[ladder, name] = ratio

    def _foreseen(self, place: TuningPlace, names: Iterable[str]) -> float:
        """Seconds of one call of all candidates: those of the nearest place with less work, in proportion.

        Nothing to foresee it from: none. The first places are small.
        """
        kind, found = (place.what, place.dtype), 0.0
        for lower in self._timings:
            if (lower.what, lower.dtype) == kind:
                known = [lower.seconds.get(name, min(lower.seconds.values())) for name in names]
                found = (
                    sum(known) * place.work / _work(lower.what, lower.elements, lower.rows)
                )  # of an expert
        return found

    def _teams(self, calls: Mapping[str, Callable[[], object]], until: float) -> dict[str, float]:
        """Seconds by number of threads: each number's calls together, as a team is made by its first."""
        found = dict[str, float]()
        for number, call in calls.items():
            with dev.computing_with(int(number)):
                found |= self._race({number: call}, until)
        return found

    def _race(self, calls: Mapping[str, Callable[[], object]], until: float) -> dict[str, float]:
        """Seconds of every candidate: the least of a few calls, all in turn; two of each, if in time."""
        found = dict.fromkeys(calls, math.inf)
        for turn in range(CALLS):
            for name, call in calls.items():
                slow = found[name] > min(LONG_S, BEHIND * min(found.values()))
                if turn and (self._clock() > until or (turn > 1 and slow)):
                    continue
                start = self._clock()
                call()
                found[name] = min(found[name], self._clock() - start)
        return found

    def _calls(self, place: TuningPlace) -> dict[str, Callable[[], object]]:
        """Candidate -> a call on the next weights."""
        dtype, pool = DTYPES[place.dtype], self._pools[place.dtype]
        if place.what in ("bank", "training"):
            return self._banks(place)
        rows = int(place.rows)
        x_SD = torch.ones(rows + each_expert.SPARE, place.hidden).to(dtype)
        if place.what in ("linear", "threads"):
            names = map(str, self._numbers) if place.what == "threads" else ("linear",)
            return {name: lambda: pool.dense(place.hidden, place.width)(x_SD[:rows]) for name in names}
        sample = pool.experts(place.hidden, place.width, 1)._replace(tuning=self._tuning())
        buffer_W, y_PD = x_SD.new_empty(rows * 2 * place.width), torch.empty_like(x_SD[:rows])

        def one(way: each_expert.Way) -> Callable[[], object]:
            def call() -> None:
                taken = pool.experts(place.hidden, place.width, 1)
                way(x_SD, Expert(taken.gate_up_EGD[0], taken.down_EDF[0], True), buffer_W, y_PD)

            return call

        return {name: one(way) for name, way in each_expert.ways(sample, dtype).items()}

    def _banks(self, place: TuningPlace) -> dict[str, Callable[[], object]]:
        pool, dtype = self._pools[place.dtype], DTYPES[place.dtype]
        tokens = max(1, round(place.rows * place.experts / TOP_K))
        x_TD = torch.ones(tokens, place.hidden).to(dtype)
        routings = [random_routing(tokens, place.experts, TOP_K, seed, x_TD.device) for seed in range(CALLS)]
        tuning = self._tuning()

        def one(kernel: str) -> Callable[[], object]:
            turns = cycle(
                routings
            )  # new numbers of rows every time, as in use: some libraries compile for each

            def call() -> None:
                taken = pool.experts(place.hidden, place.width, place.experts)._replace(tuning=tuning)
                if place.what == "training":
                    _step(kernel, x_TD, next(turns), taken)
                else:
                    KERNELS[kernel](x_TD, next(turns), taken)

            return call

        many = place.what == "bank" and (place.hidden, place.width) != TINY and place.rows > MANY
        return {name: one(name) for name in (CHOOSING if many else CANDIDATES[place.what])}


def _step(kernel: str, x_TD: Tensor, routing: Routing, taken: ExpertWeights) -> None:
    """Forwards and backwards."""
    leaves = [t.detach().requires_grad_() for t in (x_TD, taken.gate_up_EGD, taken.down_EDF)]
    weights = taken._replace(gate_up_EGD=leaves[1], down_EDF=leaves[2])
    torch.autograd.grad(KERNELS[kernel](leaves[0], routing, weights).sum(), leaves)


def _work(what: What, elements: int, rows: float) -> float:
    """Multiplications; of few rows what reading the weights is worth in them."""
    if what in ("threads", "linear", "expert"):
        return elements * max(rows, 8.0)
    return elements * max(rows, 8.0 * min(1.0, rows)) * (3 if what == "training" else 1)


def _places(what: What) -> Iterator[TuningPlace]:
    """All places of a kind: the largest experts with few rows only, where reading them takes the time."""
    for dtype in DTYPES:
        for size in SIZES[what]:
            for rows in ROWS[what]:
                if size != LARGE or rows <= LARGE_ROWS:
                    yield TuningPlace(what, dtype, *size, rows)
