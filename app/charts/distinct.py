"""Distinct experts against batch: what a step must read, recorded beside the uniform formula.

`touched` frame: grouping, layer, size (tokens), distinct, uniform (E (1 - (1 - k/E)^size)).
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.figure import Figure, draw, largest, log2_axis, paint, percent

GROUPINGS = {"decode": "one byte of each sequence (decode)", "consecutive": "bytes in a row (prefill)"}


def distinct(touched: pd.DataFrame, experts: int) -> Figure:
    """Recorded points, mean and range over layers, over the dashed formula; grey are all experts."""
    data = _over_layers(touched)
    x = log2_axis("size", "tokens in the step", data["size"].tolist())
    top = alt.Scale(domain=[0, experts * 1.06], nice=False)
    y = alt.Y("distinct:Q", title="distinct experts in a layer, mean of layers", scale=top)
    names = [name for name in GROUPINGS.values() if name in set(data["grouping"])]
    shape = alt.Shape(
        "grouping:N",
        scale=alt.Scale(domain=names, range=["circle", "square"]),
        legend=alt.Legend(orient="top", title=None, labelLimit=260, symbolFillColor="gray"),
    )
    tip = [
        "size:Q",
        "grouping:N",
        alt.Tooltip("distinct:Q", format=".3~g"),
        alt.Tooltip("uniform:Q", format=".3~g"),
    ]
    base, formula = alt.Chart(data), data.drop_duplicates("size").sort_values("size")
    band = base.mark_area(opacity=0.14).encode(x=x, y="low:Q", y2="high:Q", detail="grouping:N")
    line = base.mark_line(strokeWidth=1.2).encode(x=x, y=y, detail="grouping:N")
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, shape=shape, tooltip=tip)
    dashed = alt.Chart(formula).mark_line(strokeDash=[6, 4], color="gray").encode(x=x, y="uniform:Q")
    word = (
        alt.Chart(formula.iloc[[len(formula) // 2]])
        .mark_text(align="right", dx=-8, dy=-8, fontStyle="italic")
        .encode(x=x, y="uniform:Q", text=alt.value("uniform formula"))
    )
    every = alt.Chart(pd.DataFrame({"all": [experts]})).mark_rule(color="gray").encode(y="all:Q")
    word = paint(word, "limit")
    recorded = [paint(band, "mixture"), paint(line, "mixture", stroke=True), paint(dots, "mixture")]
    title = _title(data, experts)
    chart = alt.layer(every, dashed, word, *recorded).properties(height=340)
    return draw(title, f"Distinct experts against tokens in a step. {title}.", chart, data)


def _over_layers(touched: pd.DataFrame) -> pd.DataFrame:
    grouped = touched.groupby(["grouping", "size"], as_index=False)
    data = grouped.agg(
        distinct=("distinct", "mean"),
        low=("distinct", "min"),
        high=("distinct", "max"),
        uniform=("uniform", "mean"),
    )
    return data.assign(grouping=data["grouping"].map(GROUPINGS))


def _title(data: pd.DataFrame, experts: int) -> str:
    """Says where the formula is most wrong: that is what a step's cost depends on."""
    data = data.assign(error=(data["uniform"] / data["distinct"] - 1).abs())
    worst = largest(data, "error")
    direction = "above" if worst["uniform"] > worst["distinct"] else "below"
    return (
        f"{int(worst['size'])} tokens touch {worst['distinct']:.3g} of {experts} experts; "
        f"the uniform formula is {percent(worst['error'])} {direction} that, its largest error"
    )
