"""Verdict: claimed and found, compared. Computed whenever it is asked for, and kept nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Literal, NamedTuple

from moe_core.claims.spec import Role, Statement
from moe_core.claims.subjects import Computed

Outcome = Literal[
    "holds", "holds under its condition", "does not hold", "undecided", "no evidence", "not testable here"
]
OUTCOMES: dict[Outcome, str] = {
    "holds": "what was found agrees with what is claimed, inside the tolerance",
    "holds under its condition": "it agrees where the condition is met; elsewhere it need not",
    "does not hold": "what was found lies outside the tolerance",
    "undecided": "the interval of what was found reaches over the limit, or it rests on too few seeds",
    "no evidence": "the run that would settle it has not been made, or was deleted",
    "not testable here": "no number could settle it, or none that we can compute, measure or read",
}


class Compared(NamedTuple):
    """How a piece of evidence bears on a claim. found: it has a number. agrees: None is undecided."""

    role: Role
    found: bool
    agrees: bool | None


def agrees(statement: Statement, found: Computed) -> bool | None:
    """Whether a number agrees with a statement; None where its interval reaches over the limit."""
    low, high = region(statement)
    least = found.value if found.low is None else found.low
    most = found.value if found.high is None else found.high
    if low <= least and most <= high:
        return True
    if most < low or least > high:
        return False
    return None


def region(statement: Statement) -> tuple[float, float]:
    """From where to where a number agrees, the tolerance taken in."""
    number = statement.number or 0.0
    slack = abs(number) * statement.within + statement.margin
    if statement.says == "at most":
        return -inf, number + slack
    if statement.says == "at least":
        return number - slack, inf
    if statement.says == "between":
        assert statement.to is not None, "the record was checked"
        return number - slack, statement.to + abs(statement.to) * statement.within + statement.margin
    return number - slack, number + slack


def verdict(testable: bool, condition: str, evidence: Sequence[Compared]) -> Outcome:
    """The outcome. Evidence from beyond the condition never refutes a claim: it shows that one is needed."""
    if not testable:
        return "not testable here"
    inside = [one.agrees for one in evidence if one.role == "test" and one.found]
    beyond = [one.agrees for one in evidence if one.role == "beyond" and one.found]
    if not inside:
        return "no evidence"
    if False in inside:
        return "does not hold"
    if None in inside:
        return "undecided"
    needless = bool(beyond) and all(one is True for one in beyond)
    return "holds under its condition" if condition and not needless else "holds"
