"""Experts in host memory: what the device saves, and what every step pays for it.

The hottest experts of each layer stay on the device, the others lie on the host. A step of T tokens touches
some of those: with a recorded popularity p_e as many as sum of 1 - (1 - p_e)^T over them, without one their
even share (`distinct`). Then either the touched ones cross the link and are computed on the device, or the
host computes them where they lie (ktransformers, llama.cpp --n-cpu-moe), which reads them from its memory.
Both times are lower bounds: link and memory at their peak, no expert kept between steps, nothing overlapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import NamedTuple

from moe_core.errors import ConfigError
from moe_core.formats import size
from moe_core.perf.distinct import inclusion, uniform
from moe_core.perf.memory import Model
from moe_core.specs import Precision

# Bytes a second of two channels of DDR5-5600: 2 x 8 B x 5.6 GT/s (JEDEC JESD79-5), a desktop's.
HOST = 89.6e9


class Offload(NamedTuple):
    """Bytes of weights on each side, and what a step of so many tokens does with those on the host.

    crossing: bytes of the experts it touches there. moved, computed: least seconds if they cross the link, or
    are read where they lie. away: the share of all touched experts that lies there.
    """

    device: int
    host: int
    crossing: int
    moved: float
    computed: float
    away: float


def offload(
    subject: Model,
    share: float,
    link: float,
    tokens: int = 1,
    precision: Precision = Precision(),
    load: Sequence[float] | None = None,
    memory: float = HOST,
) -> Offload:
    """Put `share` (0 to 1) of the routed experts, the coldest, into host memory of `memory` bytes a second.

    link: bytes a second between device and host. load: popularity of the experts, any scale; None is even.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share ({share}): must be between 0 and 1")
    if subject.routing is None:
        raise ConfigError(f"model ({subject.name}): is dense and has no experts to offload")
    parts = subject.parameters.breakdown
    experts = size(parts.experts, precision.of("experts"))
    whole = sum(size(count, precision.of(name)) for name, count in parts._asdict().items())
    top_k, count = subject.routing
    cold, every = _touched(count, top_k, tokens, share, load)
    host, crossing = round(experts * share), round(experts * cold / count)
    return Offload(whole - host, host, crossing, crossing / link, crossing / memory, cold / every)


def _touched(
    count: int, top_k: int, tokens: int, share: float, load: Sequence[float] | None
) -> tuple[float, float]:
    """Experts of a layer that a step touches on the host, and in all. A part of an expert counts as that."""
    if load is None:
        every = uniform(count, top_k, tokens)
        return every * share, every
    chances = sorted(1 - (1 - p) ** tokens for p in inclusion(load, top_k))
    away = share * count
    whole = floor(away)
    part = (away - whole) * chances[whole] if whole < count else 0.0
    return sum(chances[:whole]) + part, sum(chances)


def least(subject: Model, room: float, precision: Precision = Precision()) -> float | None:
    """The smallest share of experts that must go for the weights to take `room` bytes; None: not enough."""
    parts = subject.parameters.breakdown
    experts = size(parts.experts, precision.of("experts"))
    whole = sum(size(count, precision.of(name)) for name, count in parts._asdict().items())
    if whole <= room:
        return 0.0
    return (whole - room) / experts if experts and whole - experts <= room else None
