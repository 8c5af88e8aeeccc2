"""Verdict: one answer with its margin, from factors whose rules are data.

    support = sum of weight x score / sum of weights                  in [-1, 1], above zero for the mixture
    margin  = g_m g_d support + (g_m - g_d)                           g: 1 fits easily, 0 does not fit

So where both fit the factors decide, where one fits it wins whatever they say, and in the last hundredth of
memory the one turns into the other without a jump. Where neither fits there is no verdict but a refusal
with numbers. An exact tie goes to the dense model, the simpler one to run.
"""

from __future__ import annotations

from math import hypot
from typing import NamedTuple

from moe_core.decide.case import Case, Recorded, case
from moe_core.decide.factors import Factor, factors
from moe_core.decide.layout import WIDEST
from moe_core.decide.pair import Kind, Pair, pair
from moe_core.decide.scores import pulls
from moe_core.decide.serving import Serving, enough
from moe_core.decide.spec import DecideSpec
from moe_core.errors import InfeasibleError
from moe_core.units import quantity


class Judgement(NamedTuple):
    """Winner and margin from the mixture's side.

    No winner where neither fits; no support where only one does: then there is nothing to weigh.
    """

    winner: Kind | None
    margin: float
    support: float


class Verdict(NamedTuple):
    """The answer. `low` and `high`: the margin when the predicted ratio of times is off by its 80 % interval.

    firm: whether the winner stays the same there. reason: one sentence.
    """

    spec: DecideSpec
    pair: Pair
    winner: Kind
    margin: float
    low: float
    high: float
    support: float
    reason: str
    factors: tuple[Factor, ...]
    case: Case

    @property
    def firm(self) -> bool:
        return (self.low > 0) == (self.high > 0)

    @property
    def name(self) -> str:
        """The winner's name."""
        return self.pair.of(self.winner).name


def decide(spec: DecideSpec, recorded: Recorded | None = None, of: Pair | None = None) -> Verdict:
    """Judge one spec. Raises InfeasibleError with both candidates' numbers where neither fits."""
    chosen = of or pair(spec)
    found = case(spec, recorded, chosen)
    made = judged(found)
    if made.winner is None:
        raise InfeasibleError(refusal(found))
    low, high = _band(found)
    every = factors(found)
    reason = _reason(found, made, every)
    return Verdict(spec, chosen, made.winner, made.margin, low, high, made.support, reason, every, found)


def judge(spec: DecideSpec, recorded: Recorded | None = None, of: Pair | None = None) -> Judgement:
    """Winner and margin only: what root finding asks many times."""
    return judged(case(spec, recorded, of))


def judged(found: Case) -> Judgement:
    """Winner and margin of a case."""
    first, second = found.first, found.second
    side = found.pair.leaning or 1
    if not first.fits and not second.fits:
        return Judgement(None, 0.0, 0.0)
    both = first.gate * second.gate
    support = sum(pulls(found).values()) if both else 0.0  # nothing to weigh where one does not fit
    margin = side * (both * support + first.gate - second.gate)
    if margin == 0 and first.fits != second.fits:  # to the byte: the one that fits
        winner: Kind = (first if first.fits else second).candidate.kind
    else:
        winner = "mixture" if margin > 0 else "dense"
    return Judgement(winner, margin, side * support)


def _band(found: Case) -> tuple[float, float]:
    """Margins with the mixture slower and faster by the joint 80 % interval of both times."""
    wide = hypot(found.first.step.spread, found.second.step.spread)
    low, high = (judged(case(found.spec, found.recorded, found.pair, bias)).margin for bias in (wide, -wide))
    return min(low, high), max(low, high)


def _reason(found: Case, made: Judgement, every: tuple[Factor, ...]) -> str:
    """Why: the only one that fits, or the factor that pulls most towards the winner."""
    alone = [one for one in (found.first, found.second) if one.fits]
    if len(alone) == 1:
        other = found.second if alone[0] is found.first else found.first
        need, room = quantity(other.need, "B"), quantity(other.usable, "B")
        return (
            f"only {alone[0].candidate.name} fits: {other.candidate.name} needs {need}, a device gives {room}"
        )
    side = 1 if made.winner == "mixture" else -1
    best = max(every, key=lambda factor: side * factor.pull)
    return f"{best.title.lower()} speaks loudest for it: {best.evidence}"


def refusal(found: Case) -> str:
    """Neither fits: by how much, and on how many devices each would."""
    parts = [_short(one) for one in found.both]
    return f"neither fits {found.spec.devices} × {found.first.device.name}: {'; '.join(parts)}"


def _short(one: Serving) -> str:
    said = f"{one.candidate.name} needs {quantity(one.need, 'B')} of {quantity(one.usable, 'B')}"
    many = enough(one.candidate, one.spec)
    return f"{said}, {many or f'more than {WIDEST}'} devices would do"
