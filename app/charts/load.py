"""Load: who does the work. Layer x expert around fair share, the sorted load curve, balance by layer, lift.

`load` frames: layer, expert, ratio (pairs received over the fair share of the layer; 1 is fair), pairs.
"""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from app.charts.figure import Figure, around_one, diverging, draw, largest, paint, times


def heatmap(load: pd.DataFrame, *, domain: str = "all", click: bool = False, compact: bool = False) -> Figure:
    """Layer x expert, coloured around fair share. `click` adds a selection named `cell`."""
    powers, limit = around_one(load["ratio"])
    data = load.assign(log_ratio=powers, share=load["ratio"].map(times))
    layers = int(data["layer"].nunique())
    chart = (
        alt.Chart(data)
        .mark_rect(strokeWidth=2)
        .encode(
            x=alt.X("expert:O", title="expert", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("layer:O", title="layer"),
            color=diverging("log_ratio", "load", "fair", limit, top=compact),
            tooltip=[
                alt.Tooltip("layer:O"),
                alt.Tooltip("expert:O"),
                alt.Tooltip("share:N", title="of fair share"),
                alt.Tooltip("pairs:Q", title="routed pairs", format=","),
            ],
        )
        .properties(height=(30 * layers) + (130 if compact else 60))
    )
    if click:
        cell = alt.selection_point(name="cell", fields=["layer", "expert"], empty=False)
        chart = chart.encode(
            stroke=alt.when(cell).then(alt.value("#E69F00")).otherwise(alt.value("transparent"))
        ).add_params(cell)
    return draw(
        _heatmap_title(data, domain), _heatmap_alt(data, domain), chart, data.drop(columns="log_ratio")
    )


def _heatmap_title(data: pd.DataFrame, domain: str) -> str:
    hot = largest(data, "ratio")
    where = "" if domain == "all" else f" on {domain}"
    return (
        f"The hottest expert{where} does {times(hot['ratio'])} its fair share "
        f"(layer {int(hot['layer'])}, expert {int(hot['expert'])})"
    )


def _heatmap_alt(data: pd.DataFrame, domain: str) -> str:
    dead = int((data["pairs"] == 0).sum())
    return (
        f"Load of {data['expert'].nunique()} experts in {data['layer'].nunique()} layers, {domain} text. "
        f"{_heatmap_title(data, domain)}. {dead} of {len(data)} experts receive nothing."
    )


def curve(ranked: pd.DataFrame) -> Figure:
    """Experts of each layer sorted by load; `rank` 1, the busiest, is what the layer waits for."""
    data = ranked.assign(share=ranked["ratio"].map(times))
    lines = (
        alt.Chart(data)
        .mark_line(point=alt.OverlayMarkDef(size=22), opacity=0.8, strokeWidth=1.5)
        .encode(
            x=alt.X("rank:O", title="experts of the layer, busiest first", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("ratio:Q", title="load over fair share", axis=alt.Axis(labelExpr="datum.label + '×'")),
            color=alt.Color("layer:Q", scale=_layer_scale(data), legend=_layer_legend(data)),
            detail="layer:N",
            tooltip=["layer:O", "expert:O", "rank:O", alt.Tooltip("share:N", title="of fair share")],
        )
    )
    fair = alt.Chart(pd.DataFrame({"fair": [1.0]})).mark_rule(strokeDash=[4, 4], color="gray")
    hottest, worst = data.groupby("layer")["ratio"].max(), largest(data, "ratio")
    title = (
        f"A layer waits for its busiest expert: {times(float(hottest.median()))} fair share in the middle "
        f"layer, {times(worst['ratio'])} in the worst (layer {int(worst['layer'])})"
    )
    chart = (fair.encode(y="fair:Q") + lines).properties(height=300)
    return draw(title, f"Sorted load of the experts, one line a layer. {title}.", chart, data)


def _layer_scale(data: pd.DataFrame) -> alt.Scale:
    """Layers on the ramp without its faintest third, which is too near the background for a line."""
    first, last = int(data["layer"].min()), int(data["layer"].max())
    return alt.Scale(range="ramp", domain=[first - 0.5 * (last - first + 1), last], nice=False)


def _layer_legend(data: pd.DataFrame) -> alt.Legend:
    first, last = int(data["layer"].min()), int(data["layer"].max())
    return alt.Legend(title="layer", values=sorted({first, (first + last) // 2, last}), format="d")


MEASURES = {
    "entropy": "entropy (1 is even)",
    "cv": "coefficient of variation (0 is even)",
    "max_over_mean": "busiest over mean (1 is even)",
    "dead": "experts without work",
}


def balance(stats: pd.DataFrame) -> Figure:
    """Four measures of balance by layer. `stats`: layer, experts, entropy_bits, cv, max_over_mean, dead."""
    entropy = stats["entropy_bits"] / np.log2(stats["experts"].clip(lower=2))
    stats = stats.assign(entropy=entropy.where(stats["experts"] > 1, 1.0))
    long = stats.melt(id_vars="layer", value_vars=list(MEASURES), var_name="measure", value_name="value")
    long["measure"] = long["measure"].map(MEASURES)
    panels = [
        paint(alt.Chart(long[long["measure"] == name]).mark_bar(), "mixture")
        .encode(
            x=alt.X("layer:O", axis=alt.Axis(labelAngle=0)),
            y=alt.Y(
                "value:Q", title=None, axis=alt.Axis(tickCount=4, format="~g"), scale=_from_zero(long, name)
            ),
            tooltip=["layer:O", "measure:N", alt.Tooltip("value:Q", format=".3~g")],
        )
        .properties(title=alt.Title(name, fontSize=13, fontWeight="normal", offset=6), height=110)
        for name in MEASURES.values()
    ]
    worst, dead = largest(stats, "cv"), int(stats["dead"].sum())
    title = f"Layer {int(worst['layer'])} is the least even (variation {worst['cv']:.3g}); " + (
        f"{dead} experts have no work at all" if dead else "every expert has some work"
    )
    return draw(
        title,
        f"Entropy, variation, busiest over mean and dead experts by layer. {title}.",
        alt.vconcat(*panels).resolve_scale(color="shared"),
        stats,
    )


def _from_zero(long: pd.DataFrame, measure: str) -> alt.Scale:
    """Zero to the largest value, and at least to one where all is zero."""
    top = float(long.loc[long["measure"] == measure, "value"].max())
    return alt.Scale(domain=[0, top or 1.0])


def lift(frame: pd.DataFrame, layer: int, expert: int) -> Figure:
    """Which kinds of text one expert prefers. `frame`: name, lift (1 is indifferent), pairs."""
    data = frame.sort_values("lift", ascending=False)
    data = data.assign(over_chance=data["lift"].map(times), chance=1.0)
    bars = paint(alt.Chart(data).mark_bar(), "mixture").encode(
        y=alt.Y("name:N", sort=data["name"].tolist(), title=None),
        x=alt.X("lift:Q", title="lift over chance", axis=alt.Axis(labelExpr="datum.label + '×'")),
        x2="chance:Q",
        tooltip=[
            alt.Tooltip("name:N", title="text"),
            alt.Tooltip("over_chance:N", title="lift"),
            alt.Tooltip("pairs:Q", title="routed pairs", format=","),
        ],
    )
    chance = alt.Chart(data.head(1)).mark_rule(color="gray").encode(x="chance:Q")
    best = largest(data, "lift")
    title = f"Expert {expert} of layer {layer} prefers {best['name']}: {times(best['lift'])} chance"
    chart = (bars + chance).properties(height=24 * len(data) + 60)
    return draw(title, f"Lift over chance by kind of text. {title}.", chart, data.drop(columns="chance"))


def domains(load: pd.DataFrame, layer: int) -> Figure:
    """Domain x expert of one layer, around fair share. `load` has a `domain` column."""
    powers, limit = around_one(load["ratio"])
    data = load.assign(log_ratio=powers, share=load["ratio"].map(times))
    chart = (
        alt.Chart(data)
        .mark_rect()
        .encode(
            x=alt.X("expert:O", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("domain:N", title=None),
            color=diverging("log_ratio", "load", "fair", limit),
            tooltip=[
                "domain:N",
                "expert:O",
                alt.Tooltip("share:N", title="of fair share"),
                alt.Tooltip("pairs:Q", format=","),
            ],
        )
        .properties(height=24 * data["domain"].nunique() + 60)
    )
    hot = largest(data, "ratio")
    title = (
        f"In layer {layer}, {hot['domain']} leans most on one expert: "
        f"{times(hot['ratio'])} on expert {int(hot['expert'])}"
    )
    return draw(
        title,
        f"Load of experts by kind of text in layer {layer}. {title}.",
        chart,
        data.drop(columns="log_ratio"),
    )
