"""Charts of economics and accuracy: a finding in words, drawn without a browser, in the theme's colours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache

import pandas as pd
import pytest
from altair.utils import schemapi

from app import figure as app_figure
from app.accuracy import charts as accuracy_charts
from app.economics import charts as economics_charts
from app.economics import dense_equivalent
from app.figure import Figure
from moe_core.report import formats
from moe_core.report.manifest import Origin, make
from moe_core.scenario import costs, loads
from moe_core.scenario.costs import Study
from moe_core.scenario.spec import Scenario
from moe_core.silicon.workshop import errors as workshop
from moe_core.silicon.workshop import layer_accuracy

ONE = ("h100_sxm", "vllm", "bf16")


@cache
def study() -> Study:
    load = tuple(1 / (i + 1) for i in range(16))
    return costs.study(Scenario("Qwen3-30B-A3B", "H100"), "vllm", load, None)


@cache
def decode() -> pd.DataFrame:
    return costs.steps(study(), "decode")


@cache
def curves() -> pd.DataFrame:
    rows = loads.curve_rows(loads.curves(study()), study())
    live = rows[rows["kind"] == "modelled"].head(6)
    return pd.concat(
        [rows, live.assign(series="a layer on this device", kind="measured here")], ignore_index=True
    )


@cache
def errors(name: str) -> pd.DataFrame:
    return workshop.of_group(*ONE)[name]


def _curve(unit: dense_equivalent.Unit = "active") -> Figure:
    return dense_equivalent.curve(curves(), loads.lines(study()), {"decode": 8, "prefill": 99_999}, unit)


def _served() -> Figure:
    rows = pd.DataFrame(
        {"kind": ["dense", "mixture"], "model": ["a", "b"], "device": "H100", "framework": "vllm"}
        | {"sequences": 8, "isl": 1024, "osl": 256, "measured": [0.01, 0.02], "predicted": [0.011, 0.019]}
    )
    return accuracy_charts.served(rows, "Time", "time", {"mape": 0.1, "spearman": 0.99})


def _cut() -> pd.DataFrame:
    rows = errors("cuts")
    return rows[rows["cut"] == "tokens"]


FIGURES: dict[str, Callable[[], Figure]] = {
    "curve": _curve,
    "curve of the total": lambda: _curve("total"),
    "seconds": lambda: economics_charts.over_batch(decode(), economics_charts.SECONDS, 8, "the time"),
    "dollars": lambda: economics_charts.over_batch(
        costs.rates(decode(), 2.5), economics_charts.DOLLARS, 8, "the price"
    ),
    "rate": lambda: economics_charts.over_batch(
        costs.rates(decode(), 2.5), economics_charts.RATE, 8, "the output"
    ),
    "demand": lambda: economics_charts.over_demand(costs.over_demand(decode(), 2.5)),
    "parts": lambda: economics_charts.parts(costs.parts(study(), "decode", (1, 8)), "decode"),
    "cache": lambda: economics_charts.cache(costs.cache_bytes(study(), (1, 8))),
    "imbalance": lambda: economics_charts.imbalance(loads.imbalance(study())),
    "exchange": lambda: economics_charts.exchange(loads.exchanged(study()), loads.PUBLISHED),
    "scatter": lambda: accuracy_charts.scatter(
        errors("scatter"), "H100", errors("groups").to_dict("records")[0]
    ),
    "spread": lambda: accuracy_charts.spread(errors("bins"), "H100"),
    "ranges": lambda: accuracy_charts.ranges(_cut(), "value", "tokens"),
    "coverage": lambda: accuracy_charts.coverage(_cut(), "value"),
    "served": _served,
}


@pytest.fixture(params=FIGURES)
def figure(request: pytest.FixtureRequest) -> Figure:
    with schemapi.debug_mode(True):
        return FIGURES[request.param]()


def test_it_says_its_finding_and_describes_itself(figure: Figure) -> None:
    assert re.search(r"\d", figure.title)
    assert not figure.title.endswith(".")
    assert "nan" not in (figure.title + figure.alt).lower()
    assert len(figure.alt) > len(figure.title)
    assert len(figure.data) > 0


def test_it_names_roles_and_leaves_the_colours_to_the_theme(figure: Figure) -> None:
    spec = json.dumps({key: value for key, value in figure.spec.items() if key != "datasets"})
    assert not re.findall(r"#[0-9A-Fa-f]{6}", spec)
    assert "title" not in figure.spec  # the page prints it


def test_a_browser_gets_few_rows(figure: Figure) -> None:
    assert sum(len(rows) for rows in figure.spec["datasets"].values()) < 4000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_draws_without_a_browser(figure: Figure, theme: str) -> None:
    words = make("figure", figure.title, sources=[Origin(kind="modelled", detail="a test")])
    drawn = formats.svg(figure, words, theme).decode()
    assert drawn.startswith("<svg")
    assert "NaN" not in drawn
    assert "undefined" not in drawn


@pytest.mark.parametrize("name", ["curve", "seconds", "imbalance"])
def test_tokens_and_batch_are_logarithmic_with_ticks_at_powers_of_two(name: str) -> None:
    layers = FIGURES[name]().spec["layer"]
    axes = [x for layer in layers if "scale" in (x := layer["encoding"].get("x", {}))]
    assert axes
    for axis in axes:
        assert (axis["scale"]["type"], axis["scale"]["base"]) == ("log", 2)
        assert all(tick & (tick - 1) == 0 for tick in axis["axis"]["values"])


def test_modelled_is_dashed_with_a_band_and_measured_has_no_band() -> None:
    marks = [layer["mark"] for layer in _curve().spec["layer"]]
    series = curves().drop_duplicates("series")["kind"].tolist()
    assert sum(mark["type"] == "area" for mark in marks) == series.count("modelled") == 2
    assert sum("strokeDash" in mark and mark["type"] == "line" for mark in marks) == 2
    assert sum(mark["type"] == "line" and "strokeDash" not in mark for mark in marks) == 1  # live


def test_the_curve_tells_both_units() -> None:
    points = {unit: _curve(unit).spec["datasets"] for unit in ("active", "total")}  # type: ignore[arg-type]
    tops = {
        unit: max(float(rows["multiple"].max()) for rows in frames.values() if "beyond" in rows)
        for unit, frames in points.items()
    }
    assert tops["active"] == pytest.approx(tops["total"] * 16)  # 128 experts, 8 of them visited


def test_you_are_here_moves_without_compiling() -> None:
    first = economics_charts.over_batch(decode(), economics_charts.SECONDS, 1, "the time")
    second = economics_charts.moved(first, economics_charts.SECONDS, 8, "the time")
    compiled = economics_charts.over_batch(decode(), economics_charts.SECONDS, 8, "the time")
    assert second.title == compiled.title != first.title
    assert {name: part for name, part in second.spec.items() if name != "datasets"} == {
        name: part for name, part in compiled.spec.items() if name != "datasets"
    }
    for name, rows in compiled.spec["datasets"].items():
        assert rows.equals(second.spec["datasets"][name]), name


def test_rules_of_the_curve_move_without_compiling() -> None:
    here = {"decode": 64, "prefill": 512}
    moved = dense_equivalent.moved(_curve(), here)
    compiled = dense_equivalent.curve(curves(), loads.lines(study()), here)
    for name, rows in compiled.spec["datasets"].items():
        assert rows.equals(moved.spec["datasets"][name]), name


def test_what_lies_beyond_the_axis_is_said() -> None:
    (marks,) = [rows for rows in _curve().spec["datasets"].values() if "before" in rows]
    assert marks["tokens"].tolist() == [8, 16384]
    assert marks["before"].tolist() == ["", "prefill →"]


@pytest.mark.parametrize(("low", "high"), [(0.003, 0.08), (1e-6, 1.0), (1.0, 1.5), (20, 7000)])
def test_ticks_lie_where_the_data_are(low: float, high: float) -> None:
    found = app_figure.ticks(low, high)
    assert 1 <= len(found) <= 12
    assert all(low / 1.3 <= tick <= high * 1.3 for tick in found)


def test_the_scatter_counts_every_layer() -> None:
    assert errors("scatter")["rows"].sum() == len(layer_accuracy.errors(*ONE))
