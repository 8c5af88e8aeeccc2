"""Accuracy: what the page says and shows of our errors. All of it is computed from the data that ships."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import streamlit as st

from app import panels
from app.accuracy import frames
from app.asked import pick, segments
from app.figure import percent, times
from app.panels import Number, Source
from app.words import escape, seconds
from moe_core import hardware
from moe_core.errors import ConfigError
from moe_core.report.text import many
from moe_core.scenario.spec import Scenario
from moe_core.silicon import systems

POLL_S = 0.7
CUTS = {"tokens": "Tokens", "load": "Load", "split": "Split", "architecture": "Architecture left out"}
KINDS = ("both", "mixture", "dense")
SOURCE = Source(
    "measured elsewhere",
    "errors of our models against kernel tables and served samples of aiconfigurator-core 0.12.0 (NVIDIA, "
    "Apache-2.0); every architecture and model predicted by constants that never saw it; computed here from "
    "the files that ship",
)


class Group(NamedTuple):
    """A measured system, a framework and a format."""

    system: str
    framework: str
    dtype: str

    @property
    def words(self) -> str:
        return frames.words(self)


def ready() -> bool:
    """Whether the errors are computed; until then the page shows how far they are."""
    state = frames.state()
    if state.share >= 1:
        return True
    st.title("Our errors are being computed from the tables that ship", anchor=False)
    if state.problem:
        st.error(escape(state.problem), icon=":material/error:")
        st.button("Compute them again", on_click=frames.again, icon=":material/refresh:")
        return False
    st.fragment(_progress, run_every=POLL_S)()
    st.caption("Once for each version of tables and code, about half a minute; other pages work meanwhile.")
    for height in (90, 260):
        st.skeleton(height)
    return False


def _progress() -> None:
    state = frames.state()
    if state.share >= 1 or state.problem:
        st.rerun()
    st.progress(state.share, text=escape(f"Computing here now: {state.words}, {state.share:.0%}"))


def choose(scenario: Scenario) -> Group:
    """Which table to look at: the scenario's device and format first."""
    every = [Group(*one) for one in frames.groups()]
    names = {one.words: one for one in sorted(every, key=lambda one: _distance(one, scenario))}
    return names[pick("Layers of", list(names), "table", width=260)]


def _distance(one: Group, scenario: Scenario) -> tuple[int, int, int, str]:
    try:
        system = systems.of(hardware.get(scenario.hardware)).name
    except ConfigError:
        system = "h100_sxm"
    form = {"auto": "bf16", "fp32": "bf16"}.get(scenario.precision, scenario.precision)
    return (one.system != system, one.dtype != form, one.framework != "vllm", one.words)


# -- the answer ------------------------------------------------------------------------------------


def answer(group: Group) -> None:
    """One sentence and four numbers."""
    layer, token = _score(group), frames.served_score("both", "tpot")
    panels.lead(
        f"On architectures it never saw, our layer model is {percent(layer['mape'])} off in the mean on "
        f"{group.words}; the time per token of served models it never saw, {percent(token['mape'])}",
        SOURCE,
    )
    panels.numbers(numbers(group))


def _score(group: Group) -> dict[str, float]:
    top = frames.of("groups", group).to_dict("records")[0]
    return {str(name): value for name, value in top.items() if name not in group._fields}


def numbers(group: Group) -> tuple[Number, ...]:
    """Layer error, coverage, served error, ranks."""
    layer, token, first = (
        _score(group),
        frames.served_score("both", "tpot"),
        frames.served_score("both", "ttft"),
    )
    rows = f"{many(int(layer['rows']), 'layers')} of {many(int(layer['architectures']), 'architectures')}"
    return (
        Number(
            "Error of a layer, full size",
            percent(layer["mape"]),
            f"median {percent(layer['median'])}, nine tenths below {percent(layer['p90'])}; {rows}",
            SOURCE,
        ),
        Number(
            "Inside the 80 % interval, full size",
            percent(layer["coverage"]),
            "intervals come from the other architectures",
            SOURCE,
        ),
        Number(
            "Time per output token, full size",
            percent(token["mape"]),
            f"{percent(token['within_20'])} within a fifth; {int(token['rows']):,} served samples",
            SOURCE,
        ),
        Number(
            "Rank correlation, full size",
            f"{token['spearman']:.3f}",
            f"over configurations; to the first token {first['spearman']:.3f}, {percent(first['mape'])} off",
            SOURCE,
        ),
    )


