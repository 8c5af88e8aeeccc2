"""Serving: what one candidate does with a spec's devices: whether it will do, how fast, at what cost.

The devices may be one group or equal replicas of a smaller one, each split in every way that divides. Each
figure is that of the layout which serves it best, of at most so many devices: one more takes nothing away.
A limit (memory, a target, the traffic) fades in over its last `crowded` share, so that a verdict does not
jump there; a layout fades out just beyond its memory, whatever the others do.

Where a spec names no number of devices, each candidate has its own: the fewest that hold the batch and keep
the targets (that hold it, where no number keeps them), or with traffic the fewest, in whole groups, that
carry it, prompts included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from functools import cached_property
from itertools import takewhile
from math import ceil, exp, floor, inf
from typing import NamedTuple

from moe_core.decide.clock import Reading
from moe_core.decide.layout import MOST, Layout, Way, fewest, instances, layouts
from moe_core.decide.pace import Terms, crossing, easy, rate, throughput
from moe_core.decide.pair import Candidate
from moe_core.decide.rules import scoring
from moe_core.decide.spec import DecideSpec
from moe_core.formats import Format
from moe_core.perf.fit import WIDEST, usable
from moe_core.specs import Precision


class Group(NamedTuple):
    """One instance: its devices, and the requests a second that it serves within target and memory.

    keeps: whether one request alone keeps the targets on it.
    """

    devices: int
    requests: float
    keeps: bool

    def needed(self, traffic: float) -> int:
        """Devices for so much traffic: whole instances."""
        return ceil(traffic / self.requests - 1e-9) * self.devices

    def carried(self, devices: int) -> float:
        """Requests a second of the instances that so many devices make."""
        return floor(devices / self.devices) * self.requests


class Serving:
    """One candidate under one spec. Figures are computed when asked for, once.

    `bias`: logarithm by which every predicted time is stretched, to ask what its error would change.
    Raises InfeasibleError where the candidate cannot be split over the devices asked for.
    """

    def __init__(
        self, candidate: Candidate, spec: DecideSpec, load: tuple[float, ...] | None = None, bias: float = 0.0
    ) -> None:
        self.candidate, self.spec, self.work = candidate, spec, spec.workload
        self.device = spec.device
        self.usable = usable(self.device.capacity)
        self._way, work = Way(candidate, spec, load), self.work
        self.terms = Terms(
            *(self.usable, work.context, work.past, work.read, work.cached, work.output),
            target=None if work.latency_ms is None else work.latency_ms / 1e3,
            link=spec.listed.link_gbs / (self.device.link_gbs or inf),
            stretch=exp(bias),
        )
        self.devices = spec.equal or self.enough or WIDEST
        self.layouts = self._layouts(self.devices)

    @property
    def load(self) -> tuple[float, ...] | None:
        """Shares of the experts by rank; None: even, or a dense model."""
        return self._way.load

    @property
    def formats(self) -> Precision:
        """Of the weights: asked for, or as stored."""
        return self._way.formats

    @property
    def kv(self) -> Format:
        """Of the cache."""
        return self._way.kv

    def _layouts(self, devices: int) -> tuple[Layout, ...]:
        """Every layout of at most so many devices: one of fewer may serve best."""
        return layouts(self._way, devices)

    # -- how many devices -----------------------------------------------------------------------------

    @cached_property
    def enough(self) -> int | None:
        """The fewest devices that do: that hold the batch in time, or carry the traffic. None: none do."""
        if self.work.traffic is not None:
            return self.fleet
        least = fewest(self._way, self.work.batch, self.work.context, self.usable)
        if least is None:
            return None
        missed = least
        for many in wider(least):
            if self._on(many).keeps_targets:
                return self._between(missed, many)
            missed = many
        return least

    def _between(self, missed: int, kept: int) -> int:
        """The fewest that keep the targets, between a number that misses them and one that does not."""
        while kept - missed > 1:
            middle = (missed + kept) // 2
            missed, kept = (missed, middle) if self._on(middle).keeps_targets else (middle, kept)
        return kept

    def _on(self, devices: int) -> Serving:
        """The same candidate on so many devices. Asked while its own number is being found."""
        found = copy(self)
        found.devices, found.layouts = devices, self._layouts(devices)
        return found

    @cached_property
    def fleet(self) -> int | None:
        """Devices that carry the traffic, prompts included, in whole instances. None where none do."""
        most: dict[bool, int] = {}  # by whether targets are kept
        for group in self._groups():
            if group.devices >= most.get(True, inf):
                break
            needed = group.needed(self.work.traffic or 0.0)
            most[group.keeps] = min(needed, most.get(group.keeps, needed))
        return most.get(True, most.get(False))

    @cached_property
    def carried(self) -> float:
        """Requests a second that the devices carry."""
        able = takewhile(lambda group: group.devices <= self.devices, self._groups())
        return max((group.carried(self.devices) for group in able), default=0.0)

    def _groups(self) -> Iterator[Group]:
        """Every instance that holds a sequence, whatever its number of devices, small ones first."""
        for one in instances(self._way):
            if requests := rate(one, self.terms):
                yield Group(one.devices, requests, self._alone_in_time(one))

    def _alone_in_time(self, one: Layout) -> bool:
        """Whether one request alone keeps the targets on one group."""
        return self._in_time(
            lambda: self.terms.linked(one.decode(1, self.work.past)),
            lambda: self.terms.linked(one.first(self.work.read, self.work.cached)),
        )

    # -- memory -------------------------------------------------------------------------------------

    @cached_property
    def batch(self) -> float:
        """Sequences at once: the spec's, or as many as the traffic keeps in flight (Little's law)."""
        if self.work.traffic is None:
            return float(self.work.batch)
        most = min(max(easy(one, self.terms) for one in self.layouts), self.devices * MOST)
        return crossing(
            lambda b: self._most(lambda one: self._requests(one, b), self._light), self.work.traffic, most
        )

    def _requests(self, one: Layout, batch: float) -> float:
        """Requests a second of a layout with so many at once, or as many as it holds."""
        return self.terms.requests(one, min(batch, easy(one, self.terms)))

    @cached_property
    def _needs(self) -> list[float]:
        return [one.need(self.batch, self.work.context) for one in self.layouts]

    @cached_property
    def need(self) -> float:
        """Bytes of the fullest device in the roomiest layout."""
        return min(self._needs)

    @cached_property
    def everywhere(self) -> float:
        """Bytes of all devices together in that layout; an idle one holds nothing."""
        return self.need * self.layouts[self._needs.index(self.need)].devices

    @property
    def fits(self) -> bool:
        return self.need <= self.usable

    @cached_property
    def gate(self) -> float:
        """1 where it fits easily, 0 where it does not, between them in the last share of memory."""
        return fading(self.usable, self.need)

    @cached_property
    def room(self) -> float:
        """Sequences of this context that fit beside the weights, all groups together; seldom whole."""
        return max(one.room(self.usable, self.work.context) for one in self.layouts)

    @property
    def sequences(self) -> int:
        """The same in whole ones, so many in each group."""
        rooms = ((one.room(self.usable, self.work.context), one.replicas) for one in self.layouts)
        return max(round(floor(room / many) * many) for room, many in rooms)

    # -- time ---------------------------------------------------------------------------------------

    @cached_property
    def step(self) -> Reading:
        """One token for everybody at this batch."""
        return self._fastest(self.batch, self._gates)

    def step_at(self, batch: float) -> Reading:
        """One token for everybody at another batch."""
        return self._fastest(batch, self._gates)

    @cached_property
    def first(self) -> Reading:
        """The wait for the first token, one prompt alone."""
        return self._best(self._gates, lambda one: one.first(self.work.read, self.work.cached))

    @cached_property
    def prompt(self) -> float:
        """Device-seconds to read one prompt among many."""
        return 1 / self._most(lambda one: 1 / (self.terms.prompt(one) * one.parallel.stage))

    def at_best(self, reading: Reading) -> float:
        """Seconds at the faster end of a reading's interval, bias apart: a target is missed beyond it."""
        return reading.lower / self.terms.stretch

    @property
    def keeps_targets(self) -> bool:
        """Whether neither target is missed beyond the error of the prediction."""
        if self.work.latency_ms is None and self.work.ttft_ms is None:
            return True
        return self._in_time(lambda: self.step, lambda: self.first)

    def _in_time(self, step: Callable[[], Reading], first: Callable[[], Reading]) -> bool:
        """Whether both keep their targets. The second is not read where the first does not."""
        targets = ((self.work.latency_ms, step), (self.work.ttft_ms, first))
        return all(limit is None or self.at_best(reading()) <= limit / 1e3 for limit, reading in targets)

    # -- throughput and money -----------------------------------------------------------------------

    @cached_property
    def throughput(self) -> float:
        """Tokens a second of one device, decoding alone, within the target; without one, at this batch."""
        if self.work.latency_ms is None:
            return self.batch / self.step.seconds / self.devices
        return self._most(lambda one: throughput(one, self.terms), self._light) / self.devices

    @cached_property
    def cost(self) -> float | None:
        """Dollars a million tokens written, prompts read on the same devices; None without a price."""
        dollars = self.device.usd_per_hour / 3600
        return dollars / self._written * 1e6 if dollars else None

    @cached_property
    def joules(self) -> float | None:
        """Joules a token written, prompts read on the same devices, every device at its power limit.

        An upper bound: a device that waits for its memory draws less. None where no power figure is known.
        """
        return self.device.watts / self._written if self.device.watts else None

    @cached_property
    def _written(self) -> float:
        """Tokens a second written by each device that is paid for, prompts read on the same."""
        rate = self._most(lambda one: self.terms.requests(one, self.batch) / self._paid(one))
        return rate * self.work.output

    def _paid(self, one: Layout) -> int:
        """Devices that are paid for: those that work, or all where a fleet is counted for traffic."""
        return one.devices if self.work.traffic is None else self.devices

    @cached_property
    def layout(self) -> Layout:
        """The layout of the shortest step."""
        times = [self.terms.step(one, self.batch) for one in self.layouts]
        pairs = zip(times, self._faded(self._gates), self.layouts, strict=True)
        return min(pairs, key=lambda found: found[0] / found[1] if found[1] else inf)[2]

    @property
    def words(self) -> str:
        """`2 × (tensor 4)`, `pipeline 3, 1 idle`: the layout of the shortest step."""
        idle = self.devices - self.layout.devices
        return f"{self.layout.words}, {idle} idle" if idle else self.layout.words

    # -- one layout ---------------------------------------------------------------------------------

    @cached_property
    def _gates(self) -> list[float]:
        return [self._gate(need) for need in self._needs]

    @cached_property
    def _light(self) -> list[float]:
        """The same of one sequence."""
        return [self._gate(one.need(1, self.work.context)) for one in self.layouts]

    def _gate(self, need: float) -> float:
        """1 where a layout holds it, whatever others do; it fades out in a last share beyond that."""
        return fading(self.usable / (1 - scoring().crowded), need)

    # -- the best of all layouts --------------------------------------------------------------------

    def _fastest(self, batch: float, gates: list[float]) -> Reading:
        return self._best(gates, lambda one: one.decode(batch, self.work.past))

    def _best(self, gates: list[float], read: Callable[[Layout], Reading]) -> Reading:
        """The shortest reading; one of a layout that no longer holds the batch is stretched."""
        found = []
        for one, faded in zip(self.layouts, self._faded(gates), strict=True):
            if faded:
                reading = self.terms.linked(read(one))
                found.append(reading if faded == 1 else reading._replace(seconds=reading.seconds / faded))
        return min(found, key=lambda reading: reading.seconds)

    def _most(self, value: Callable[[Layout], float], gates: list[float] | None = None) -> float:
        pairs = zip(self.layouts, self._faded(gates or self._gates), strict=True)
        return max(value(one) * faded for one, faded in pairs if faded)

    def _faded(self, gates: list[float]) -> list[float]:
        """Gates against the best of them, 1 where something fits; where nothing does, every layout counts."""
        best = max(gates)
        return [gate / best for gate in gates] if best else [1.0] * len(gates)


def wider(least: int) -> list[int]:
    """More and more devices: the fewest, and powers of two above them up to the most there are."""
    powers = (2**i for i in range(WIDEST.bit_length()))
    return [least, *(n for n in powers if least < n <= WIDEST)]


def fading(limit: float, need: float) -> float:
    """1 where a need stays well inside a limit, 0 from the limit on, between them in its last share."""
    return min((1 - need / limit) / scoring().crowded, 1.0) if need < limit else 0.0
