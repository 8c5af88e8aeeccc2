"""Sensitivity: how far each weight, input and error moves the margin. The rows of a tornado chart."""

from __future__ import annotations

from typing import Literal, NamedTuple

from moe_core.decide import knobs
from moe_core.decide.rules import Knob
from moe_core.decide.verdict import Verdict, judge

Turned = Literal["weight", "input", "error"]
HEAVIEST = 10.0  # a weight is at most this


class Swing(NamedTuple):
    """What is turned, from where to where, and the margin at both ends. `flips`: the answer changes."""

    name: str
    turned: Turned
    low_at: str
    high_at: str
    low: float
    high: float
    flips: bool

    @property
    def width(self) -> float:
        return abs(self.high - self.low)


def swings(found: Verdict) -> tuple[Swing, ...]:
    """Every swing, the widest first: weights from nothing to twice, inputs over their stated ranges."""
    rows = [_error(found)]
    rows += [_input(found, knob) for knob in knobs.in_play(found.spec)]
    rows += [_weight(found, factor.id, factor.title) for factor in found.factors if factor.weight]
    return tuple(sorted(rows, key=lambda row: -row.width))


def _weight(found: Verdict, name: str, title: str) -> Swing:
    weight = found.spec.importance[name]
    heavy = min(2 * weight, HEAVIEST)
    low, high = (_with_weight(found, name, value) for value in (0.0, heavy))
    return _swing(found, f"weight of {title.lower()}", "weight", "0", f"{heavy:g}", low, high)


def _with_weight(found: Verdict, name: str, weight: float) -> float:
    spec = found.spec.model_copy(update={"weights": {**found.spec.weights, name: weight}})
    return judge(spec, found.case.recorded, found.pair).margin


def _input(found: Verdict, knob: Knob) -> Swing:
    now = knobs.value(found.spec, knob.id)
    assert now is not None, "only knobs in play are asked"
    least, most = knobs.span(found.spec, knob)
    ends = (max(now / knob.around, min(least, now)), min(now * knob.around, max(most, now)))
    low, high = (
        judge(knobs.turned(found.spec, knob.id, value), found.case.recorded, found.pair).margin
        for value in (round(ends[0]) if knob.whole else ends[0], round(ends[1]) if knob.whole else ends[1])
    )
    words = [knob.words(round(end) if knob.whole else end) for end in ends]
    return _swing(found, knob.title, "input", words[0], words[1], low, high)


def _error(found: Verdict) -> Swing:
    words = ("mixture slower", "mixture faster")
    return _swing(found, "error of the predicted times, 80 %", "error", *words, found.low, found.high)


def _swing(
    found: Verdict, name: str, turned: Turned, low_at: str, high_at: str, low: float, high: float
) -> Swing:
    flips = min(low, high) <= 0 < max(low, high) or (found.margin > 0) != (low > 0)
    return Swing(name, turned, low_at, high_at, low, high, flips)
