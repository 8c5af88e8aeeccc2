"""Charts: pure functions. Each says its finding, describes itself, keeps to the theme, and really draws."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import altair as alt
import pandas as pd
import pytest
from altair.utils import schemapi

from app.architectures import anatomy, tables
from app.architectures import charts as architectures_charts
from app.figure import Figure, around_one, draw, layers, powers_of_two
from app.memory import charts as memory_charts
from app.routing import charts as routing_charts
from app.routing import flow, quality
from app.runs import charts as runs_charts
from app.speed import charts as speed_charts
from moe_core.perf import twins as dense
from moe_core.report import formats
from moe_core.report.manifest import Origin, make
from moe_core.report.palette import ROLES
from moe_core.scenario import devices as machines
from moe_core.scenario import memory, subjects
from moe_core.scenario.spec import Scenario
from moe_core.store import queries, routing, text
from tests.app.conftest import Filled

Make = Callable[[Filled], Figure]


def _raster(filled: Filled) -> Figure:
    pairs = filled.frame(text.raster, layer=1, first=256, count=64)
    letters = filled.frame(text.text, layer=1, first=256, count=64)
    return routing_charts.raster(pairs.merge(letters[["token", "position", "byte"]], on="token"), 1, 16)


def _by_domain(filled: Filled) -> pd.DataFrame:
    return filled.frame(routing.load, by_domain=True)


def _lift(filled: Filled) -> Figure:
    frame = filled.frame(routing.lift)
    return routing_charts.lift(frame[(frame["layer"] == 1) & (frame["expert"] == 3)], 1, 3)


def _distinct(filled: Filled) -> Figure:
    frames = [filled.frame(routing.distinct, grouping=g).assign(grouping=g) for g in routing_charts.GROUPINGS]
    return routing_charts.distinct(pd.concat(frames), 16)


def _against_batch(_filled: Filled) -> Figure:
    rows = [(1, "dense", 0.01), (1, "moe", 0.02), (8, "dense", 0.03), (8, "moe", 0.02)]
    return speed_charts.against_batch(pd.DataFrame(rows, columns=["batch", "model", "seconds"]), 8)


def _sizes() -> pd.DataFrame:
    parts = {"experts": 50e9, "attention": 5e9, "kv_cache": 9e9, "router": 1e6, "activations": 1e9}
    return pd.DataFrame(
        [{"name": "A mixture", "component": name, "bytes": size} for name, size in parts.items()]
    )


V3 = subjects.published("DeepSeek-V3")
CASE = memory.case(Scenario("Mixtral-8x7B", "H100"), memory.Plan())


def _landscape() -> pd.DataFrame:
    return tables.table([subjects.published(name) for name in subjects.names(rumours=True)])


def _block(name: str) -> Figure:
    one = subjects.published(name)
    assert one.architecture is not None
    parts = one.parameters.breakdown
    return architectures_charts.block(
        *anatomy.boxes(one.architecture, parts), anatomy.title(one.architecture, parts)
    )


def _twins() -> Figure:
    assert V3.architecture is not None
    found = [subjects.twin(one) for one in dense.twins(V3.architecture)]
    return architectures_charts.twins(tables.parts([V3, *found]), V3.name)


FIGURES: dict[str, Make] = {
    "scatter": lambda _: architectures_charts.scatter(_landscape(), "DeepSeek-V3", "embeddings included"),
    "experts over years": lambda _: architectures_charts.over_years(_landscape(), "experts"),
    "top-k over years": lambda _: architectures_charts.over_years(_landscape(), "top_k"),
    "parameters": lambda _: architectures_charts.one(tables.parts([V3])),
    "models side by side": lambda _: architectures_charts.several(
        tables.parts([V3, subjects.published("Llama-3.1-70B")])
    ),
    "block": lambda _: _block("DeepSeek-V3"),
    "dense block": lambda _: _block("Llama-3.1-8B"),
    "twins": lambda _: _twins(),
    "devices": lambda _: memory_charts.devices(
        memory.on_every(CASE, machines.devices(), memory.listed_prices()), "Mixtral-8x7B"
    ),
    "contexts": lambda _: memory_charts.contexts(memory.by_context(CASE), 4096, "bf16"),
    "offload": lambda _: memory_charts.offload(memory.offloaded(CASE, 64e9), 72e9, "H100", 8),
    "waiting": lambda _: memory_charts.waiting(memory.offloaded(CASE, 64e9), 8),
    "formats": lambda _: memory_charts.budget(memory.by_format(CASE), 72e9, "H100"),
    "load": lambda f: routing_charts.heatmap(f.frame(routing.load), click=True),
    "load of one domain": lambda f: routing_charts.heatmap(
        _by_domain(f).query("domain == 'german'"), domain="german", compact=True
    ),
    "wanted": lambda f: routing_charts.wanted(f.frame(routing.probabilities), f.frame(routing.load)),
    "load curve": lambda f: routing_charts.curve(f.frame(routing.load_curve)),
    "balance": lambda f: routing_charts.balance(f.frame(routing.balance)),
    "domains": lambda f: routing_charts.domains(_by_domain(f).query("layer == 2"), 2),
    "lift": _lift,
    "raster": _raster,
    "coactivation": lambda f: routing_charts.coactivation(f.frame(routing.coactivation, layer=1), 1),
    "distinct": _distinct,
    "sankey": lambda f: flow.sankey(f.frame(routing.flow).query("layer < 3")),
    "phases": lambda f: speed_charts.phases(f.frame(queries.timings)),
    "components": lambda f: speed_charts.components(f.frame(queries.timings), "decode"),
    "against batch": _against_batch,
    "memory": lambda f: memory_charts.predicted(f.frame(queries.memory), "moe"),
    "budget": lambda _: memory_charts.budget(_sizes(), 72e9, "H100"),
    "small": lambda _: memory_charts.small(
        pd.DataFrame({"model": ["dense", "moe"], "bytes": [1e7, 2e7]}), 4e7
    ),
    "against k": lambda f: quality.against_k(queries.quality(f.store, f.sweep), 4),
    "by domain": lambda f: quality.by_domain(f.frame(queries.quality)),
    "bits": lambda _: quality.summary({"dense": 1.9, "oracle": 2.2, "moe": 2.4, "random": 3.5}),
    "compare": lambda f: runs_charts.ratios(queries.diff(f.store, f.bench, f.other)),
}


@pytest.fixture(params=FIGURES)
def figure(request: pytest.FixtureRequest, filled: Filled) -> Figure:
    with schemapi.debug_mode(True):
        return FIGURES[request.param](filled)


def test_it_says_its_finding_and_describes_itself(figure: Figure) -> None:
    assert re.search(r"\d|\bno\b|\bevery\b", figure.title, re.IGNORECASE)  # a number or a plain fact
    assert not figure.title.endswith(".")
    assert "nan" not in (figure.title + figure.alt).lower().split()
    assert len(figure.alt) > len(figure.title)
    assert len(figure.data) > 0


def test_it_names_roles_and_leaves_the_colours_to_the_theme(figure: Figure) -> None:
    """The only fixed colours are grey for limits and the outline of a chosen cell."""
    spec = json.dumps({key: value for key, value in figure.spec.items() if key != "datasets"})
    assert set(re.findall(r"#[0-9A-Fa-f]{6}", spec)) <= {"#E69F00"}
    assert set(re.findall(r'"(?:color|fill|stroke)": "(\w+)"', spec)) <= {"gray", "transparent", "shared"}
    assert "title" not in figure.spec  # the page prints it


def test_every_layer_has_data(figure: Figure) -> None:
    """Altair gives a view that it finds no data for an empty set, and draws nothing."""
    spec = {key: value for key, value in figure.spec.items() if key != "datasets"}
    used = set(re.findall(r'"data": \{"name": "([^"]+)"\}', json.dumps(spec)))
    assert used <= set(figure.spec.get("datasets", used))


def test_nominal_colours_are_roles_or_groups(figure: Figure) -> None:
    for scale in _scales(figure.spec):
        if scale.get("type", "") != "log" and "domain" in scale and isinstance(scale["domain"][0], str):
            known = {
                *ROLES,
                *memory_charts.GROUPS,
                *quality.SERIES.values(),
                *routing_charts.GROUPINGS.values(),
            }
            assert set(scale["domain"]) <= known


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_draws_without_a_browser(figure: Figure, theme: str) -> None:
    words = make("figure", figure.title, sources=[Origin(kind="measured here", detail="a test")])
    drawn = formats.svg(figure, words, theme).decode()
    assert drawn.startswith("<svg")
    assert "measured here: a test" in drawn
    assert "NaN" not in drawn
    assert "undefined" not in drawn


def _scales(node: Any) -> Iterator[dict[str, Any]]:
    """Every scale in a spec, data left out."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "scale" and isinstance(value, dict):
                yield value
            elif key != "datasets":
                yield from _scales(value)
    elif isinstance(node, list):
        for value in node:
            yield from _scales(value)


