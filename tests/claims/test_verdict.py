"""Verdicts: tolerance, intervals, conditions. Every rule as a property."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.claims.spec import Statement
from moe_core.claims.subjects import Computed
from moe_core.claims.verdict import OUTCOMES, Compared, agrees, region, verdict

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


def stated(says: str, number: float | None = None, **more: Any) -> Statement:
    return Statement.parse({"says": says, "number": number, **more})


@pytest.mark.parametrize(
    ("statement", "value", "agreed"),
    [
        (stated("equals", 28), 28, True),
        (stated("equals", 28), 28.000001, False),
        (stated("equals", 100, within=0.02), 102, True),
        (stated("equals", 100, within=0.02), 102.1, False),
        (stated("equals", 100, margin=5), 95, True),
        (stated("equals", -10, within=0.1), -11, True),
        (stated("at most", 3), 3, True),
        (stated("at most", 3), 3.01, False),
        (stated("at most", 3, margin=0.1), 3.1, True),
        (stated("at least", 3), 2.99, False),
        (stated("between", 1.5, to=1.9, within=0.01), 1.492, True),
        (stated("between", 1.5, to=1.9), 1.492, False),
        (stated("zero", margin=1e-12), -1e-13, True),
        (stated("zero"), 1e-300, False),
    ],
)
def test_a_number_is_held_against_a_statement(statement: Statement, value: float, agreed: bool) -> None:
    assert agrees(statement, Computed(value)) is agreed


def test_an_interval_agrees_inside_fails_outside_and_is_open_across() -> None:
    limit = stated("at most", 1)
    assert agrees(limit, Computed(0.5, 0.2, 0.9)) is True
    assert agrees(limit, Computed(0.5, 0.2, 1.1)) is None
    assert agrees(limit, Computed(1.5, 1.2, 1.9)) is False
    none = stated("zero", margin=0.1)  # two one-sided tests
    assert agrees(none, Computed(0.0, -0.05, 0.05)) is True
    assert agrees(none, Computed(0.0, -0.5, 0.5)) is None


@given(NUMBERS, st.floats(0, 1), NUMBERS)
def test_a_wider_tolerance_never_turns_agreement_away(number: float, within: float, value: float) -> None:
    narrow, wide = stated("equals", number, within=within / 2), stated("equals", number, within=within)
    assert not agrees(narrow, Computed(value)) or agrees(wide, Computed(value))


@given(NUMBERS, NUMBERS)
def test_at_most_and_at_least_leave_nothing_between(number: float, value: float) -> None:
    both = [agrees(stated(says, number), Computed(value)) for says in ("at most", "at least")]
    assert any(both)
    assert all(both) == (number == value)


def test_the_region_of_a_bound_is_open_at_one_end() -> None:
    assert region(stated("at most", 2, within=0.5)) == (-math.inf, 3)
    assert region(stated("at least", 2, within=0.5)) == (1, math.inf)


def piece(role: Any, agreed: bool | None, found: bool = True) -> Compared:
    return Compared(role, found, agreed)


YES, NO, OPEN, GONE = (
    piece("test", True),
    piece("test", False),
    piece("test", None),
    piece("test", None, False),
)
FAR, ALSO = piece("beyond", False), piece("beyond", True)


@pytest.mark.parametrize(
    ("condition", "evidence", "outcome"),
    [
        ("", [YES], "holds"),
        ("if", [YES], "holds under its condition"),
        ("if", [YES, FAR], "holds under its condition"),
        ("if", [YES, ALSO], "holds"),  # the condition turned out to be needless
        ("if", [YES, piece("beyond", None)], "holds under its condition"),
        ("", [YES, NO], "does not hold"),
        ("if", [NO, ALSO], "does not hold"),
        ("", [NO, OPEN], "does not hold"),
        ("", [YES, OPEN], "undecided"),
        ("", [GONE], "no evidence"),
        ("", [GONE, YES], "holds"),
        ("if", [GONE, FAR], "no evidence"),
        ("", [YES, piece("beside", False)], "holds"),
    ],
)
def test_evidence_becomes_a_verdict(condition: str, evidence: list[Compared], outcome: str) -> None:
    assert verdict(True, condition, evidence) == outcome


def test_what_nothing_settles_is_said() -> None:
    assert verdict(False, "", []) == "not testable here"
    assert set(OUTCOMES) >= {"not testable here", "no evidence", "undecided"}
