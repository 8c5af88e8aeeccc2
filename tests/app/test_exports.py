"""Exports of the pages: the manifest knows scenario and run, and a page leaves as one file."""

from __future__ import annotations

import io
import json
import zipfile

import pandas as pd
import pytest

from app import exports
from app.exports import Context
from app.figure import Figure
from app.routing import quality
from app.speed import charts as speed_charts
from moe_core.report import embed, formats
from moe_core.report.archive import Page
from moe_core.report.decided import DECIDED
from moe_core.report.manifest import Manifest
from moe_core.report.measured import find
from moe_core.report.reproduce import reproduce
from moe_core.scenario.spec import Scenario
from moe_core.settings import REFERENCE
from tests.app.conftest import Filled
from tests.report.reviewed import verdict

BITS = {"dense": 1.9, "oracle": 2.2, "moe": 2.4, "random": 3.5}
SCENARIO = Scenario("Mixtral-8x7B", "H100", text="mine alone")


@pytest.fixture(scope="module")
def figure() -> Figure:
    return quality.summary(BITS)


def test_a_file_knows_its_scenario_and_its_run(figure: Figure, filled: Filled) -> None:
    bundle = find(filled.bench, filled.store.settings.runs_dir, REFERENCE)
    context = Context(SCENARIO, (("measured here", "a test"),), (bundle,))
    data = exports.file("svg", {"bits": figure}, context, "light")
    text = embed.extract(data)
    assert text is not None
    made = Manifest.parse_json(text)
    assert made.runs[0].run_id == filled.bench
    assert made.rows == {"bits": formats.digest(figure)}
    assert "mine alone" not in str(text)
    checks = reproduce(made, lambda run: find(run.run_id, filled.store.settings.runs_dir, REFERENCE))
    assert len(checks) > 30
    assert {check.outcome for check in checks} == {"equal"}


def test_a_page_with_a_verdict_carries_what_was_asked(figure: Figure) -> None:
    context = Context(SCENARIO, (("modelled", "a test"),), decided=verdict())
    made = exports.manifest("x", {"bits": figure}, context)
    assert {number.how for number in made.numbers} >= set(DECIDED)
    checks = reproduce(Manifest.parse_json(made.to_json()), lambda run: pytest.fail(f"no run is read: {run}"))
    assert {check.outcome for check in checks} == {"equal"}


def test_a_scenario_that_is_not_known_leaves_a_file_without_its_numbers(figure: Figure) -> None:
    made = exports.manifest("x", {}, Context(Scenario("no such model", "H100"), ()))
    assert made.scenarios == {}
    assert made.numbers == ()


def test_a_page_leaves_as_one_file(figure: Figure) -> None:
    page = Page("Dense here", (("Time", "2 s", "for all", "modelled"),), {"bits": figure, "../x": figure})
    context = Context(SCENARIO, (("modelled", "closed form"),))
    with zipfile.ZipFile(io.BytesIO(exports.page("zip", page, context, "dark"))) as file:
        names = file.namelist()
        assert {"manifest.json", "page.html", "figures/bits.svg", "figures/x.csv"} <= set(names)
        assert not [name for name in names if ".." in name or name.startswith("/")]
        assert json.loads(file.read("manifest.json"))["what"] == "page"
    text = exports.page("html", page, context, "light").decode()
    assert "Dense here" in text
    assert text.count("<figure>") == 2
    assert text.count("<script") == 1


def test_exporting_leaves_the_figure_alone() -> None:
    """A figure is shared between sessions, its views nested."""
    rows = [(m, p, "total", 0.1, 0.1, 0.2) for m in ("dense", "moe") for p in ("prefill", "decode")]
    names = ["model", "phase", "component", "median_s", "p10_s", "p90_s"]
    figure = speed_charts.phases(pd.DataFrame(rows, columns=names))
    before = json.dumps({key: value for key, value in figure.spec.items() if key != "datasets"})
    exports.file("png", {"x": figure}, Context(None, ()), "light")
    after = json.dumps({key: value for key, value in figure.spec.items() if key != "datasets"})
    assert before == after
