"""Flips: at which batch, context, memory, budget, target or length another answer is right.

A knob's range is walked on a logarithmic grid; between two neighbours with different answers the margin's
root is found by Brent's method on the logarithm, and both sides of what is reported are judged again. Two
crossings inside one step of the grid are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from math import floor, log2, sqrt
from typing import NamedTuple

from scipy.optimize import brentq

from moe_core.decide import knobs
from moe_core.decide.pair import Kind
from moe_core.decide.rules import Knob
from moe_core.decide.verdict import Judgement, Verdict, judge

STEPS = 2  # grid points an octave
CLOSE = 1.002  # both sides of a reported flip lie within this ratio, or are neighbouring whole numbers
Asked = Callable[[float], Judgement]


class Point(NamedTuple):
    """The answer at one value of a knob; no winner where neither will do.

    devices: what the mixture takes there, then the dense model.
    """

    value: float
    margin: float
    winner: Kind | None
    devices: tuple[int, int]


class Flip(NamedTuple):
    """`below` is the answer at `low` and under it, `above` at `high` and over it, up to the next flip."""

    knob: Knob
    low: float
    high: float
    below: Kind | None
    above: Kind | None
    now: float

    @property
    def at(self) -> float:
        return self.low if self.knob.whole else sqrt(self.low * self.high)

    @property
    def sentence(self) -> str:
        """What lies on the other side of it: `mixture above batch 43`, `dense below 96.0 GB a device`."""
        beyond, word = (self.above, "above") if self.now <= self.low else (self.below, "below")
        edge = self.high if word == "below" and self.knob.whole else self.at
        return f"{beyond or 'neither will do'} {word} {self.knob.words(edge)}"

    @property
    def distance(self) -> float:
        """Octaves from where the knob stands."""
        return abs(log2(self.at / self.now))


def curve(found: Verdict, name: str, steps: int = STEPS) -> tuple[Point, ...]:
    """The answer over a knob's whole range."""
    knob = next(one for one in knobs.in_play(found.spec) if one.id == name)
    ask = _asking(found, knob)
    return tuple(_point(value, ask(value)) for value in _grid(found, knob, steps))


def flips(found: Verdict, names: tuple[str, ...] | None = None) -> tuple[Flip, ...]:
    """Every flip of the knobs in play, the nearest first."""
    chosen = [knob.id for knob in knobs.in_play(found.spec) if names is None or knob.id in names]
    every = [flip for name in chosen for flip in between(found, name, curve(found, name))]
    return tuple(sorted(every, key=lambda flip: flip.distance))


def between(found: Verdict, name: str, points: Sequence[Point]) -> tuple[Flip, ...]:
    """The flips of one knob between the points of its curve, the nearest first."""
    knob = next(one for one in knobs.in_play(found.spec) if one.id == name)
    ask, now = _asking(found, knob), knobs.value(found.spec, knob.id)
    assert now is not None, "only knobs in play are asked"
    crossings = [(a, b) for a, b in pairwise(points) if a.winner != b.winner]
    turns = [
        Flip(knob, low, high, ask(low).winner, ask(high).winner, float(now))
        for low, high in (_narrowed(ask, a, b, knob.whole) for a, b in crossings)
    ]
    return tuple(sorted(turns, key=lambda flip: flip.distance))


def _asking(found: Verdict, knob: Knob) -> Asked:
    """The judgement at a value of the knob, everything else as it is."""
    question = _Question(found, knob)

    def ask(value: float) -> Judgement:
        return _judged(question, value)

    return ask


class _Question:
    """Everything but where one knob stands: whoever turns that knob asks the same. Equal by value."""

    __slots__ = ("found", "hash", "knob", "name")

    def __init__(self, found: Verdict, knob: Knob) -> None:
        self.found, self.knob = found, knob
        rest, pair = knobs.turned(found.spec, knob.id, 1), found.pair
        sides = tuple((one.key, one.name) for one in (pair.first, pair.second))
        load = found.case.recorded and found.case.recorded.load
        self.name = (knob.id, rest.model_dump_json(warnings=False), sides, pair.rule.id, load)
        self.hash = hash(self.name)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Question) and self.name == other.name)


@lru_cache(maxsize=50_000)
def _judged(question: _Question, value: float) -> Judgement:
    found = question.found
    return judge(knobs.turned(found.spec, question.knob.id, value), found.case.recorded, found.pair)


def _grid(found: Verdict, knob: Knob, steps: int) -> list[float]:
    """Values an even ratio apart, powers of two among them; whole where the knob is."""
    low, high = knobs.span(found.spec, knob)
    first, last = floor(log2(low) * steps), floor(log2(high) * steps)
    inside = [2 ** (i / steps) for i in range(first, last + 1)]
    values = [low, *(value for value in inside if low < value < high), high]
    return sorted({float(round(value)) if knob.whole else value for value in values})


def _point(value: float, found: Judgement) -> Point:
    return Point(value, found.margin, found.winner, found.devices)


def _narrowed(ask: Asked, a: Point, b: Point, whole: bool) -> tuple[float, float]:
    """Two values next to each other with the two answers: the root, checked, or else halves."""
    if a.winner and b.winner and a.margin * b.margin < 0:
        for low, high in _around(ask, a, b, whole):
            inside = a.value <= low and high <= b.value
            if inside and ask(low).winner == a.winner and ask(high).winner == b.winner:
                return low, high
    low, high = a.value, b.value
    while high > low + 1 if whole else high / low > CLOSE:
        middle = float(floor((low + high) / 2)) if whole else sqrt(low * high)
        if ask(middle).winner == a.winner:
            low = middle
        else:
            high = middle
    return low, high


def _around(ask: Asked, a: Point, b: Point, whole: bool) -> list[tuple[float, float]]:
    """Both sides of the margin's root. A whole knob's need not be exact: its neighbours are tried too."""
    near = 1 / (8 * b.value) if whole else 1e-7  # in octaves: a tenth of a whole number
    root = 2 ** brentq(lambda x: ask(2**x).margin, log2(a.value), log2(b.value), xtol=near, rtol=1e-9)
    if not whole:
        width = sqrt(CLOSE) - 1e-9
        return [(root / width, root * width)]
    lows = dict.fromkeys(floor(root + off) for off in (0.0, -0.2, 0.2))
    return [(float(low), float(low + 1)) for low in lows]
