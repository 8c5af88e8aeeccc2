"""Verdict: one answer with its margin, from factors whose rules are data.

    support = sum of weight x score / sum of weights                  in [-1, 1], above zero for the mixture
    margin  = k_m k_d support + (k_m - k_d)                  k: 1 keeps every limit easily, 0 misses one

So where both keep memory, length, targets and traffic the factors decide, where one does it wins whatever
they say, and in the last hundredth of a limit the one turns into the other without a jump. Where neither
fits there is no verdict but a refusal with numbers. An exact tie goes to the dense model, the simpler one to
run. A margin whose sign the error of the times could turn is too close to call.
"""

from __future__ import annotations

from math import hypot
from typing import Literal, NamedTuple

from moe_core.decide.case import Case, Recorded, case
from moe_core.decide.factors import Factor, factors
from moe_core.decide.limits import Miss, kept, misses
from moe_core.decide.pair import Kind, Pair, pair
from moe_core.decide.scores import pulls
from moe_core.decide.spec import DecideSpec
from moe_core.errors import InfeasibleError

State = Literal["neither", "only", "close", "clear"]
HARD = ("memory", "length")  # what misses one of these has neither times nor prices


class Judgement(NamedTuple):
    """Winner and margin from the mixture's side.

    No winner where neither will do; no support where only one does: then there is nothing to weigh.
    devices: of the mixture, then of the dense model.
    """

    winner: Kind | None
    margin: float
    support: float
    devices: tuple[int, int]


class Verdict(NamedTuple):
    """The answer. `low` and `high`: the margin when the predicted ratio of times is off by its 80 % interval.

    winner: None where neither will do; where the call is too close, the side it leans to.
    misses: of the mixture, then of the dense model. reason: one sentence.
    """

    spec: DecideSpec
    pair: Pair
    winner: Kind | None
    margin: float
    low: float
    high: float
    support: float
    misses: tuple[tuple[Miss, ...], tuple[Miss, ...]]
    reason: str
    factors: tuple[Factor, ...]
    case: Case

    @property
    def firm(self) -> bool:
        """Whether the error of the times leaves the answer as it is."""
        return self.winner is None or (self.low > 0) == (self.high > 0)

    @property
    def state(self) -> State:
        """Neither will do; only one does; too close to call; or one is the better choice."""
        if self.winner is None:
            return "neither"
        if not self.firm:
            return "close"
        return "only" if any(self.misses) else "clear"

    @property
    def name(self) -> str | None:
        """The winner's name."""
        return None if self.winner is None else self.pair.of(self.winner).name


def decide(spec: DecideSpec, recorded: Recorded | None = None, of: Pair | None = None) -> Verdict:
    """Judge one spec. Raises InfeasibleError with both candidates' numbers where neither fits."""
    chosen = of or pair(spec)
    found = case(spec, recorded, chosen)
    made, missed = judged(found), (misses(found.both[0]), misses(found.both[1]))
    if all(any(miss.name in HARD for miss in one) for one in missed):
        raise InfeasibleError(refusal(found))
    low, high = _band(found)
    every = factors(found)
    reason = _reason(found, made, every)
    return Verdict(
        *(spec, chosen, made.winner, made.margin, low, high, made.support),
        misses=missed, reason=reason, factors=every, case=found,
    )  # fmt: skip


def judge(spec: DecideSpec, recorded: Recorded | None = None, of: Pair | None = None) -> Judgement:
    """Winner and margin only: what root finding asks many times."""
    return judged(case(spec, recorded, of))


def judged(found: Case) -> Judgement:
    """Winner and margin of a case."""
    side = found.pair.leaning or 1
    first, second = kept(found.first), kept(found.second)
    if not first and not second and not _just(found):
        return Judgement(None, 0.0, 0.0, found.devices)
    both = first * second
    support = sum(pulls(found).values()) if both else 0.0  # nothing to weigh where one will not do
    margin = side * (both * support + first - second)
    if margin == 0 and bool(misses(found.first)) != bool(misses(found.second)):  # to the byte
        winner: Kind = (found.second if misses(found.first) else found.first).candidate.kind
    else:
        winner = "mixture" if margin > 0 else "dense"
    return Judgement(winner, margin, side * support, found.devices)


def _just(found: Case) -> bool:
    """Whether one of them keeps every limit to the byte."""
    return any(not misses(one) for one in found.both)


def _band(found: Case) -> tuple[float, float]:
    """Margins with the mixture slower and faster by the joint 80 % interval of both times."""
    wide = hypot(found.first.step.spread, found.second.step.spread)
    low, high = (judged(found.stretched(bias)).margin for bias in (wide, -wide))
    return min(low, high), max(low, high)


def _reason(found: Case, made: Judgement, every: tuple[Factor, ...]) -> str:
    """Why: what the others miss, or the factor that pulls most towards the winner."""
    if made.winner is None:
        return refusal(found)
    winner = next(one for one in found.both if one.candidate.kind == made.winner)
    other = next(one for one in found.both if one is not winner)
    if missed := misses(other):
        return f"{other.candidate.name} {missed[0].words}"
    side = 1 if made.winner == "mixture" else -1
    best = max(every, key=lambda factor: side * factor.pull)
    return f"{best.title.lower()} speaks loudest for it: {best.evidence}"


def refusal(found: Case) -> str:
    """Neither will do: what each misses, and by how much."""
    said = [f"{one.candidate.name} {missed[0].words}" for one in found.both if (missed := misses(one))]
    return f"neither {_verb(found)} {where(found)}: {'; '.join(said)}"


def _verb(found: Case) -> str:
    names = {missed[0].name for one in found.both if (missed := misses(one))}
    if names <= {"memory"}:
        return "fits"
    if names == {"traffic"}:
        return f"carries {found.spec.workload.traffic:g} requests/s on"
    return "will do on"


def where(found: Case) -> str:
    """`one H100`, `16 × H200`, `2 × H100 against one`: devices of the mixture, then of the dense model."""
    name, (mixture, dense) = found.first.device.title, found.devices
    if mixture == dense:
        return counted(mixture, name)
    return f"{counted(mixture, name)} against {'one' if dense == 1 else f'{dense:,}'}"


def counted(devices: int, name: str) -> str:
    """`one H100`, `16 × H200`."""
    return f"one {name}" if devices == 1 else f"{devices:,} × {name}"
