"""Dense width: how wide a dense feed-forward network takes as long as a mixture layer.

One rule for measured, predicted and live series: the times are made monotone in width, then inverted by a
straight line between the two widths around.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from moe_core.errors import ConfigError


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
