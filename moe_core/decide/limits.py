"""Limits: what a candidate has to keep to be a choice at all: memory, length, targets, traffic.

Targets are missed only beyond the error of the prediction: where the faster end of its 80 % interval is still
too slow. Each limit fades in over its last share (`serving.fading`), so that a margin has no jump there; only
memory does not where the next device is added.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from moe_core.decide.clock import Reading
from moe_core.decide.serving import Serving, fading
from moe_core.perf.fit import WIDEST
from moe_core.units import quantity, significant

Name = Literal["memory", "length", "token", "first", "traffic"]
KEEPS: dict[Name, str] = {  # what somebody does who keeps it
    "memory": "fits",
    "length": "takes so long a context",
    "token": "keeps the target for a token",
    "first": "keeps the target for the first token",
    "traffic": "carries the traffic",
}


class Miss(NamedTuple):
    """A limit that is missed, and by how much, in words without the candidate's name."""

    name: Name
    words: str


def kept(one: Serving) -> float:
    """1 where every limit is kept easily, 0 where one is missed, between them just inside of one."""
    if one.work.context > one.candidate.longest:
        return 0.0
    found, work = _held(one), one.work
    if found and work.latency_ms is not None:
        found *= fading(work.latency_ms / 1e3, one.at_best(one.step))
    if found and work.ttft_ms is not None:
        found *= fading(work.ttft_ms / 1e3, one.at_best(one.first))
    if found and work.traffic is not None and one.spec.equal is not None:
        found *= fading(one.carried, work.traffic)
    return found


def _held(one: Serving) -> float:
    """Memory's share of it. What has its own number of devices is given more before it is crowded."""
    more = one.spec.equal is None and one.devices < WIDEST
    return 1.0 if more and one.fits else one.gate


def misses(one: Serving) -> tuple[Miss, ...]:
    """Every limit that is missed, the first ones before which the others mean nothing."""
    work, longest = one.work, one.candidate.longest
    if work.context > longest:
        return (Miss("length", f"takes at most {longest:,} tokens, {work.context:,.0f} are asked"),)
    if not one.fits:
        return (Miss("memory", _memory(one)),)
    found = []
    if work.traffic is not None and one.carried < work.traffic:
        found.append(Miss("traffic", _traffic(one)))
    if work.latency_ms is not None and one.at_best(one.step) > work.latency_ms / 1e3:
        found.append(Miss("token", f"takes {_span(one.step)} a token, target {work.latency_ms:g} ms"))
    if work.ttft_ms is not None and one.at_best(one.first) > work.ttft_ms / 1e3:
        found.append(
            Miss("first", f"takes {_span(one.first)} to the first token, target {work.ttft_ms:g} ms")
        )
    return tuple(found)


def _memory(one: Serving) -> str:
    need, gives = quantity(one.need, "B"), quantity(one.usable, "B")
    where = "" if one.devices == 1 else f" on the fullest of {one.devices}"
    if one.spec.equal is None:
        return f"needs {need} of {gives}{where}, and fits no number of devices up to {WIDEST}"
    alone = Serving(one.candidate, one.spec.model_copy(update={"devices": None, "parallel": None}))
    return f"needs {need} of {gives}{where}, {alone.enough or f'more than {WIDEST}'} devices would do"


def _traffic(one: Serving) -> str:
    carried = significant(one.carried)
    return f"carries {carried} requests/s, {one.fleet or 'no number of':,} devices would do"


def _span(reading: Reading) -> str:
    low, high = quantity(reading.lower, "s"), quantity(reading.upper, "s")
    return f"{quantity(reading.seconds, 's')} (80 %: {low} to {high})"
