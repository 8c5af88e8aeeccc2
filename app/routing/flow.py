"""Sankey: how bytes flow from the experts of one layer to those of the next.

Drawn as areas in Vega-Lite, so that it follows the theme and is exported like any other chart.
`flows` frame: layer, next_layer, source, target, tokens. First choices only.
"""

from __future__ import annotations

import math

import altair as alt
import numpy as np
import pandas as pd

from app.figure import Figure, draw, largest, paint, percent

STEPS = 16  # points along a ribbon
GAP = 0.012  # between experts, of the whole height
BAR = 0.012  # half width of an expert's bar, in layers
RIBBONS = 90  # the widest of each gap are drawn


def sankey(flows: pd.DataFrame) -> Figure:
    """Ribbons between consecutive layers, the widest of each gap; darker is wider."""
    shares = flows.assign(share=flows["tokens"] / flows.groupby("layer")["tokens"].transform("sum"))
    layers = [int(layer) for layer in sorted({*shares["layer"], *shares["next_layer"]})]
    steps = shares.assign(step=shares["layer"].map(layers.index))
    kept = steps.sort_values("share", ascending=False).groupby("step").head(RIBBONS)
    nodes = _nodes(kept, layers)
    x, y = _places(layers, float(nodes["bottom"].max()))
    ramp = alt.Color(
        "share:Q", scale=alt.Scale(range="ramp"), legend=alt.Legend(title="of bytes", format=".2~p")
    )
    tip = [alt.Tooltip("label:N", title="flow"), alt.Tooltip("text:N", title="of all bytes")]
    areas = alt.Chart(_ribbons(kept, nodes)).mark_area(interpolate="monotone", opacity=0.8)
    areas = areas.encode(x=x, y=y, y2="bottom:Q", detail="ribbon:N", color=ramp, tooltip=tip)
    bars = alt.Chart(nodes).mark_rect(color="gray").encode(x="x:Q", x2="x2:Q", y=y, y2="bottom:Q")
    names = alt.Chart(nodes[nodes["size"] > 0.02]).mark_text(align="left", dx=4, fontSize=11)
    words = paint(names, "ink").encode(x="x2:Q", y="middle:Q", text="expert:N")
    title = _title(shares)
    chart = (areas + bars + words).properties(height=480)
    return draw(title, f"Flow of bytes between the experts of layers {layers}. {title}.", chart, shares)


def _places(layers: list[int], depth: float) -> tuple[alt.X, alt.Y]:
    """Layers from left to right, named above; experts from the top down."""
    named = alt.Axis(
        values=list(range(len(layers))), labelExpr=_layer_names(layers), grid=False, orient="top"
    )
    across = alt.Scale(domain=[-0.03, len(layers) - 0.93], nice=False)
    down = alt.Scale(domain=[0, depth], reverse=True, nice=False)
    return alt.X("x:Q", title=None, axis=named, scale=across), alt.Y("top:Q", axis=None, scale=down)


def _layer_names(layers: list[int]) -> str:
    return f"'layer ' + {layers}[datum.value]"


def _nodes(flows: pd.DataFrame, layers: list[int]) -> pd.DataFrame:
    """One bar per expert and layer: as tall as the larger of what enters and what leaves."""
    leaving = flows.groupby(["step", "source"])["share"].sum().rename_axis(["step", "expert"])
    entering = flows.assign(step=flows["step"] + 1).groupby(["step", "target"])["share"].sum()
    both = pd.concat([leaving, entering.rename_axis(["step", "expert"])], axis=1).max(axis=1)
    frame = both.rename("size").reset_index().sort_values(["step", "expert"])
    end = frame.groupby("step")["size"].cumsum() + GAP * frame.groupby("step").cumcount()
    return frame.assign(
        top=end - frame["size"],
        bottom=end,
        middle=end - frame["size"] / 2,
        x=frame["step"] - BAR,
        x2=frame["step"] + BAR,
    )


def _ribbons(flows: pd.DataFrame, nodes: pd.DataFrame) -> pd.DataFrame:
    """Each flow as a band of STEPS points along a smooth step from its source to its target."""
    tops = nodes.set_index(["step", "expert"])["top"]
    ordered = flows.sort_values(["step", "source", "target"]).reset_index(drop=True)
    leaves = ordered.groupby(["step", "source"])["share"].cumsum() - ordered["share"]
    arriving = ordered.sort_values(["step", "target", "source"])
    enters = (arriving.groupby(["step", "target"])["share"].cumsum() - arriving["share"]).reindex(
        ordered.index
    )
    start = tops.reindex(pd.MultiIndex.from_frame(ordered[["step", "source"]])).to_numpy() + leaves.to_numpy()
    goals = pd.MultiIndex.from_arrays([ordered["step"] + 1, ordered["target"]])
    end = tops.reindex(goals).to_numpy() + enters.to_numpy()
    along = np.linspace(0, 1, STEPS)
    top = start[:, None] + (end - start)[:, None] * (1 - np.cos(math.pi * along)) / 2
    labels = [f"{a} to {b}" for a, b in zip(ordered["source"], ordered["target"], strict=True)]
    repeated = {name: np.repeat(ordered[name].to_numpy(), STEPS) for name in ("share", "source")}
    points = pd.DataFrame(
        {
            "ribbon": np.repeat(np.arange(len(ordered)), STEPS),
            "x": (ordered["step"].to_numpy()[:, None] + along).reshape(-1),
            "top": top.reshape(-1),
            "bottom": (top + ordered["share"].to_numpy()[:, None]).reshape(-1),
            "label": np.repeat(labels, STEPS),
            "text": np.repeat(ordered["share"].map(percent).to_numpy(), STEPS),
            **repeated,
        }
    )
    return points.sort_values("share", kind="stable")  # the widest are drawn last, on top


def _title(shares: pd.DataFrame) -> str:
    top = largest(shares, "share")
    return (
        f"The widest path leads from expert {int(top['source'])} in layer {int(top['layer'])} to expert "
        f"{int(top['target'])} in layer {int(top['next_layer'])}: {percent(top['share'])} of all bytes"
    )
