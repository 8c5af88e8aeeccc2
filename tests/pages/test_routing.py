"""Routing of a real model: a trace is looked at like a run, and says what it cannot tell."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.conftest import open_page, words

TITLE = "DeepSeek-V2-Lite on four kinds of text"


def test_at_first_it_is_the_test_models(filled: AppTest) -> None:
    open_page(filled, "routing")
    box = filled.selectbox(key="router")
    assert (box.value, list(box.options)) == ("test model", ["test model", TITLE])
    assert all("test model" in one.label for one in filled.metric)


@pytest.mark.parametrize("view", ["Load", "Text", "Price", "Together", "Flow", "Quality against k"])
def test_every_tab_of_a_trace(filled: AppTest, view: str) -> None:
    open_page(filled, "routing")
    filled.session_state["router"] = TITLE
    filled.session_state["view"] = view
    filled.run()
    assert not filled.exception
    assert all(one.label.endswith(", as served") for one in filled.metric)
    said = words(filled).replace("\\", "")
    assert "33,279 tokens in 213 sequences; domains intent, summary, law, translation" in said
    assert "arXiv:2407.01906" in said
    if view == "Quality against k":
        assert "A trace says what was chosen" in said
    else:
        assert filled.get("vega_lite_chart")
    if view in ("Load", "Text"):
        assert "does not say which tokens were read" in said


def test_of_a_relative_it_is_the_trace(filled: AppTest) -> None:
    """And its load is what the full size carries; the sidebar can say otherwise."""
    filled.query_params["architecture"] = "DeepSeekMoE-16B"
    open_page(filled, "routing")
    assert filled.selectbox(key="router").value == TITLE
    open_page(filled, "economics")
    filled.session_state["cost"] = "Uneven load"
    filled.run()
    assert f"load curve of a trace: {TITLE}" in words(filled).replace("\\", "")
    filled.selectbox(key="load").set_value("even").run()
    assert "load curve even" in words(filled)
    assert filled.session_state["scenario_now"].load == "even"


def test_a_trace_of_the_runs_page_opens_here(filled: AppTest) -> None:
    open_page(filled, "runs")
    table = filled.dataframe[0].value
    row = int((table["question"] == "trace of a served model").to_numpy().argmax())
    filled.session_state["runs_table"] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    filled.run()
    filled.button(key="runs_open").click().run()
    assert not filled.exception
    assert filled.selectbox(key="router").value == TITLE


def test_a_trace_that_is_not_here_is_one_sentence(filled: AppTest) -> None:
    filled.query_params["load"] = "0123456789abcdef"
    open_page(filled, "overview")
    assert "load (0123456789abcdef): must be one of" in words(filled).replace("\\", "")
    assert filled.session_state["scenario_now"].load == "auto"
