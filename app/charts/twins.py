"""Twins: a mixture between the dense models it may be compared with.

`parts` frame: name, component, parameters, active; the mixture first.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.figure import Figure, draw, layers, paint, roles, times
from app.charts.landscape import COUNT_AXIS
from moe_core.units import count


def twins(parts: pd.DataFrame, mixture: str) -> Figure:
    """Total parameters of the mixture and its twins; a tick marks what a token uses."""
    data = parts.groupby("name", sort=False, as_index=False)[["parameters", "active"]].sum()
    data = data.assign(
        model=["mixture" if name == mixture else "dense" for name in data["name"]],
        text=data["parameters"].map(count),
        used=data["active"].map(count),
    )
    y = alt.Y("name:N", sort=data["name"].tolist(), title=None, axis=alt.Axis(labelLimit=210, minExtent=130))
    room = alt.Scale(domain=[0, float(data["parameters"].max()) * 1.15], nice=False)
    ticks = alt.Axis(labelExpr=COUNT_AXIS, tickCount=6)
    x = alt.X("parameters:Q", title="parameters; the mark is what a token uses", axis=ticks, scale=room)
    tip = [alt.Tooltip("name:N"), alt.Tooltip("text:N", title="total"), alt.Tooltip("used:N", title="active")]
    base = alt.Chart().encode(y=y, tooltip=tip)
    bars = base.mark_bar(height=22, opacity=0.75).encode(x=x, color=roles())
    marks = base.mark_tick(thickness=3, size=30, color="gray").encode(x=alt.X("active:Q", scale=room))
    words = paint(alt.Chart().mark_text(align="left", dx=6, fontWeight="bold"), "ink")
    words = words.encode(y=y, x=x, text=alt.Text("text:N"))
    chart = layers(bars, marks, words, data=data, height=42 * len(data) + 70)
    title = _title(data)
    return draw(title, f"{mixture} and its dense twins. {title}.", chart, data)


def _title(data: pd.DataFrame) -> str:
    dense = data[data["model"] == "dense"].sort_values("parameters")
    if dense.empty:
        return "This mixture has no dense twin: its attention alone is larger than every target"
    low, high = (row for row in dense.iloc[[0, -1]].to_dict("records"))
    if len(dense) == 1:
        return f"The only dense twin has {low['text']} parameters"
    spread = times(high["parameters"] / low["parameters"])
    return f"Its dense twins reach from {low['text']} to {high['text']}, {spread} apart: name the rule"
