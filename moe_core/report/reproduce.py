"""Reproduce: every number of a manifest once more, and whether it is the same.

A computed number must be equal, but for the last digits of a floating-point sum. A verdict is made again
from what was asked: winner, margin, factors and flips must be the same. A measured number is read
from its stored bundle again, or, with a fresh run, judged by its spread: the two intervals must meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from moe_core.errors import MoEScopeError
from moe_core.report.decided import DECIDED, Decided, again, number_of
from moe_core.report.kinds import KINDS, Value, compute
from moe_core.report.manifest import Manifest, Number, Ran
from moe_core.report.measured import FACTS, Measured, fact
from moe_core.report.text import show
from moe_core.runs.bundle import Bundle
from moe_core.scenario.resolved import Resolved

Outcome = Literal["equal", "different", "unknown"]
ROUNDING = 1e-9  # relative: a sum taken in another order
Find = Callable[[Ran], Bundle]


class Check(NamedTuple):
    """One number: what the manifest says, what it is now, and why it cannot be said."""

    name: str
    of: str
    unit: str
    was: Value
    now: Value
    outcome: Outcome
    why: str = ""

    def line(self) -> str:
        """`equal  Memory of A: 93.4 GB`."""
        digits = 6 if self.outcome == "different" else 3
        said = f"{self.outcome:<10}{self.of}: {self.name} {show(self.was, self.unit, digits)}"
        if self.outcome == "different":
            now = show(self.now, self.unit, digits)
            return f"{said}, now {now}" + (f" ({self.why})" if self.why else "")
        return f"{said} ({self.why})" if self.why else said


class Rule(NamedTuple):
    """What a table of kinds is computed of, by name, and how one of its numbers is judged."""

    subjects: Mapping[str, Any]
    judge: Callable[[Check, Number, Any], Check]


def reproduce(manifest: Manifest, find: Find, fresh: bool = False) -> list[Check]:
    """Check every number. `find` gives the bundle of a run: the stored one, or that of a `fresh` run."""
    bundles = {run.run_id: _attempt(partial(find, run)) for run in manifest.runs}
    cases = {name: _attempt(partial(Resolved.of, values)) for name, values in manifest.scenarios.items()}
    verdicts = {name: _attempt(partial(again, values)) for name, values in manifest.decisions.items()}
    rules = {
        **dict.fromkeys(KINDS, Rule(cases, _computed)),
        **dict.fromkeys(FACTS, Rule(bundles, partial(_measured, fresh=fresh))),
        **dict.fromkeys(DECIDED, Rule(verdicts, _decided)),
    }
    return [_check(number, rules) for number in manifest.numbers]


def _check(number: Number, rules: Mapping[str, Rule]) -> Check:
    check = Check(number.name, number.of, number.unit, number.value, None, "unknown")
    if number.how not in rules:
        return check._replace(why=f"this version has no rule {number.how!r}")
    rule = rules[number.how]
    subject = rule.subjects.get(number.of)
    if subject is None:
        return check._replace(why=f"the manifest does not describe {number.of!r}")
    if isinstance(subject, MoEScopeError):
        return check._replace(why=str(subject))
    try:
        return rule.judge(check, number, subject)
    except MoEScopeError as error:
        return check._replace(why=str(error))
    except KeyError as error:
        return check._replace(why=f"the manifest lacks the argument {error}")


def _computed(check: Check, number: Number, case: Resolved) -> Check:
    now = compute(number.how, case, number.arguments)
    return check._replace(now=now, outcome="equal" if same(number.value, now) else "different")


def _decided(check: Check, number: Number, found: Decided) -> Check:
    """A flip that is no more is a difference, not a mistake of the manifest."""
    now = number_of(number.how, found, number.arguments)
    agrees = same(number.value, now, DECIDED[number.how].slack)
    return check._replace(now=now, outcome="equal" if agrees else "different")


def _measured(check: Check, number: Number, found: Bundle, fresh: bool) -> Check:
    value = fact(number.how, found, number.arguments)
    if value is None:
        return check._replace(why="the run has no such measurement")
    agrees = meets(number, value) if fresh else same(number.value, value.value)
    why = f"within {FACTS[number.how].slack:.0%} or the spread of both" if fresh else ""
    return check._replace(now=value.value, outcome="equal" if agrees else "different", why=why)


def same(was: Value, now: Value, slack: float = ROUNDING) -> bool:
    """Equal: integers and sentences exactly, floating point but for rounding."""
    if isinstance(was, float) or isinstance(now, float):
        known = isinstance(was, int | float) and isinstance(now, int | float)
        return known and math.isclose(float(was), float(now), rel_tol=slack)  # type: ignore[arg-type]
    return was == now


def meets(number: Number, now: Measured) -> bool:
    """Whether two measurements agree: their spreads, each widened by the kind's slack, overlap."""
    if not isinstance(number.value, int | float):
        return False
    slack = FACTS[number.how].slack / 2
    was = _interval(Measured(number.value, number.low, number.high), slack)
    is_now = _interval(now, slack)
    return was[0] <= is_now[1] and is_now[0] <= was[1]


def _interval(value: Measured, slack: float) -> tuple[float, float]:
    low = value.value if value.low is None else value.low
    high = value.value if value.high is None else value.high
    return low - slack * abs(low), high + slack * abs(high)


def _attempt(action: Callable[[], Any]) -> Any:
    """What `action` gives, or the error that says why there is nothing."""
    try:
        return action()
    except MoEScopeError as error:
        return error
