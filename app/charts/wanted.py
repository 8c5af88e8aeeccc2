"""Wanted: what the router would like against what it chooses, one point an expert and layer."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.figure import Figure, draw, largest, paint, times


def wanted(probabilities: pd.DataFrame, load: pd.DataFrame) -> Figure:
    """`probabilities`: layer, expert, probability (mean over all text); `load`: layer, expert, ratio.

    Above the diagonal an expert gets more than it is wanted: choosing the best k sharpens a router.
    """
    mean = probabilities.groupby(["layer", "expert"], as_index=False)["probability"].mean()
    fair = mean.groupby("layer")["probability"].transform("mean")
    data = mean.assign(wanted=mean["probability"] / fair).merge(load, on=["layer", "expert"])
    data = data.assign(wants=data["wanted"].map(times), gets=data["ratio"].map(times))
    ends = [float(data[["wanted", "ratio"]].min().min()), float(data[["wanted", "ratio"]].max().max())]
    diagonal = alt.Chart(pd.DataFrame({"wanted": ends, "ratio": ends})).mark_line(
        strokeDash=[4, 4], color="gray"
    )
    points = paint(alt.Chart(data).mark_point(filled=True, opacity=0.7, size=40), "mixture").encode(
        tooltip=[
            "layer:O",
            "expert:O",
            alt.Tooltip("wants:N", title="probability over fair"),
            alt.Tooltip("gets:N", title="load over fair"),
        ]
    )
    ratio = alt.Axis(labelExpr="datum.label + '×'")
    chart = (diagonal + points).encode(
        x=alt.X(
            "wanted:Q",
            title="mean router probability over fair share",
            axis=ratio,
            scale=alt.Scale(zero=False),
        ),
        y=alt.Y("ratio:Q", title="load over fair share", axis=ratio, scale=alt.Scale(zero=False)),
    )
    hot = largest(data, "ratio")
    title = (
        f"The busiest expert is wanted {times(hot['wanted'])} its fair share and gets {times(hot['ratio'])} "
        f"(layer {int(hot['layer'])}, expert {int(hot['expert'])})"
    )
    words = f"Load against mean router probability, {len(data)} experts of all layers. {title}."
    return draw(title, words, chart.properties(height=300), data)
