"""Times: dense beside mixture, per phase, per component, against batch.

`timings` frame: model (dense|moe), phase (prefill|decode), component, median_s, p10_s, p90_s.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.figure import (
    TIME_AXIS,
    Figure,
    by_model,
    draw,
    label_models,
    largest,
    log2_axis,
    paint,
    roles,
    shapes,
    times,
)
from moe_core.units import quantity

PHASES = {"prefill": "prefill (read the text)", "decode": "decode (write one step)"}
COMPONENTS = (
    "attention",
    "router",
    "dispatch",
    "experts",
    "combine",
    "shared",
    "ffn",
    "norm",
    "embed",
    "head",
)


def phases(timings: pd.DataFrame) -> Figure:
    """Median time of both phases, each on its own scale; the thin line spans nine tenths of the repeats."""
    total = _totals(timings)
    panels = [_panel(total[total["phase"] == name], name) for name in PHASES.values()]
    title = _phase_title(total)
    chart = alt.vconcat(*panels).resolve_scale(x="independent", color="shared")
    return draw(title, f"Measured times of the dense model and the mixture. {title}.", chart, total)


def _panel(part: pd.DataFrame, name: str) -> alt.LayerChart:
    y = alt.Y("model:N", title=None, sort=["dense", "mixture"], axis=alt.Axis(labels=False))
    room = alt.Scale(domain=[0, float(part[["median_s", "p90_s"]].max().max()) * 1.2], nice=False)
    x = alt.X("median_s:Q", title=None, axis=alt.Axis(labelExpr=TIME_AXIS, tickCount=4), scale=room)
    base = alt.Chart(part).encode(y=y)
    tip = ["model:N", alt.Tooltip("text:N", title="median"), alt.Tooltip("spread:N", title="spread")]
    bars = base.mark_bar(height=26, opacity=0.85).encode(x=x, color=roles(), tooltip=tip)
    spread = base.mark_rule(strokeWidth=1.5, color="gray").encode(x="p10_s:Q", x2="p90_s:Q")
    words = paint(base.mark_text(align="left", dx=8, fontWeight="bold"), "ink")
    words = words.encode(x="p90_s:Q", text="text:N")
    heading = alt.Title(name, fontSize=13, fontWeight="normal", offset=4)
    return alt.layer(bars, spread, words).properties(title=heading, height=74)


def _totals(timings: pd.DataFrame) -> pd.DataFrame:
    total = label_models(timings[timings["component"] == "total"])
    ends = zip(total["p10_s"], total["p90_s"], strict=True)
    return total.assign(
        phase=total["phase"].map(PHASES),
        text=total["median_s"].map(lambda s: quantity(s, "s")),
        spread=[f"{quantity(low, 's')} to {quantity(high, 's')}" for low, high in ends],
    )


def _phase_title(total: pd.DataFrame) -> str:
    both = by_model(total, "phase", "median_s")
    words = [
        f"{times(both[phase]['mixture'] / both[phase]['dense'])} the dense time in {name}"
        for name, phase in PHASES.items()
        if phase in both
    ]
    return "The mixture takes " + " and ".join(words)


def components(timings: pd.DataFrame, phase: str) -> Figure:
    """Where the time goes, component by component, dense above mixture."""
    part = timings[(timings["phase"] == phase) & (timings["component"] != "total")]
    part = label_models(part[part["median_s"] > 0])
    order = {name: index for index, name in enumerate(COMPONENTS)}
    whole = part.groupby("model")["median_s"].transform("sum")
    data = part.assign(
        order=part["component"].map(order),
        share=part["median_s"] / whole,
        text=part["median_s"].map(lambda s: quantity(s, "s")),
    )
    chart = (
        alt.Chart(data)
        .mark_bar()
        .encode(
            y=alt.Y("component:N", sort=list(COMPONENTS), title=None),
            x=alt.X("median_s:Q", title=f"{phase}, median", axis=alt.Axis(labelExpr=TIME_AXIS, tickCount=5)),
            yOffset=alt.YOffset("model:N", sort=["dense", "mixture"]),
            color=roles(),
            tooltip=[
                "model:N",
                "component:N",
                alt.Tooltip("text:N", title="median"),
                alt.Tooltip("share:Q", format=".3~p"),
            ],
        )
        .properties(height=30 * data["component"].nunique() + 90)
    )
    top = largest(data[data["model"] == "mixture"], "median_s")
    title = f"In {phase}, {top['component']} takes {100 * top['share']:.3g} % of the mixture's time"
    return draw(title, f"Time by component in {phase}. {title}.", chart, data.drop(columns="order"))


def against_batch(runs: pd.DataFrame, batch: int) -> Figure:
    """Time of one decode step against batch, from every run of this mixture on this device.

    `runs`: batch, model, seconds. The vertical rule says: you are here.
    """
    data = label_models(runs).assign(text=runs["seconds"].map(lambda s: quantity(s, "s")))
    x = log2_axis("batch", "batch (sequences)", data["batch"].tolist())
    lines = (
        alt.Chart(data)
        .mark_line(point=alt.OverlayMarkDef(size=55), strokeWidth=1.5)
        .encode(
            x=x,
            y=alt.Y(
                "seconds:Q",
                title="one decode step",
                axis=alt.Axis(labelExpr=TIME_AXIS),
                scale=alt.Scale(zero=True),
            ),
            color=roles(),
            shape=shapes(),
            tooltip=["batch:Q", "model:N", alt.Tooltip("text:N", title="median")],
        )
    )
    here = alt.Chart(pd.DataFrame({"batch": [batch]})).encode(x=x)
    rule = here.mark_rule(strokeDash=[2, 3], color="gray")
    word = paint(here.mark_text(align="left", dx=5, y=8), "limit").encode(text=alt.value("you are here"))
    both = by_model(data, "batch", "seconds")
    cheaper = [int(b) for b, models in both.items() if models["mixture"] < models["dense"]]
    where = "at no batch measured so far" if not cheaper else "at batch " + ", ".join(map(str, cheaper))
    title = f"A decode step of the mixture is the shorter one {where}"
    return draw(
        title, f"Decode time against batch. {title}.", (rule + lines + word).properties(height=280), data
    )