def main(group: Group) -> None:
    """Predicted against measured."""
    figure = frames.figure("scatter", group=tuple(group))
    panels.show(
        figure, "scatter", SOURCE, caveat="full size, one layer; a square is a bin of measured layers"
    )


# -- tabs ------------------------------------------------------------------------------------------


def by_hardware() -> None:
    """Every device, framework and format."""
    left, right = panels.pair()
    with left:
        panels.show(frames.figure("hardware"), "hardware", SOURCE, caveat="full size, architectures left out")
    with right:
        panels.show(frames.figure("coverage"), "coverage", SOURCE, caveat="full size")
    st.caption(
        "A format measured on one architecture is judged by the 16-bit constants of its device. "
        "The intervals of formats with fewer than four architectures are the least to be trusted."
    )


def by_cut(group: Group) -> None:
    """By tokens, load, split and held-out architecture."""
    cells = [*panels.pair(), *panels.pair()]
    for cell, (cut, words) in zip(cells, CUTS.items(), strict=True):
        with cell:
            figure = frames.figure("cut", group=tuple(group), cut=cut)
            panels.show(figure, f"cut_{cut}", SOURCE, caveat=f"{words}; {group.words}")
    st.caption("An architecture is hidden / expert width / experts / top-k.")


def spread(group: Group) -> None:
    """The distribution of the errors."""
    panels.show(frames.figure("spread", group=tuple(group)), "spread", SOURCE, caveat=group.words)


def served() -> None:
    """Whole models, served by others."""
    kind = segments("Models", KINDS, "kind")
    left, right = panels.pair()
    for cell, measure in ((left, "tpot"), (right, "ttft")):
        with cell:
            figure = frames.figure("served", kind=kind, measure=measure)
            panels.show(figure, f"served_{measure}", SOURCE, caveat="full size; a point is a configuration")
    panels.show(
        frames.figure("by_model", kind=kind, measure="tpot"),
        "by_model",
        SOURCE,
        caveat="time per output token",
    )
    scores = pd.DataFrame(
        [
            {"models": one, "time": words, **frames.served_score(one, measure)}
            for one in KINDS
            for measure, words in frames.MEASURES.items()
        ]
    )
    for name in ("mape", "median", "bias", "within_20"):
        scores[name] = scores[name].map(percent)
    scores["spearman"] = scores["spearman"].round(3)
    st.dataframe(
        scores.set_axis(
            ["models", "time", "samples", "mean error", "median", "bias", "within 20 %", "rank"], axis=1
        ),
        hide_index=True,
        alt="Errors of served models, dense and mixture apart",
    )
    gone = frames.tables()["left_out"].to_dict("records")
    left_out = "; ".join(f"{many(int(row['rows']), 'rows')}: {row['reason']}" for row in gone)
    st.caption(escape(f"Left out: {left_out}."))


def worst(group: Group) -> None:
    """The cases furthest off, by name."""
    rows = frames.of("worst", group)
    shown = rows.assign(
        factor=[times(p / m) for p, m in zip(rows["predicted"], rows["measured"], strict=True)],
        measured=rows["measured"].map(seconds),
        predicted=rows["predicted"].map(seconds),
    )
    columns = ["shape", "tokens", "tp", "ep", "distribution", "kernel", "measured", "predicted", "factor"]
    st.markdown(f"**Layers, {escape(group.words)}: the worst of each architecture, load and split**")
    st.dataframe(shown[columns], hide_index=True, alt="Layers that are furthest off")
    st.markdown("**Served models: the worst configurations**")
    st.dataframe(_worst_served(), hide_index=True, alt="Served configurations that are furthest off")
    st.caption(
        "Queued: requests waited longer than they ran, so the stated number of sequences never ran together."
    )


def _worst_served(most: int = 20) -> pd.DataFrame:
    rows = frames.served("both")
    factor = rows["tpot_predicted"] / rows["tpot"]
    rows = rows.assign(factor=factor, off=factor.where(factor > 1, 1 / factor))
    rows = rows.sort_values("off", ascending=False).drop_duplicates("configuration").head(most)
    shown = rows.assign(
        factor=rows["factor"].map(times),
        measured=rows["tpot"].map(seconds),
        predicted=rows["tpot_predicted"].map(seconds),
    )
    columns = ["model", "framework", "device", "devices", "sequences", "isl", "osl", "queued"]
    return shown[[*columns, "measured", "predicted", "factor", "id"]]
