"""Overlays: up to four scenarios that hue alone does not tell apart, and that really draw."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
from altair.utils import schemapi

from app.compare import charts as compare_charts
from app.figure import Figure
from moe_core.report import compare, formats, side
from moe_core.report.manifest import Origin, make
from moe_core.report.palette import ROLES

QUERIES = (
    "architecture=Mixtral-8x7B&hardware=A100 80GB&batch=4",
    "architecture=Llama-2-70B&hardware=H100",
    "architecture=Qwen3-30B-A3B",
    "name=A very long name that nobody reads at the end of a line&architecture=Mixtral-8x7B&precision=int4",
)


@pytest.fixture(scope="module", params=["time", "time of one", "memory"])
def figure(request: pytest.FixtureRequest) -> Figure:
    found = side.labels([side.read(one)[0] for one in QUERIES[: 1 if request.param.endswith("one") else 4]])
    with schemapi.debug_mode(True):
        if request.param == "memory":
            return compare_charts.bars(compare.held(found))
        mixtures = {name: case.model.routing is not None for name, case in found.items()}
        here = {name: case.batch for name, case in found.items()}
        return compare_charts.lines(compare.over_batch(found), mixtures, here)


def test_it_says_its_finding(figure: Figure) -> None:
    assert re.search(r"\d", figure.title)
    assert not figure.title.endswith(".")
    assert len(figure.alt) > len(figure.title)
    assert "nan" not in (figure.title + figure.alt).lower().split()


def test_colours_are_roles_only(figure: Figure) -> None:
    spec = json.dumps({key: value for key, value in figure.spec.items() if key != "datasets"})
    assert not re.findall(r"#[0-9A-Fa-f]{6}", spec)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_draws(figure: Figure, theme: str) -> None:
    words = make("figure", figure.title, sources=[Origin(kind="modelled", detail="a test")])
    drawn = formats.svg(figure, words, theme).decode()
    assert drawn.startswith("<svg")
    assert "NaN" not in drawn
    assert "undefined" not in drawn


@pytest.mark.parametrize("mixtures", [(True,) * 4, (False,) * 4, (True, False, True, False)])
def test_four_series_differ_without_colour(mixtures: tuple[bool, ...]) -> None:
    found = compare_charts.looks(dict(zip("ABCD", mixtures, strict=True)))
    assert len({tuple(look.dash) for look in found.values()}) == 4
    assert len({look.shape for look in found.values()}) == 4
    assert len({look.role for look in found.values()}) == 4
    for name, mixture in zip("ABCD", mixtures, strict=True):
        assert found[name].role in (compare_charts.WARM if mixture else compare_charts.COOL)
        assert found[name].role in ROLES


def test_names_at_the_ends_do_not_meet() -> None:
    rows = pd.DataFrame(
        [{"scenario": name, "batch": batch, "seconds": 0.01, "lower": 0.005, "upper": 0.02}
         for name in "ABCD" for batch in (1, 2, 4)]
    )  # fmt: skip
    ends = compare_charts._ends(rows)
    places = sorted(ends["place"])
    assert all(b / a > 1.05 for a, b in pairwise(places))


def rows(*leads: tuple[int, str]) -> pd.DataFrame:
    """Two scenarios; who is faster at each batch."""
    return pd.DataFrame(
        [{"scenario": name, "batch": batch, "seconds": 1.0 if name == lead else 2.0, "text": "1 s"}
         for batch, lead in leads for name in "AB"]
    )  # fmt: skip


def test_the_title_says_where_the_lead_changes() -> None:
    assert (
        compare_charts._title(rows((1, "A"), (2, "A"), (4, "B")))
        == "A is fastest at batch 1, B from batch 4 on"
    )
    assert compare_charts._title(rows((1, "A"), (2, "A"))) == "A is fastest at batch 1 and still at 2"


def test_a_bar_says_its_own_devices() -> None:
    found = side.labels([side.read(QUERIES[1])[0]])
    data = compare.held(found)
    spec: dict[str, Any] = compare_charts.bars(data).spec
    words = next(frame for frame in spec["datasets"].values() if "end" in frame or "GB" in frame)
    assert len(words)
    assert (
        compare_charts._bar_words({"GB": 30.0, "usable": 72.0, "devices": 4})
        == "30.0 of 72.0 GB, each of 4 devices"
    )