# -- the grammar -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["distinct", "against batch", "against k"])
def test_tokens_batch_and_k_are_logarithmic_with_ticks_at_powers_of_two(name: str, filled: Filled) -> None:
    spec = FIGURES[name](filled).spec
    axes = [layer["encoding"]["x"] for layer in spec["layer"] if "scale" in layer["encoding"].get("x", {})]
    assert axes
    for axis in axes:
        assert (axis["scale"]["type"], axis["scale"]["base"]) == ("log", 2)
        assert all(tick & (tick - 1) == 0 for tick in axis["axis"]["values"])


def test_load_diverges_around_fair_share(filled: Filled) -> None:
    colour = FIGURES["load of one domain"](filled).spec["encoding"]["color"]
    assert colour["scale"] == {"domain": [-2.0, 2.0], "domainMid": 0, "range": "diverging"}


@pytest.mark.parametrize(
    ("ratios", "limit"),
    [([1.0, 1.4], 0.5), ([0.5, 1.0], 1.0), ([0.2, 9.0], 2.0), ([0.0, 1.2], 0.5), ([0.0], 0.5)],
)
def test_the_colour_scale_is_as_wide_as_the_data_need(ratios: list[float], limit: float) -> None:
    """Experts without work do not widen it: they take the lowest colour."""
    powers, found = around_one(pd.Series(ratios))
    assert found == limit
    assert powers.between(-limit, limit).all()


