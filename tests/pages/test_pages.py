"""Every page, on an empty and on a filled store: an answer first, then evidence, and never a stack trace."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.conftest import PAGES, open_page, words


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_store_says_what_is_happening(app: AppTest, page: str) -> None:
    open_page(app, page)
    assert len(app.title) >= 1
    assert "no worker is alive" in words(app) or "Waiting to run here" in _progress(app)
    assert not app.error


@pytest.mark.parametrize("page", PAGES)
def test_a_filled_store_answers_first(filled: AppTest, page: str) -> None:
    open_page(filled, page)
    answer = filled.title[0].value
    assert re.search(r"\d", answer)
    assert not answer.endswith(".")
    assert len(filled.metric) <= 4
    assert not filled.error
    assert not filled.warning


@pytest.mark.parametrize("page", PAGES)
def test_every_chart_has_an_alternative_text(filled: AppTest, page: str) -> None:
    open_page(filled, page)
    charts = filled.get("vega_lite_chart")
    assert all(len(chart.proto.alt) > 20 for chart in charts)
    if page != "runs":
        assert charts


@pytest.mark.parametrize("page", PAGES[:3])
def test_every_number_has_a_badge(filled: AppTest, page: str) -> None:
    open_page(filled, page)
    badges = re.findall(r"-badge\[[^\]]*(measured here|measured elsewhere|published|modelled)", words(filled))
    assert len(badges) >= len(filled.metric) + len(filled.get("vega_lite_chart"))


@pytest.mark.parametrize("page", PAGES[:3])
def test_every_label_names_its_scale(filled: AppTest, page: str) -> None:
    open_page(filled, page)
    assert all("test model" in m.label or "full size" in m.label for m in filled.metric)


@pytest.mark.parametrize("view", ["Load", "Text", "Price", "Together", "Flow", "Quality against k"])
def test_every_tab_of_routing(filled: AppTest, view: str) -> None:
    filled.query_params["view"] = view
    open_page(filled, "routing")
    filled.session_state["view"] = view
    filled.run()
    assert not filled.exception
    assert filled.get("vega_lite_chart")


def test_a_figure_has_a_link_to_itself(filled: AppTest) -> None:
    filled.query_params["view"] = "Load"
    open_page(filled, "overview")
    filled.select_slider(key="batch").set_value(4).run()
    filled.session_state["data_load"] = True
    filled.run()
    assert not filled.exception
    (link,) = [code.value for code in filled.code if "show=load" in code.value]
    parts = urlsplit(link)
    assert dict(parse_qsl(parts.query))["batch"] == "4"


def test_the_glossary_is_one_click_away(filled: AppTest) -> None:
    open_page(filled, "overview")
    assert "In plain words" not in words(filled)
    filled.session_state["glossary"] = True
    filled.run()
    assert "| **Router** |" in words(filled)
    filled.button(key="concepts").click().run()
    assert not filled.exception
    assert "Trained alike, and carved" in words(filled)
    assert "In plain words" not in words(filled)  # it makes room


def _progress(app: AppTest) -> str:
    return " ".join(str(bar.text) for bar in app.progress)
