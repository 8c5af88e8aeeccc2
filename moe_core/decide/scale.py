"""Verdict: dense or mixture, from three facts of one scenario, by a rule that is printed beside it.

    fits     the mixture's memory at full size against the device
    time     one batch: read the text once, then write `write` tokens for each sequence
    quality  bits per byte of the mixture over the dense model's, on the same text

A mixture wins when it fits, takes at most 1 - SAVES of the dense time and at most 1 + PAYS of the
dense bits per byte. If the measured spread of the time ratio covers that limit, it is too close to call.
Ignored: money, energy, several devices, load over time.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

SAVES = 0.05
PAYS = 0.05
RULE = (
    f"A mixture wins when it fits the device, saves at least {SAVES:.0%} of the dense time for this work, "
    f"and costs at most {PAYS:.0%} more bits per byte."
)

Choice = Literal["dense", "mixture", "close"]
Factor = Literal["memory", "time", "quality"]


class Span(NamedTuple):
    """A measured time: median and the ends of its spread, seconds."""

    median: float
    low: float
    high: float


class Times(NamedTuple):
    """What one model needs: `prefill` for the whole batch, `decode` for one step of the whole batch."""

    prefill: Span
    decode: Span

    def total(self, write: int) -> Span:
        """Read once, then `write` steps."""
        return Span(*(p + write * d for p, d in zip(self.prefill, self.decode, strict=True)))


class Memory(NamedTuple):
    """Bytes the mixture needs at full size, and what the device has."""

    need: float
    capacity: float


class Verdict(NamedTuple):
    """The choice and why. Ratios are mixture over dense; `flip_write` is where the time limit is crossed.

    margin: distance of the deciding factor from its limit, as a fraction of the limit; above zero for
    the mixture. passed: which factors speak for the mixture; None is too close to call.
    """

    choice: Choice
    decides: Factor
    margin: float
    time: Span
    quality: float
    memory: float
    passed: dict[Factor, bool | None]
    flip_write: float | None


def verdict(dense: Times, mixture: Times, bits: tuple[float, float], memory: Memory, write: int) -> Verdict:
    """Judge one scenario. `bits`: dense and mixture bits per byte, above zero."""
    time = _ratio(dense.total(write), mixture.total(write))
    quality, load = bits[1] / bits[0], memory.need / memory.capacity
    margins: dict[Factor, float] = {
        "memory": 1 - load,
        "time": 1 - time.median / (1 - SAVES),
        "quality": 1 - quality / (1 + PAYS),
    }
    passed: dict[Factor, bool | None] = {name: margin >= 0 for name, margin in margins.items()}
    if time.low <= 1 - SAVES < time.high:
        passed["time"] = None
    choice, decides = _choose(passed, margins)
    flip = _flip(dense, mixture)
    return Verdict(choice, decides, margins[decides], time, quality, load, passed, flip)


def _choose(passed: dict[Factor, bool | None], margins: dict[Factor, float]) -> tuple[Choice, Factor]:
    """A factor that says no decides; then one that cannot say; else the one nearest to its limit."""
    against = [name for name, ok in passed.items() if ok is False]
    if "memory" in against:
        return "dense", "memory"
    if against:
        return "dense", min(against, key=lambda name: margins[name])
    if passed["time"] is None:
        return "close", "time"
    return "mixture", min(passed, key=lambda name: margins[name])


def _ratio(dense: Span, mixture: Span) -> Span:
    return Span(mixture.median / dense.median, mixture.low / dense.high, mixture.high / dense.low)


def _flip(dense: Times, mixture: Times) -> float | None:
    """Tokens written at which the time ratio crosses its limit; None when no number above zero does.

    P_m + w D_m = (1 - SAVES) (P_d + w D_d), solved for w.
    """
    limit = 1 - SAVES
    slope = mixture.decode.median - limit * dense.decode.median
    ahead = limit * dense.prefill.median - mixture.prefill.median
    return ahead / slope if slope and ahead / slope > 0 else None
