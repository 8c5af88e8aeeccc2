"""Sankey: how bytes flow from the experts of one layer to those of the next.

Drawn as areas in Vega-Lite, so that it follows the theme and can be exported like any other chart.
`flows` frame: layer, source (expert), target (expert of the next layer), share (of all routed bytes).
"""

from __future__ import annotations

import math

import altair as alt
import numpy as np
import pandas as pd

from app.charts.figure import Figure, largest, percent

STEPS = 16
GAP = 0.012
BAR = 0.035  # half width of an expert's bar, in layers


def sankey(flows: pd.DataFrame, focus: int | None = None) -> Figure:
    """Ribbons between consecutive layers; `focus` keeps the colour for what leaves one source expert."""
    layers = [int(layer) for layer in sorted(set(flows["layer"]) | {layer + 1 for layer in flows["layer"]})]
    nodes = _nodes(flows, layers)
    ribbons = _ribbons(flows, nodes)
    ticks = alt.Axis(values=layers, labelExpr="'layer ' + datum.label", grid=False, title=None, orient="top")
    x = alt.X("x:Q", axis=ticks, scale=alt.Scale(domain=[layers[0] - 0.06, layers[-1] + 0.06], nice=False))
    y = alt.Y(
        "top:Q", axis=None, scale=alt.Scale(domain=[0, 1 + GAP * _most(nodes)], reverse=True, nice=False)
    )
    strength = alt.Color(
        "share:Q", scale=alt.Scale(range="ramp"), legend=alt.Legend(title="share", format="~%")
    )
    areas = (
        alt.Chart(ribbons)
        .mark_area(interpolate="monotone", opacity=0.75)
        .encode(x=x, y=y, y2="bottom:Q", detail="ribbon:N", color=strength)
        .encode(tooltip=[alt.Tooltip("label:N", title="flow"), alt.Tooltip("text:N", title="of all bytes")])
    )
    if focus is not None:
        areas = areas.encode(
            opacity=alt.when(alt.datum.source == focus).then(alt.value(0.95)).otherwise(alt.value(0.12))
        )
    bars = alt.Chart(nodes).mark_rect(color="gray").encode(x=x, x2="x2:Q", y=y, y2="bottom:Q")
    names = (
        alt.Chart(nodes[nodes["bottom"] - nodes["top"] > 0.012])
        .mark_text(align="left", dx=6, fontSize=11)
        .encode(x="x2:Q", y="middle:Q", text="expert:N")
    )
    title = _title(flows)
    chart = (areas + bars + names).properties(height=460)
    return Figure(
        title,
        f"Flow of bytes between the experts of layers {layers[0]} to {layers[-1]}. {title}.",
        chart,
        flows,
    )


def _nodes(flows: pd.DataFrame, layers: list[int]) -> pd.DataFrame:
    """One bar per expert and layer: as tall as the larger of what enters and what leaves."""
    leaving = flows.groupby(["layer", "source"])["share"].sum().rename_axis(["layer", "expert"])
    entering = flows.assign(layer=flows["layer"] + 1).groupby(["layer", "target"])["share"].sum()
    both = pd.concat([leaving, entering.rename_axis(["layer", "expert"])], axis=1).max(axis=1)
    frame = both.rename("size").reset_index().sort_values(["layer", "expert"])
    end = frame.groupby("layer")["size"].cumsum() + GAP * frame.groupby("layer").cumcount()
    return frame.assign(
        top=end - frame["size"],
        bottom=end,
        middle=end - frame["size"] / 2,
        x=frame["layer"] - BAR / len(layers),
        x2=frame["layer"] + BAR / len(layers),
    )


def _ribbons(flows: pd.DataFrame, nodes: pd.DataFrame) -> pd.DataFrame:
    """Each flow as a band of STEPS points along a smooth step from its source to its target."""
    tops = nodes.set_index(["layer", "expert"])["top"]
    ordered = flows.sort_values(["layer", "source", "target"]).reset_index(drop=True)
    leaves = ordered.groupby(["layer", "source"])["share"].cumsum() - ordered["share"]
    by_target = ordered.sort_values(["layer", "target", "source"])
    enters = (by_target.groupby(["layer", "target"])["share"].cumsum() - by_target["share"]).reindex(
        ordered.index
    )
    start = (
        tops.reindex(pd.MultiIndex.from_frame(ordered[["layer", "source"]])).to_numpy() + leaves.to_numpy()
    )
    goal = pd.MultiIndex.from_arrays([ordered["layer"] + 1, ordered["target"]])
    end = tops.reindex(goal).to_numpy() + enters.to_numpy()
    along = np.linspace(0, 1, STEPS)
    ease = (1 - np.cos(math.pi * along)) / 2
    top = start[:, None] + (end - start)[:, None] * ease
    count = len(ordered)
    return pd.DataFrame(
        {
            "ribbon": np.repeat(np.arange(count), STEPS),
            "x": (ordered["layer"].to_numpy()[:, None] + along).reshape(-1),
            "top": top.reshape(-1),
            "bottom": (top + ordered["share"].to_numpy()[:, None]).reshape(-1),
            "share": np.repeat(ordered["share"].to_numpy(), STEPS),
            "source": np.repeat(ordered["source"].to_numpy(), STEPS),
            "label": np.repeat(
                [f"{s} → {t}" for s, t in zip(ordered["source"], ordered["target"], strict=True)], STEPS
            ),
            "text": np.repeat(ordered["share"].map(percent).to_numpy(), STEPS),
        }
    )


def _most(nodes: pd.DataFrame) -> int:
    return int(nodes.groupby("layer").size().max())


def _title(flows: pd.DataFrame) -> str:
    top = largest(flows, "share")
    return (
        f"The widest path leads from expert {int(top['source'])} in layer {int(top['layer'])} to expert "
        f"{int(top['target'])} in the next: {percent(float(top['share']))} of all bytes"
    )
