"""Charts of a decision: they say their finding, validate, and draw in every state."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from altair.utils import schemapi

from app.decide import charts as decide_charts
from app.decide.charts import Knob
from app.figure import Figure
from moe_core.decide.flips import curve, flips
from moe_core.decide.sensitivity import swings
from moe_core.decide.spec import DecideSpec
from moe_core.decide.verdict import Verdict
from moe_core.decide.verdict import decide as judge
from moe_core.report import formats
from moe_core.report.manifest import Origin, make

BATCH = Knob("batch", "sequences", 8.0, True)
CLOSE = {"preset": "chat", "mixture": "Qwen3-30B-A3B", "dense": "Qwen3-14B"}


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """Every mark against the schema, as users' browsers will."""
    with schemapi.debug_mode(True):
        yield


@pytest.fixture(scope="module")
def found() -> Verdict:
    return judge(DecideSpec.of(CLOSE))


def bars(found: Verdict) -> pd.DataFrame:
    shown = ("title", "score", "weight", "pull", "winner", "evidence", "provenance")
    return pd.DataFrame([{name: getattr(one, name) for name in shown} for one in found.factors])


def test_factors_name_the_loudest_of_each_side(found: Verdict) -> None:
    figure = decide_charts.factors(bars(found), found.winner)
    side = 1 if found.winner == "mixture" else -1
    loudest = max(found.factors, key=lambda one: side * one.pull)
    assert figure.title.startswith(f"{loudest.title} speaks loudest for the {found.winner}".rstrip())
    check(figure, len(found.factors))


def test_factors_that_all_agree_have_no_rival() -> None:
    rows = pd.DataFrame(
        {"title": ["Memory"], "score": [0.5], "weight": [1.0], "pull": [0.5], "winner": ["mixture"]}
        | {"evidence": ["a"], "provenance": ["modelled"]}
    )
    assert "nothing for the dense model" in decide_charts.factors(rows, "mixture").title


def test_the_margin_tells_its_regions(found: Verdict) -> None:
    rows = [(one.value, one.margin, one.winner or "neither", *one.devices) for one in curve(found, "batch")]
    points = pd.DataFrame(rows, columns=["value", "margin", "winner", *decide_charts.DEVICES])
    turns = sorted(flips(found, ("batch",)), key=lambda flip: flip.low)
    edges = [points["value"].min(), *(flip.at for flip in turns), points["value"].max()]
    winners = [points["winner"].iloc[0], *(flip.above or "neither" for flip in turns)]
    regions = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "winner": winners})
    figure = decide_charts.against(points, regions, BATCH)
    for flip in turns:
        assert f"{flip.low:,.0f}" in figure.title
    check(figure, len(points))


def test_one_region_is_one_answer() -> None:
    points = pd.DataFrame({"value": [1.0, 2.0, 4.0], "margin": [0.1, 0.2, 0.3], "winner": ["mixture"] * 3})
    points = points.assign(**{"mixture devices": [1, 1, 2], "dense devices": [1, 1, 1]})
    regions = pd.DataFrame({"low": [1.0], "high": [4.0], "winner": ["mixture"]})
    figure = decide_charts.against(points, regions, BATCH)
    assert figure.title == "Mixture at every batch"
    drawn = formats.svg(figure, make("figure", figure.title, sources=[]), "light").decode()
    assert "mixture on 1" in drawn  # and where its number of devices changes, the new one
    assert ">2</text>" in drawn
    assert "dense on 1" in drawn


def test_the_tornado_counts_what_turns_the_answer(found: Verdict) -> None:
    rows = pd.DataFrame([one._asdict() for one in swings(found)])
    figure = decide_charts.tornado(rows, found.margin)
    turning = int(rows.head(decide_charts.SHOWN)["flips"].sum())
    many = {0: "Nothing", 1: "One"}.get(turning, str(turning))
    assert figure.title.startswith(many)
    check(figure, len(rows))


def check(figure: Figure, rows: int) -> None:
    assert len(figure.alt) > 20
    assert len(figure.data) == rows
    for theme in ("light", "dark"):
        words = make("figure", figure.title, sources=[Origin(kind="modelled", detail="a test")])
        drawn = formats.svg(figure, words, theme).decode()
        assert drawn.startswith("<svg")
        assert "NaN" not in drawn