def test_the_heatmap_reports_the_clicked_cell(filled: Filled) -> None:
    (parameter,) = FIGURES["load"](filled).spec["params"]
    assert parameter["name"] == "cell"
    assert parameter["select"]["fields"] == ["layer", "expert"]


def test_a_dead_expert_is_drawn_and_counted() -> None:
    frame = pd.DataFrame({"layer": 0, "expert": [0, 1], "pairs": [10, 0], "ratio": [2.0, 0.0]})
    figure = routing_charts.heatmap(frame)
    assert "1 of 2 experts receive nothing" in figure.alt
    assert min(next(iter(figure.spec["datasets"].values()))["log_ratio"]) == -1.0


def test_predicted_is_dashed_and_measured_is_solid(filled: Filled) -> None:
    dashed, solid, _ = FIGURES["memory"](filled).spec["layer"]
    assert dashed["mark"]["strokeDash"]
    assert "strokeDash" not in solid["mark"]


def test_nothing_measured_is_said() -> None:
    frame = pd.DataFrame(
        {"model": ["moe"], "component": ["experts"], "predicted_bytes": [10], "measured_bytes": [None]}
    )
    assert (
        memory_charts.predicted(frame, "moe").title
        == "Nothing of the mixture model could be measured on this device"
    )


@pytest.mark.parametrize(("room", "words"), [(70e9, "fits"), (60e9, "too much")])
def test_the_budget_says_whether_it_fits(room: float, words: str) -> None:
    assert words in memory_charts.budget(_sizes(), room, "H100").alt


