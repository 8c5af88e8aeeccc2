"""Pace: how fast one layout works under terms that leave the batch open. What takes a search is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import log, log2
from typing import NamedTuple

from scipy.optimize import brentq

from moe_core.decide.clock import LAST, WAVER, Reading
from moe_core.decide.layout import MOST, Layout
from moe_core.decide.rules import scoring


class Terms(NamedTuple):
    """All that decides the pace of a layout, but the batch.

    context, past, read, cached, output: tokens, as in `spec.Work`. target: seconds a token, None without one.
    link: the data file's over the spec's. stretch: of every predicted time, to ask what an error changes.
    """

    usable: int
    context: float
    past: float
    read: float
    cached: float
    output: float
    target: float | None
    link: float
    stretch: float

    def linked(self, found: Reading) -> Reading:
        """The same with the spec's link between devices, and the stretch."""
        stretch = 1 - found.network + found.network * self.link
        seconds, network = found.seconds * stretch * self.stretch, found.network * self.link / stretch
        return Reading(seconds, found.spread, network, found.distinct, found.source)

    def step(self, one: Layout, batch: float) -> float:
        """Seconds of one token for everybody."""
        return self.linked(one.decode(batch, self.past)).seconds

    def prompt(self, one: Layout) -> float:
        """Seconds of one group to read one prompt among many."""
        return self.linked(one.prompt(self.read, self.cached)).seconds

    def requests(self, one: Layout, batch: float) -> float:
        """Requests a second of all groups: prompts are read between the steps."""
        each = one.each(batch)
        busy = batch / each  # groups, or stages of one, that have work
        return busy * each / (each * self.prompt(one) + self.output * self.step(one, batch))


@lru_cache(maxsize=20_000)
def throughput(one: Layout, terms: Terms) -> float:
    """Tokens a second at the best batch inside the target and the memory of its groups."""
    assert terms.target is not None, "asked only where there is a target"
    most = min(max(one.room(terms.usable, terms.context), one.replicas), one.streams * MOST)
    alone = terms.step(one, one.streams)
    if alone >= terms.target:
        return min(one.streams, most) / alone * (terms.target / alone) ** scoring().missed
    return _best(one, _largest(one, terms, most), lambda many: many / terms.step(one, many))


@lru_cache(maxsize=20_000)
def rate(one: Layout, terms: Terms) -> float:
    """Requests a second of one group, at the best batch inside target and memory; 0: holds none.

    Memory is filled no further than it is easily: beyond that the group would serve from another layout.
    """
    if one.room(terms.usable, terms.context) < 1:
        return 0.0
    most = _largest(one, terms, min(easy(one, terms), MOST))
    return _best(one, most, lambda many: terms.requests(one, many))


def easy(one: Layout, terms: Terms) -> float:
    """Sequences that its groups hold easily, one each at least."""
    usable = int(terms.usable * (1 - scoring().crowded))
    return max(one.room(usable, terms.context), one.replicas)


def _best(one: Layout, most: float, pace: Callable[[float], float]) -> float:
    """The best pace at a batch up to `most`: there, or at one of the powers of two that predictions stand at.

    Between those it only rises or only falls. They are looked at until one is worse than tables waver.
    """
    found = pace(most)
    for many in (one.streams * 2.0**i for i in range(LAST, -1, -1) if one.streams * 2.0**i < most):
        worse = pace(many)
        if worse * WAVER < found:
            break
        found = max(found, worse)
    return found


def _largest(one: Layout, terms: Terms, most: float) -> float:
    """The largest batch up to `most` whose step keeps the target; the least there is where none does."""
    if terms.target is None:
        return most
    return crossing(lambda b: terms.step(one, b), terms.target, most, min(one.streams, most))


def crossing(rising: Callable[[float], float], target: float, most: float, least: float = 1.0) -> float:
    """Where a rising function of the batch meets `target`, between `least` and `most`."""
    if most <= least or rising(least) >= target:
        return least
    if rising(most) <= target:
        return most
    gap = lambda x: log(rising(2.0**x) / target)  # noqa: E731
    return float(2.0 ** brentq(gap, log2(least), log2(most), xtol=1e-9))
