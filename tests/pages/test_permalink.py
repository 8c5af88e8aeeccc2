"""The link of a chart opens its page, its tab and the chart, with the whole scenario."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from streamlit.testing.v1 import AppTest

from app import panels, permalink
from moe_core.scenario import link
from moe_core.settings import ROOT
from tests.pages.conftest import open_page

SCENARIO = {"architecture": "DBRX", "batch": "64", "rival": "total", "hardware": "H200", "traffic": "2.5"}


def scripts(app: AppTest) -> list[str]:
    """What scrolls to a chart."""
    return [str(one.value) for one in app.get("html") if "scrollIntoView" in str(one.value)]


def address(app: AppTest, key: str) -> str:
    """The link of a chart, asked for while the page is drawn."""
    found: list[str] = []
    drawn = panels.page_files

    def ask(title: str) -> None:
        found.append(permalink.address(key))
        drawn(title)

    panels.page_files = ask
    try:
        app.run()
    finally:
        panels.page_files = drawn
    assert not app.exception, app.exception
    return found[0]


def test_a_link_carries_page_tab_scenario_and_chart(filled: AppTest) -> None:
    filled.query_params.update(SCENARIO, budget="Formats")
    open_page(filled, "memory")
    path, query = urlsplit(address(filled, "formats"))[2:4]
    values = {name: one for name, (one,) in parse_qs(query).items()}
    assert path == "/memory"
    assert (values["show"], values["budget"]) == ("formats", "Formats")
    known = {name: value for name, value in values.items() if name in link.FIELDS}
    assert link.spoken(link.scenario(known)) == link.spoken(filled.session_state["scenario_now"])


def test_overview_has_no_path(filled: AppTest) -> None:
    """The first page answers to `/` alone: by its name Streamlit says that there is no such page."""
    open_page(filled, "overview")
    path, query = urlsplit(address(filled, "margin"))[2:4]
    assert path == "/"
    assert query.endswith("show=margin")


def test_it_scrolls_once(filled: AppTest) -> None:
    filled.query_params["show"] = "margin"
    open_page(filled, "overview")
    (script,) = scripts(filled)
    assert '".st-key-figure_" + "margin"' in script
    filled.run()
    assert not scripts(filled)
    assert not filled.warning


def test_what_hides_the_chart_is_opened(filled: AppTest) -> None:
    open_page(filled, "overview")
    before = len(filled.get("vega_lite_chart"))
    other = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=300)
    other.query_params["show"] = "decode"
    open_page(other, "overview")
    assert len(other.get("vega_lite_chart")) > before
    assert scripts(other)


def test_a_chart_that_is_not_there_is_named(filled: AppTest) -> None:
    filled.query_params["show"] = '"+alert(1)+"'
    open_page(filled, "overview")
    assert not scripts(filled)
    (toast,) = filled.toast
    assert "must be a chart of this page" in toast.value


def test_every_chart_of_a_page_can_be_asked_for(filled: AppTest) -> None:
    open_page(filled, "routing")
    keys = list(filled.session_state["page_drawn"][2])
    assert keys
    filled.query_params["show"] = keys[-1]
    filled.run()
    assert scripts(filled)