def test_the_sankey_loses_no_bytes(filled: Filled) -> None:
    """Shares of each gap sum to one, and a ribbon keeps its width from end to end."""
    figure = FIGURES["sankey"](filled)
    assert figure.data.groupby("layer")["share"].sum().to_numpy() == pytest.approx(1.0)
    points = next(f for f in figure.spec["datasets"].values() if "ribbon" in f)
    assert (points["bottom"] - points["top"]).to_numpy() == pytest.approx(points["share"].to_numpy())


def test_gap_closed_is_the_share_of_the_gap() -> None:
    rows = [("dense", 2.0), ("moe", 2.5), ("random", 4.0)]
    frame = pd.DataFrame(rows, columns=["model", "bits_per_byte"]).assign(top_k=4, domain="all")
    assert quality.gap_closed(frame, 4) == pytest.approx(0.75)
    assert quality.gap_closed(frame[frame["model"] != "random"], 4) is None


def test_two_equal_runs_agree(filled: Filled) -> None:
    same = runs_charts.ratios(queries.diff(filled.store, filled.bench, filled.bench))
    assert same.title == "The two runs agree within one per cent"


def test_two_runs_with_nothing_in_common_are_said_so(filled: Filled) -> None:
    rows = queries.diff(filled.store, filled.bench, filled.bench).assign(ratio=float("nan"))
    assert runs_charts.ratios(rows).title == "The two runs have no measurement in common"


def test_powers_of_two_cover_the_values() -> None:
    assert powers_of_two([1, 3, 9]) == [1, 2, 4, 8, 16]
    assert powers_of_two([]) == [1]


def test_a_large_frame_compiles() -> None:
    """128 experts in 64 layers are beyond Altair's default of 5,000 rows."""
    rows = [(layer, expert, 1.0, 5) for layer in range(64) for expert in range(128)]
    frame = pd.DataFrame(rows, columns=["layer", "expert", "ratio", "pairs"])
    assert len(next(iter(routing_charts.heatmap(frame).spec["datasets"].values()))) == 8192


def test_a_drawn_figure_keeps_its_rows_out_of_the_spec() -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    figure = draw("1", "1 and more", alt.Chart(frame).mark_bar().encode(x="a:Q"), frame)
    assert all(isinstance(rows, pd.DataFrame) for rows in figure.spec["datasets"].values())


def test_layers_are_what_altair_makes_of_them() -> None:
    """The same specification, by the shorter way; data given once is named once."""
    frames = [pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"a": [3.0]})]
    parts = [alt.Chart(frame).mark_bar().encode(x="a:Q", y=alt.YValue(4)) for frame in frames]
    own, theirs = layers(*parts, height=90), alt.layer(*parts, height=90)
    short, usual = (draw("t", "w", chart, frames[0]).spec for chart in (own, theirs))
    assert {**short, "datasets": 0} == {**usual, "datasets": 0}
    assert list(short["datasets"]) == list(usual["datasets"]) == ["data-0", "data-1"]
    bare = [alt.Chart().mark_bar().encode(x="a:Q") for _ in frames]
    shared = draw("t", "w", layers(*bare, data=frames[0]), frames[0]).spec
    assert shared["data"] == {"name": "data-0"}
    assert not any("data" in layer for layer in shared["layer"])


def test_counts_are_written_as_a_careful_person_writes():
    alone = memory_charts._alone
    assert alone("X", 0, 18) == "X fits on no single device of 18 kinds"
    assert alone("X", 3, 18) == "X fits on a single device of 3 of 18 kinds"
    assert alone("X", 18, 18) == "X fits on a single device of every kind"
