"""The dense-equivalent curve: how wide a dense network takes as long as a MoE layer at T tokens.

Equal hidden size, equally gated. Widths are told in multiples of what the layer uses for a token (active:
K experts and the shared ones) and of what it holds (total: E experts and the shared ones).

Legend: T tokens, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log, sqrt
from typing import NamedTuple

from moe_core.perf.dense_equivalent import epoch
from moe_core.perf.dense_width import dense_equivalent
from moe_core.perf.device_model import Mixture

NEAR = 1.15  # up to this multiple of the active width a layer costs its active size


class Point(NamedTuple):
    """The layer's seconds at T tokens, and the width of its dense equal, with an interval.

    `beyond`: outside the widths that dense times are known for, and drawn on in proportion.
    """

    tokens: int
    seconds: float
    width: float
    low: float
    high: float
    beyond: bool


def point(
    tokens: int,
    seconds: float,
    widths: Sequence[float],
    dense_seconds: Sequence[float],
    interval: tuple[float, float] | None = None,
) -> Point:
    """Invert the dense times at `tokens`. `interval`: seconds below and above, the same inversion.

    Raises ConfigError for times or widths that are not above zero.
    """
    found = dense_equivalent(seconds, widths, dense_seconds)
    low, high = interval or (seconds, seconds)
    least, most = (dense_equivalent(end, widths, dense_seconds).width for end in (low, high))
    return Point(tokens, seconds, found.width, least, most, found.beyond)


def references(layer: Mixture) -> dict[str, float]:
    """Widths that people say a mixture costs: what is used, what is held, and rules between the two.

    `epoch` is Epoch AI's heuristic for whole models, second-hand (`perf.dense_equivalent.EPOCH_CAVEATS`),
    here on the layer's width.
    """
    active, total = layer.active_width, layer.total_width
    return {
        "active": float(active),
        "sqrt(active × total)": sqrt(active * total),
        "half the total": total / 2,
        "Epoch's rule": epoch(total, layer.experts, layer.top_k),
        "total": float(total),
    }


def at(curve: Sequence[Point], tokens: float) -> float | None:
    """The width at T tokens, between points by a line in logarithms; None outside the curve."""
    points = sorted(curve)
    if not points or not points[0].tokens <= tokens <= points[-1].tokens:
        return None
    for left, right in pairwise(points):
        if left.tokens <= tokens <= right.tokens:
            share = log(tokens / left.tokens) / log(right.tokens / left.tokens)
            return exp(log(left.width) + share * (log(right.width) - log(left.width)))
    return points[0].width


def active_until(curve: Sequence[Point], active: float, near: float = NEAR) -> int | None:
    """The most tokens up to which the layer costs at most `near` times its active width; None if none."""
    last = None
    for one in sorted(curve):
        if one.width > near * active:
            return last
        last = one.tokens
    return last


def widest(curve: Sequence[Point]) -> Point:
    """Where the mixture is dearest. The curve has at least one point."""
    return max(curve, key=lambda one: one.width)
