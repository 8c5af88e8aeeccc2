"""Times: dense beside mixture, per phase, per component, against batch.

`timings` frame: model (dense|moe), phase (prefill|decode), component, seconds, low, high (quartiles).
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.figure import TIME_AXIS, Figure, by_model, label_models, largest, log2_axis, roles, times
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


def phases(timings: pd.DataFrame, repeats: pd.DataFrame) -> Figure:
    """Median time of both phases, one scale each, every repeat as a point. `repeats` has a row per repeat."""
    total = _totals(timings)
    dots = label_models(repeats[repeats["component"] == "total"])
    dots = dots.assign(phase=dots["phase"].map(PHASES))
    y = alt.Y("model:N", title=None, sort=["dense", "mixture"], axis=alt.Axis(labels=False))
    x = alt.X("seconds:Q", title=None, axis=alt.Axis(labelExpr=TIME_AXIS, tickCount=4))
    base = alt.Chart(total).encode(y=y)
    bars = base.mark_bar(height=26, opacity=0.85).encode(x=x, color=roles())
    words = base.mark_text(align="left", dx=8, fontWeight="bold").encode(x="end:Q", text="text:N")
    points = (
        alt.Chart(dots)
        .mark_tick(thickness=1.5, height=26, color="black", opacity=0.55)
        .encode(x="seconds:Q", y=y)
    )
    tip = [
        alt.Tooltip("model:N"),
        alt.Tooltip("text:N", title="median"),
        alt.Tooltip("spread:N", title="quartiles"),
    ]
    panels = [
        alt.layer(
            bars.encode(tooltip=tip).transform_filter(alt.datum.phase == name),
            points.transform_filter(alt.datum.phase == name),
            words.transform_filter(alt.datum.phase == name),
        ).properties(title=alt.Title(name, fontSize=13, fontWeight="normal", offset=4), height=74)
        for name in PHASES.values()
    ]
    title = _phase_title(total)
    chart = alt.vconcat(*panels).resolve_scale(x="independent", color="shared")
    return Figure(title, f"Measured times of the dense model and the mixture. {title}.", chart, total)


def _totals(timings: pd.DataFrame) -> pd.DataFrame:
    total = label_models(timings[timings["component"] == "total"])
    return total.assign(
        phase=total["phase"].map(PHASES),
        end=total[["seconds", "high"]].max(axis=1),
        text=total["seconds"].map(lambda s: quantity(s, "s")),
        spread=[
            f"{quantity(a, 's')} to {quantity(b, 's')}"
            for a, b in zip(total["low"], total["high"], strict=True)
        ],
    )


def _phase_title(total: pd.DataFrame) -> str:
    both = by_model(total, "phase", "seconds")
    words = [
        f"{times(both[phase]['mixture'] / both[phase]['dense'])} the dense time in {name}"
        for name, phase in PHASES.items()
        if phase in both
    ]
    return "The mixture takes " + " and ".join(words)


def components(timings: pd.DataFrame, phase: str) -> Figure:
    """Where the time goes, stacked from the components, dense above mixture."""
    part = timings[(timings["phase"] == phase) & (timings["component"] != "total")]
    part = label_models(part[part["seconds"] > 0])
    order = {name: index for index, name in enumerate(COMPONENTS)}
    whole = part.groupby("model")["seconds"].transform("sum")
    data = part.assign(
        order=part["component"].map(order),
        share=part["seconds"] / whole,
        text=part["seconds"].map(lambda s: quantity(s, "s")),
    )
    chart = (
        alt.Chart(data)
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            y=alt.Y("component:N", sort=list(COMPONENTS), title=None),
            x=alt.X("seconds:Q", title=f"{phase}, median", axis=alt.Axis(labelExpr=TIME_AXIS, tickCount=5)),
            yOffset=alt.YOffset("model:N", sort=["dense", "mixture"]),
            color=roles(),
            tooltip=[
                "model:N",
                "component:N",
                alt.Tooltip("text:N", title="median"),
                alt.Tooltip("share:Q", format=".3~p"),
            ],
        )
        .properties(height=30 * max(4, data["component"].nunique()))
    )
    top = largest(data[data["model"] == "mixture"], "seconds")
    title = f"In {phase}, {top['component']} takes {100 * top['share']:.3g} % of the mixture's time"
    return Figure(title, f"Time by component in {phase}. {title}.", chart, data.drop(columns="order"))


def against_batch(runs: pd.DataFrame, batch: int) -> Figure:
    """Time of one decode step against batch, from every run of this mixture on this device.

    `runs`: batch, model, seconds, low, high. The vertical rule says: you are here.
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
            tooltip=["batch:Q", "model:N", alt.Tooltip("text:N", title="median")],
        )
    )
    here = alt.Chart(pd.DataFrame({"batch": [batch]})).encode(x=x)
    rule = here.mark_rule(strokeDash=[2, 3], color="gray")
    word = here.mark_text(align="left", dx=5, y=8, color="gray").encode(text=alt.value("you are here"))
    both = by_model(data, "batch", "seconds")
    cheaper = [int(b) for b, models in both.items() if models["mixture"] < models["dense"]]
    where = "at no batch measured so far" if not cheaper else "at batch " + ", ".join(map(str, cheaper))
    title = f"A decode step of the mixture is the shorter one {where}"
    return Figure(
        title, f"Decode time against batch. {title}.", (rule + lines + word).properties(height=280), data
    )
