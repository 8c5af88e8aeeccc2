"""Charts of experiments: each says its finding, keeps to the theme's colours, and really draws."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pandas as pd
import pytest
from altair.utils import schemapi

from app.experiments import charts, series
from app.figure import Figure
from moe_core.labs.training.table import question
from moe_core.report import formats
from moe_core.report.manifest import Origin, make
from moe_core.report.palette import ROLES
from tests import synthetic_training
from tests.app.experiments.test_series import rows

LOADS = pd.DataFrame(synthetic_training.tables(question("collapse"))["loads"]).assign(
    ratio=lambda frame: frame["load"] / frame.groupby(["arm", "step", "layer"])["load"].transform("mean")
)
BOTH = pd.concat([rows("full", "measured elsewhere"), rows("quick")])


def chosen(metric: str, axis: str = "step", table: pd.DataFrame = BOTH) -> pd.DataFrame:
    return series.without_floor(series.chosen(table, metric, axis, "k=1"))


FIGURES: dict[str, Callable[[], Figure]] = {
    "curves": lambda: charts.curves(chosen("loss"), "loss", "step"),
    "curves with the floor": lambda: charts.curves(
        chosen("maxvio_step"), "maxvio_step", "step", floor=(0.13, 0.2)
    ),
    "curves by share": lambda: charts.curves(chosen("loss", series.SHARE), "loss", series.SHARE),
    "curves so far": lambda: charts.curves(
        chosen("loss").query("x <= 30"), "loss", "step", whole=chosen("loss")
    ),
    "live": lambda: charts.curves(chosen("loss", table=rows("quick")), "loss", "step", live=True),
    "heatmap": lambda: charts.heatmap(LOADS, 50),
    "differences": lambda: charts.differences(
        series.differences(chosen("heldout"), "none, k=1"), "heldout", "none, k=1"
    ),
    "failures": lambda: charts.failures(series.failures(BOTH)),
    "forest": lambda: charts.forest(
        pd.DataFrame(
            [
                ("E2", "k1", "measured here", 0.1, 0.05, 0.15, 3),
                ("E3", "a1", "measured here", 0.1, None, None, 1),
            ],
            columns=["code", "name", "origin", "value", "low", "high", "seeds"],
        )
    ),
}


@pytest.fixture(params=FIGURES)
def figure(request: pytest.FixtureRequest) -> Figure:
    with schemapi.debug_mode(True):
        return FIGURES[request.param]()


def test_it_says_its_finding_and_describes_itself(figure: Figure) -> None:
    assert re.search(r"\d|\bno\b|\bevery\b|collapsed", figure.title, re.IGNORECASE)
    assert not figure.title.endswith(".")
    assert "nan" not in (figure.title + figure.alt).lower().split()
    assert len(figure.alt) > len(figure.title)
    assert len(figure.data) > 0


def test_it_leaves_the_colours_to_the_theme(figure: Figure) -> None:
    spec = json.dumps({key: value for key, value in figure.spec.items() if key != "datasets"})
    assert not re.findall(r"#[0-9A-Fa-f]{6}", spec)
    assert set(re.findall(r'"(?:color|fill|stroke)": "(\w+)"', spec)) <= {"gray", "transparent"}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_draws_without_a_browser(figure: Figure, theme: str) -> None:
    words = make("figure", figure.title, sources=[Origin(kind="measured here", detail="a test")])
    drawn = formats.svg(figure, words, theme).decode()
    assert drawn.startswith("<svg")
    assert "NaN" not in drawn
    assert "undefined" not in drawn


@pytest.mark.parametrize("name", [one for one in FIGURES if one.startswith(("curves", "live"))])
def test_the_legend_names_every_arm(name: str) -> None:
    """It is lost where a layer below has none."""
    drawn = formats.FORMATS["svg"].make(FIGURES[name](), make("figure", "x"), "light").decode()
    legend = drawn[drawn.index("role-legend") :]
    assert all(f">{arm}</text>" in legend for arm in ("none", "auxiliary", "bias"))


def test_losses_far_from_zero_are_drawn_large() -> None:
    figure = charts.curves(chosen("heldout"), "heldout", "step")
    domains = [layer["encoding"]["y"]["scale"]["domain"] for layer in figure.spec["layer"]]
    assert all(2 < low < high < 3 for low, high in domains)


def test_a_live_chart_is_the_same_chart_whatever_has_been_measured() -> None:
    """A browser then changes the data alone, and nothing flickers."""
    whole = chosen("loss", table=rows("quick"))
    early, late = (
        charts.curves(whole[whole["x"] <= step], "loss", "step", live=True).spec for step in (30, 100)
    )
    assert {**early, "datasets": 0} == {**late, "datasets": 0}


def test_dense_is_blue_and_the_first_mixture_vermilion_and_a_hue_comes_again_dashed() -> None:
    names = ["dense", "a", "b", "c", "d", "e", "f", "g", "dense, longer"]
    places = charts._places(names)
    assert places[ROLES.index("dense")] == "dense"
    assert places[ROLES.index("mixture")] == "a"
    assert places[len(ROLES) + ROLES.index("mixture")] == "g"
    assert places[len(ROLES) + ROLES.index("dense")] == "dense, longer"
    reserved = {ROLES.index(role) for role in ("published", "limit")}
    assert not [name for at, name in enumerate(places) if at % len(ROLES) in reserved and name in names]
    dashes = charts._dash(names).to_dict()["scale"]["range"]
    assert [dash == [1, 0] for dash in dashes] == [True] * 7 + [False] * 2


def test_an_arm_that_is_over_keeps_its_last_window_in_the_heatmap() -> None:
    short = LOADS[(LOADS["arm"] != "none, k=1") | (LOADS["step"] <= 40)]
    data = charts.heatmap(short, 80).data
    assert data.groupby("arm")["step"].max().to_dict()["none, k=1"] == 40
    assert data["arm"].nunique() == LOADS["arm"].nunique()
    assert set(charts.heatmap(LOADS, 0).data["step"]) == {10}  # what begins later shows its first


def test_one_seed_tells_no_difference() -> None:
    one = series.differences(chosen("heldout", table=rows("quick")), "none, k=1")
    assert "One seed cannot tell" in charts.differences(one, "heldout", "none, k=1").title


def test_a_difference_beyond_its_interval_is_named_with_it() -> None:
    table = rows("full")
    table.loc[table["arm"] == "bias, k=1", "value"] += 1.0
    found = series.differences(chosen("heldout", table=table), "none, k=1")
    title = charts.differences(found, "heldout", "none, k=1").title
    assert title.startswith("Bias differs most from no balancing: +")
    assert " to +" in title


def test_doublings_take_a_logarithmic_axis_and_coefficients_their_names() -> None:
    table = chosen("loss", table=rows("quick"))
    batches = table.assign(x=table["x"].map({10.0 * i: 2.0**i for i in range(1, 11)}))
    assert charts._across(batches, "batch").to_dict()["scale"]["type"] == "log"
    assert charts._across(table, "alpha").to_dict()["type"] == "ordinal"
    assert charts._across(table, "step").to_dict()["scale"].get("type") is None
