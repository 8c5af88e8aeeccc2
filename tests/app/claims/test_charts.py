"""The chart of verdicts says its finding, validates, and keeps the colours of dense and mixture free."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from altair.utils import schemapi

from app.claims import charts
from moe_core.claims.verdict import OUTCOMES


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    with schemapi.debug_mode(True):
        yield


def counted(*rows: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["group", "verdict", "claims"])


def test_it_says_where_most_fails_and_where_most_waits() -> None:
    rows = [("memory", "holds", 9), ("memory", "does not hold", 3), ("speed", "does not hold", 1)]
    figure = charts.verdicts(counted(*rows, ("balance", "no evidence", 8)), "topic")
    assert figure.title == (
        "Most that fails is of topic memory (3 claims); "
        "most that waits for a run is of topic balance (8 claims)"
    )
    assert figure.title in figure.alt
    assert len(figure.data) == 4


def test_bars_are_stacked_in_the_order_of_the_verdicts_from_zero() -> None:
    rows = [("memory", outcome, place + 1) for place, outcome in enumerate(reversed(OUTCOMES))]
    figure = charts.verdicts(counted(*rows), "topic")
    (drawn,) = figure.spec["datasets"].values()
    assert list(drawn["verdict"]) == list(OUTCOMES)
    assert list(drawn["middle"]) == [3.0, 8.5, 13.0, 16.5, 19.0, 20.5]
    assert figure.spec["layer"][0]["encoding"]["x"]["stack"] == "zero"


def test_nothing_that_fails_is_said_too() -> None:
    assert charts.verdicts(counted(("A", "holds", 2)), "document").title.startswith("Nothing fails")


def test_verdicts_have_colours_of_their_own() -> None:
    assert len(set(charts.ROLE.values())) == len(OUTCOMES)
    assert not {"dense", "mixture"} & set(charts.ROLE.values())
