"""The routing page's own knobs: a click on the heatmap is what a browser says, and may be anything."""

from __future__ import annotations

from typing import Any

import pytest

from app.routing import view as routing_view


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {"layer": 0, "expert": 1}
    monkeypatch.setattr("streamlit.session_state", found)
    return found


def click(state: dict[str, Any], event: Any) -> tuple[Any, Any]:
    state["chart_cell"] = event
    routing_view._clicked([0, 2, 4], 8)
    return state["layer"], state["expert"]


def test_a_cell_becomes_the_expert_below(state: dict[str, Any]) -> None:
    assert click(state, {"selection": {"cell": [{"layer": 2, "expert": 7}]}}) == (2, 7)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"selection": {}},
        {"selection": {"cell": []}},
        {"selection": {"cell": [{}]}},
        {"selection": {"cell": [{"layer": 2}]}},
        {"selection": {"cell": [{"layer": None, "expert": 1}]}},
        {"selection": {"cell": [{"layer": "x", "expert": 1}]}},
        {"selection": {"cell": [{"layer": float("inf"), "expert": 1}]}},
        {"selection": {"cell": [[2, 7]]}},
        {"selection": {"cell": {"layer": 2}}},
        {"selection": [1]},
        {"selection": {"cell": [{"layer": 3, "expert": 1}]}},  # no such layer
        {"selection": {"cell": [{"layer": 2, "expert": 8}]}},
        {"selection": {"cell": [{"layer": 2, "expert": -1}]}},
    ],
)
def test_anything_else_changes_nothing(state: dict[str, Any], event: Any) -> None:
    assert click(state, event) == (0, 1)
