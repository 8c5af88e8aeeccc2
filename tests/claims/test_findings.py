"""Findings: which run speaks, and what is none."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from moe_core.claims.findings import LabRun, best
from tests.claims.found import summary

NOON = datetime(2026, 11, 28, 12)


def run(name: str, hours: float, here: bool = True, **findings: Any) -> LabRun:
    return LabRun("collapse", name, NOON + timedelta(hours=hours), here, "a test", findings)


def test_the_newest_of_equals_speaks() -> None:
    found = best([run("new", 2, a=summary(2)), run("newest", 3, a=summary(3)), run("old", 1, a=summary(1))])
    assert (found["collapse"]["a"].value, found["collapse"]["a"].run_id) == (3, "newest")


def test_a_quick_look_changes_no_law_but_speaks_where_nothing_else_does() -> None:
    full = run("full", 0, False, a=summary(1, 0.5, 1.5, seeds=3))
    quick = run("quick", 5, True, a=summary(9, seeds=1), b=summary(4, seeds=1))
    found = best([quick, full])["collapse"]
    assert (found["a"].run_id, found["a"].here) == ("full", False)
    assert (found["b"].run_id, found["b"].here) == ("quick", True)


@pytest.mark.parametrize(
    "value", [None, 3, "three", {}, {"value": None}, {"value": float("nan")}, {"value": True}, {"value": "1"}]
)
def test_what_is_no_number_is_no_finding(value: object) -> None:
    assert best([run("one", 0, a=value)]) == {}


def test_half_an_interval_is_none() -> None:
    found = best([run("one", 0, a={"value": 1, "low": 0.5, "high": None, "seeds": 2, "unit": "nats"})])
    one = found["collapse"]["a"]
    assert (one.low, one.high, one.seeds, one.unit) == (None, None, 2, "nats")
