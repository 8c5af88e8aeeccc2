"""Charts of a report as Vega-Lite: colours by kind, values from zero, axes that double, names apart."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from moe_core.report import formats, plots, vega
from moe_core.report.palette import ROLES
from moe_core.report.plots import Plot
from tests.report.examples import case, manifest

MODELS = ("Mixtral-8x7B", "Llama-2-70B", "DeepSeek-V3", "Qwen3-30B-A3B", "Qwen3-14B")


@pytest.fixture(scope="module")
def drawn() -> dict[str, Plot]:
    return {one.name: one for one in plots.plots({name: case(name) for name in MODELS})}


def layers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield spec
    for one in spec.get("layer", ()):
        yield from layers(one)


def test_a_line_or_a_bar_has_the_colour_of_its_kind(drawn: dict[str, Plot]) -> None:
    for name in ("decode", "growth", "distinct", "parameters"):
        spec = drawn[name].figure.spec
        colours = [one["encoding"]["color"] for one in layers(spec) if "color" in one.get("encoding", {})]
        assert colours
        assert all(one["field"] == "model" for one in colours)
        assert all(one["scale"] == {"domain": list(ROLES), "range": "category"} for one in colours)
        kinds = dict(zip(drawn[name].figure.data["scenario"], drawn[name].figure.data["model"], strict=True))
        assert kinds.items() <= drawn[name].models.items()


def test_the_file_has_the_colours_of_the_house(drawn: dict[str, Plot]) -> None:
    found = formats.svg(drawn["decode"].figure, manifest()).decode().upper()
    assert "#0072B2" in found
    assert "#D55E00" in found
    assert "#009E73" not in found  # published facts only


def test_an_axis_that_doubles_has_a_tick_at_every_power(drawn: dict[str, Plot]) -> None:
    for name in ("decode", "growth", "distinct"):
        for one in layers(drawn[name].figure.spec):
            x = one.get("encoding", {}).get("x", {})
            if "axis" in x:
                ticks = x["axis"]["values"]
                assert x["scale"]["type"] == "log"
                assert len(ticks) >= 4
                assert all(b == 2 * a for a, b in pairwise(ticks))


def test_values_start_at_zero(drawn: dict[str, Plot]) -> None:
    for name in ("decode", "growth", "distinct"):
        scales = [one["encoding"]["y"].get("scale") for one in layers(drawn[name].figure.spec)
                  if "scale" in one.get("encoding", {}).get("y", {})]  # fmt: skip
        assert scales
        assert all(scale["domain"][0] == 0 for scale in scales)


def test_names_at_the_end_of_lines_stand_apart(drawn: dict[str, Plot]) -> None:
    for name in ("decode", "growth", "distinct"):
        ends = drawn[name].figure.spec["datasets"]["ends"].sort_values("place")
        high = next(one["encoding"]["y"]["scale"]["domain"][1] for one in layers(drawn[name].figure.spec)
                    if "scale" in one.get("encoding", {}).get("y", {}))  # fmt: skip
        gaps = ends["place"].diff().dropna()
        assert (gaps >= vega.GAP * high * 0.999).all()
        assert ends["place"].max() <= high * 1.001


def test_no_context_is_longer_than_a_model_is_made_for(drawn: dict[str, Plot]) -> None:
    data = drawn["growth"].figure.data
    longest = data.groupby("scenario")["context"].max()
    assert longest["Llama-2-70B"] == 4096
    assert longest["DeepSeek-V3"] == 131_072
