"""Experts in host memory: what the device saves, and what every step pays on the link.

A step of T tokens touches D(T) experts a layer (`distinct.uniform`); of those, the share that lives on
the host crosses the link. Time is the bytes over the link's peak: a lower bound, no caching of experts
between steps, no overlap with computing (as ktransformers and llama.cpp instead compute on the host).
"""

from __future__ import annotations

from typing import NamedTuple

from moe_core.errors import ConfigError
from moe_core.perf.distinct import uniform
from moe_core.perf.memory import Model
from moe_core.perf.precision import Precision, size


class Offload(NamedTuple):
    """Bytes of weights on each side, bytes that cross a step, and the least time that takes."""

    device: int
    host: int
    crossing: int
    seconds: float


def offload(
    subject: Model, share: float, link: float, tokens: int = 1, precision: Precision = Precision()
) -> Offload:
    """Put `share` (0 to 1) of the routed experts in host memory behind `link` bytes a second."""
    if not 0 <= share <= 1:
        raise ConfigError(f"share ({share}): must be between 0 and 1")
    if subject.routing is None:
        raise ConfigError(f"model ({subject.name}): is dense and has no experts to offload")
    parts = subject.parameters.breakdown
    experts = size(parts.experts, precision.of("experts"))
    whole = sum(size(count, precision.of(name)) for name, count in parts._asdict().items())
    host = round(experts * share)
    top_k, count = subject.routing
    crossing = round(host * uniform(count, top_k, tokens) / count)
    return Offload(whole - host, host, crossing, crossing / link)
