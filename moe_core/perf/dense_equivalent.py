"""The dense-equivalent curve: how wide a dense network takes as long as a MoE layer at T tokens.

Equal hidden size, equally gated. Widths are told in multiples of what the layer uses for a token (active:
K experts and the shared ones) and of what it holds (total: E experts and the shared ones).

One rule for measured, predicted and live series: the times are made monotone in width, then inverted by a
straight line between the two widths around.

Legend: T tokens, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import exp, log, sqrt
from typing import NamedTuple

from moe_core.errors import ConfigError
from moe_core.perf.device_model import Mixture
from moe_core.perf.twins import epoch

NEAR = 1.15  # up to this multiple of the active width a layer costs its active size


class Width(NamedTuple):
    """The width; `beyond` when it lies outside the widths that were timed and is drawn on from the ends."""

    width: float
    beyond: bool


def dense_equivalent(moe_seconds: float, widths: Sequence[float], dense_seconds: Sequence[float]) -> Width:
    """The width whose dense network takes `moe_seconds` at the same tokens. Raises ConfigError.

    Below the narrowest and above the widest it is in proportion to the times, and marked `beyond`. Noise that
    makes a wider network look faster is ironed out: no width is taken to be slower than a wider one.
    """
    if len(widths) != len(dense_seconds) or not widths:
        raise ConfigError(
            f"widths ({len(widths)}): must be as many as times ({len(dense_seconds)}), at least one"
        )
    if min(widths) <= 0 or min(dense_seconds) <= 0 or moe_seconds <= 0:
        raise ConfigError("widths and times: must be above zero")
    points = sorted(zip(widths, dense_seconds, strict=True))
    xs = [float(width) for width, _ in points]
    ys = _monotone([float(seconds) for _, seconds in points])
    if moe_seconds <= ys[0]:
        return Width(xs[0] * moe_seconds / ys[0], moe_seconds < ys[0])
    if moe_seconds >= ys[-1]:
        return Width(xs[-1] * moe_seconds / ys[-1], moe_seconds > ys[-1])
    right = next(i for i, y in enumerate(ys) if y >= moe_seconds)
    rise = ys[right] - ys[right - 1]
    share = (moe_seconds - ys[right - 1]) / rise if rise > 0 else 1.0
    return Width(xs[right - 1] + share * (xs[right] - xs[right - 1]), False)


def _monotone(seconds: list[float]) -> list[float]:
    """The mean of the running maximum from the left and the running minimum from the right."""
    up = list(accumulate(seconds, max))
    down = list(accumulate(reversed(seconds), min))[::-1]
    return [(high + low) / 2 for high, low in zip(up, down, strict=True)]


class CurvePoint(NamedTuple):
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
) -> CurvePoint:
    """Invert the dense times at `tokens`. `interval`: seconds below and above, the same inversion.

    Raises ConfigError for times or widths that are not above zero.
    """
    found = dense_equivalent(seconds, widths, dense_seconds)
    low, high = interval or (seconds, seconds)
    least, most = (dense_equivalent(end, widths, dense_seconds).width for end in (low, high))
    return CurvePoint(tokens, seconds, found.width, least, most, found.beyond)


def references(layer: Mixture) -> dict[str, float]:
    """Widths that people say a mixture costs: what is used, what is held, and rules between the two.

    `epoch` is Epoch AI's heuristic for whole models, second-hand (`perf.twins.EPOCH_CAVEATS`),
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


def at(curve: Sequence[CurvePoint], tokens: float) -> float | None:
    """The width at T tokens, between points by a line in logarithms; None outside the curve."""
    points = sorted(curve)
    if not points or not points[0].tokens <= tokens <= points[-1].tokens:
        return None
    for left, right in pairwise(points):
        if left.tokens <= tokens <= right.tokens:
            share = log(tokens / left.tokens) / log(right.tokens / left.tokens)
            return exp(log(left.width) + share * (log(right.width) - log(left.width)))
    return points[0].width


def active_until(curve: Sequence[CurvePoint], active: float, near: float = NEAR) -> int | None:
    """The most tokens up to which the layer costs at most `near` times its active width; None if none."""
    last = None
    for one in sorted(curve):
        if one.width > near * active:
            return last
        last = one.tokens
    return last


def widest(curve: Sequence[CurvePoint]) -> CurvePoint:
    """Where the mixture is dearest. The curve has at least one point."""
    return max(curve, key=lambda one: one.width)
