"""Serving: what one candidate does with a spec's devices: whether it fits, how fast, how much, at what cost.

The devices may be one group or equal replicas of a smaller one, each split in every way that divides. Each
figure is that of the layout which serves it best. A layout that fills the last `crowded` share of memory
fades out, so that nothing jumps when it no longer fits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from math import exp, inf, log, log2

from scipy.optimize import brentq

from moe_core.decide.clock import Reading
from moe_core.decide.layout import MOST, WIDEST, Layout, layouts
from moe_core.decide.pair import Candidate
from moe_core.decide.rules import scoring
from moe_core.decide.spec import DecideSpec
from moe_core.errors import InfeasibleError
from moe_core.perf.fit import usable


class Serving:
    """One candidate under one spec. Figures are computed when asked for, once.

    `bias`: logarithm by which every predicted time is stretched, to ask what its error would change.
    """

    def __init__(
        self, candidate: Candidate, spec: DecideSpec, load: tuple[float, ...] | None = None, bias: float = 0.0
    ) -> None:
        self.candidate, self.spec, self.work = candidate, spec, spec.workload
        self.device = spec.device
        self.usable = usable(self.device.capacity)
        self.layouts = layouts(candidate, spec, load)
        self._stretch = exp(bias)
        self._link = spec.listed.link_gbs / (self.device.link_gbs or inf)

    # -- memory -------------------------------------------------------------------------------------

    @cached_property
    def batch(self) -> float:
        """Sequences at once: the spec's, or as many as the traffic keeps in flight (Little's law)."""
        if self.work.traffic is None:
            return float(self.work.batch)
        light = [self._gate(one, one.replicas) for one in self.layouts]
        easy = int(self.usable * (1 - scoring().crowded))
        most = max(one.room(easy, self.work.context) for one in self.layouts)
        most = min(max(most, 1.0), self.spec.devices * MOST)
        written = self.work.traffic * self.work.output
        return _crossing(lambda b: b / self._fastest(b, light).seconds, written, most)

    @cached_property
    def need(self) -> float:
        """Bytes of the fullest device in the roomiest layout."""
        return min(one.need(self.batch, self.work.context) for one in self.layouts)

    @property
    def fits(self) -> bool:
        return self.need <= self.usable

    @cached_property
    def gate(self) -> float:
        """1 where it fits easily, 0 where it does not, between them in the last share of memory."""
        return max(self._gates)

    @cached_property
    def room(self) -> float:
        """Sequences of this context that fit beside the weights, all groups together."""
        return max(one.room(self.usable, self.work.context) for one in self.layouts)

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
        return self._best(self._gates, lambda one: one.clock.first(self.work.read, self.work.cached))

    @cached_property
    def prompt(self) -> float:
        """Device-seconds to read one prompt among many."""
        return 1 / self._most(lambda one: 1 / (self._prompt(one) * one.parallel.devices))

    # -- throughput and money -----------------------------------------------------------------------

    @cached_property
    def throughput(self) -> float:
        """Tokens written a second, all devices, within the latency target; without one, at this batch."""
        if self.work.latency_ms is None:
            return self.batch / self.step.seconds
        return self._most(self._throughput, [self._gate(one, one.replicas) for one in self.layouts])

    @cached_property
    def cost(self) -> float:
        """Dollars a million tokens written, prompts read on the same devices, at this batch."""
        dollars = self.spec.devices * self.device.usd_per_hour / 3600
        return dollars / self._most(self._mixed) * 1e6

    @property
    def fleet(self) -> float:
        """Devices that the traffic takes within the latency target, a fraction of one included."""
        return (self.work.traffic or 0.0) * self.work.output / self.throughput * self.spec.devices

    @cached_property
    def layout(self) -> Layout:
        """The layout of the shortest step."""
        times = [self._linked(one.decode(self.batch, self.work.past)).seconds for one in self.layouts]
        pairs = zip(times, self._faded(self._gates), self.layouts, strict=True)
        return min(pairs, key=lambda found: found[0] / found[1] if found[1] else inf)[2]

    # -- one layout ---------------------------------------------------------------------------------

    @cached_property
    def _gates(self) -> list[float]:
        return [self._gate(one, self.batch) for one in self.layouts]

    def _gate(self, one: Layout, batch: float) -> float:
        spare = self.usable - one.need(batch, self.work.context)
        return min(max(spare / (scoring().crowded * self.usable), 0.0), 1.0)

    def _throughput(self, one: Layout) -> float:
        """At the largest batch inside the target and the memory of its groups."""
        assert self.work.latency_ms is not None, "asked only where there is a target"
        target, alone = self.work.latency_ms / 1e3, self._step(one, one.replicas)
        if alone >= target:
            return one.replicas / alone * (target / alone) ** scoring().missed
        most = max(one.room(self.usable, self.work.context), one.replicas)
        many = _crossing(lambda b: self._step(one, b), target, min(most, one.replicas * MOST), one.replicas)
        return many / self._step(one, many)

    def _mixed(self, one: Layout) -> float:
        """Tokens a second of all groups when prompts are read between the steps."""
        each, written = one.each(self.batch), self.work.output
        busy = self.batch / each  # groups that have work
        return busy * each * written / (each * self._prompt(one) + written * self._step(one, self.batch))

    def _step(self, one: Layout, batch: float) -> float:
        return self._linked(one.decode(batch, self.work.past)).seconds

    def _prompt(self, one: Layout) -> float:
        return self._linked(one.clock.prefill(self.work.read, self.work.cached)).seconds

    def _linked(self, found: Reading) -> Reading:
        """The same with the spec's link between devices, and the bias."""
        stretch = 1 - found.network + found.network * self._link
        seconds, network = found.seconds * stretch * self._stretch, found.network * self._link / stretch
        return found._replace(seconds=seconds, network=network)

    # -- the best of all layouts --------------------------------------------------------------------

    def _fastest(self, batch: float, gates: list[float]) -> Reading:
        return self._best(gates, lambda one: one.decode(batch, self.work.past))

    def _best(self, gates: list[float], read: Callable[[Layout], Reading]) -> Reading:
        """The shortest reading; one of a crowded layout is stretched."""
        found = []
        for one, faded in zip(self.layouts, self._faded(gates), strict=True):
            if faded:
                reading = self._linked(read(one))
                found.append(reading._replace(seconds=reading.seconds / faded))
        return min(found, key=lambda reading: reading.seconds)

    def _most(self, value: Callable[[Layout], float], gates: list[float] | None = None) -> float:
        pairs = zip(self.layouts, self._faded(gates or self._gates), strict=True)
        return max(value(one) * faded for one, faded in pairs if faded)

    def _faded(self, gates: list[float]) -> list[float]:
        """Gates against the best of them; where nothing fits, every layout counts."""
        best = max(gates)
        return [gate / best for gate in gates] if best else [1.0] * len(gates)


def enough(candidate: Candidate, spec: DecideSpec) -> int | None:
    """The fewest devices, a power of two, on which it fits; None where `WIDEST` do not do."""
    for many in (2**i for i in range(WIDEST.bit_length())):
        with suppress(InfeasibleError):
            if Serving(candidate, spec.model_copy(update={"devices": many, "parallel": None})).fits:
                return many
    return None


def _crossing(rising: Callable[[float], float], target: float, most: float, least: float = 1.0) -> float:
    """Where a rising function of the batch meets `target`, between `least` and `most`."""
    if most <= least or rising(least) >= target:
        return least
    if rising(most) <= target:
        return most
    gap = lambda x: log(rising(2.0**x) / target)  # noqa: E731
    return float(2.0 ** brentq(gap, log2(least), log2(most), xtol=1e-9))
