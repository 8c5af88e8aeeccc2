"""Headline: a verdict in one sentence, in plain words. What is missed comes first; never a margin.

The order: neither will do, only one does, too close to call, or one is the better choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moe_core.decide.flips import Flip
from moe_core.decide.limits import KEEPS
from moe_core.decide.pair import Kind
from moe_core.decide.serving import Serving
from moe_core.decide.verdict import State, Verdict, refusal, where
from moe_core.units import significant

ANSWERS: dict[State, str] = {"neither": "neither will do", "close": "too close to call"}
ALIKE = 1.05  # ratios nearer to one are called equal


def headline(found: Verdict, turns: Sequence[Flip] = ()) -> str:
    """The sentence, without a full stop. `turns`: flips of this verdict, the nearest first."""
    said = SAID[found.state](found)
    near = sensible(turns)
    return f"{said}; {near.sentence}" if near else said


QUICK = ("batch", "traffic")  # inputs that somebody turns


def sensible(turns: Sequence[Flip]) -> Flip | None:
    """The flip that a headline names: the nearest by batch or traffic, to the other model if there is one."""
    quick = [one for one in turns if one.knob.id in QUICK]
    other = next((one for one in quick if one.below and one.above), None)
    return other or next(iter(quick), None)


def answer(winner: Kind | None, firm: bool) -> str:
    """The answer in a word or two: `mixture`, `dense`, `too close to call`, `neither will do`."""
    if winner is None:
        return ANSWERS["neither"]
    return winner if firm else ANSWERS["close"]


def _neither(found: Verdict) -> str:
    said = refusal(found.case)
    return f"{said[:1].upper()}{said[1:]}"


def _only(found: Verdict) -> str:
    mixture, dense = found.misses
    missed = (dense or mixture)[0] if found.winner == "mixture" else (mixture or dense)[0]
    loser = found.pair.of("dense" if found.winner == "mixture" else "mixture").name
    keeps = f"{found.name} {KEEPS[missed.name]}"
    return f"Only {keeps} on {where(found.case)}{_load(found)}: {loser} {missed.words}"


def _close(found: Verdict) -> str:
    mixture, dense = found.case.both
    return (
        f"Too close to call: {mixture.candidate.name} {_speed(mixture, dense)} {dense.candidate.name} on "
        f"{where(found.case)}{_load(found)}, at {_price(mixture, dense)}"
    )


def _clear(found: Verdict) -> str:
    sides = found.case.both
    winner, loser = sides if found.winner == "mixture" else sides[::-1]
    assert found.winner is not None, "one is the better choice"
    said = f"{winner.candidate.name} {_speed(winner, loser)} {loser.candidate.name}"
    price = _price(winner, loser)
    return f"{found.winner.capitalize()}: {said} on {where(found.case)}{_load(found)}, at {price}"


SAID: dict[State, Callable[[Verdict], str]] = {
    "neither": _neither,
    "only": _only,
    "close": _close,
    "clear": _clear,
}


def _load(found: Verdict) -> str:
    """` at batch 16`, ` at 20 requests/s`."""
    work = found.spec.workload
    return f" at batch {work.batch:,}" if work.traffic is None else f" at {work.traffic:g} requests/s"


def _speed(one: Serving, other: Serving) -> str:
    """`writes a token 1.4× as fast as`, `is as fast as`, `takes 1.2× as long for a token as`."""
    ratio = other.step.seconds / one.step.seconds
    if 1 / ALIKE < ratio < ALIKE:
        return "is as fast as"
    if ratio < 1:
        return f"takes {significant(1 / ratio, 2)}× as long for a token as"
    return f"writes a token {significant(ratio, 2)}× as fast as"


def _price(one: Serving, other: Serving) -> str:
    """What it costs beside the other: memory of all devices together, dollars a token."""
    memory = _times(one.everywhere / other.everywhere, "the memory")
    if one.cost is None or other.cost is None:
        return memory
    return f"{_times(one.cost / other.cost, 'the cost')} and {memory}"


def _times(ratio: float, what: str) -> str:
    if 1 / ALIKE < ratio < ALIKE:
        return f"equal {what.removeprefix('the ')}"
    return f"{significant(ratio, 2)}× {what}"
