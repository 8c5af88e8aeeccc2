"""Block: what one token passes through, from embedding to head, as boxes.

Rectangles in Vega-Lite, so that it follows the theme and is exported like any other chart.
`boxes` frame: label, note, exact (weights in words), part (of `memory.GROUPS`), x, x2, y (one unit a box).
`cells` frame: x, x2, y, on (chosen for a token): the experts of one layer.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.figure import Figure, draw, layers, paint
from app.charts.memory import GROUPS


def block(boxes: pd.DataFrame, cells: pd.DataFrame, title: str) -> Figure:
    """The stack of boxes; where a layer has experts, a row of squares with the chosen ones solid."""
    boxes = boxes.assign(low=boxes["y"] + 0.09, high=boxes["y"] + 0.91, middle=boxes["y"] + 0.5)
    top = float(boxes["high"].max())
    axis = alt.Axis(labels=False, ticks=False, grid=False, title=None, domain=False)
    x = alt.X("x:Q", axis=axis, scale=alt.Scale(domain=[0, 10], nice=False))
    y = alt.Y("low:Q", axis=axis, scale=alt.Scale(domain=[top + 0.1, -0.1], nice=False))
    base = alt.Chart(boxes).encode(tooltip=[alt.Tooltip("label:N"), alt.Tooltip("exact:N", title="weights")])
    groups = alt.Scale(domain=list(GROUPS), range="category")
    colour = alt.Color("part:N", scale=groups, legend=None)
    solid = base.mark_rect(opacity=0.22, cornerRadius=4).encode(
        x=x, x2=alt.X2("x2:Q"), y=y, y2=alt.Y2("high:Q"), color=colour
    )
    edge = base.mark_rect(filled=False, strokeWidth=1.5, cornerRadius=4).encode(
        x=x,
        x2=alt.X2("x2:Q"),
        y=y,
        y2=alt.Y2("high:Q"),
        stroke=alt.Stroke("part:N", scale=groups, legend=None),
    )
    left = base.mark_text(align="left", dx=10, fontWeight="bold").encode(
        x=x, y=alt.Y("middle:Q"), text=alt.Text("label:N")
    )
    right = base.mark_text(align="right", dx=-10).encode(
        x=alt.X("x2:Q"), y=alt.Y("middle:Q"), text=alt.Text("note:N")
    )
    stack = [solid, edge, paint(left, "ink"), paint(right, "ink")]
    if len(cells):
        strength = cells["on"].map({True: 0.95, False: 0.25})
        squares = alt.Chart(cells.assign(low=cells["y"] + 0.22, high=cells["y"] + 0.78, strength=strength))
        drawn = squares.mark_rect(cornerRadius=2).encode(
            x=x,
            x2=alt.X2("x2:Q"),
            y=y,
            y2=alt.Y2("high:Q"),
            opacity=alt.Opacity("strength:Q", scale=None, legend=None),
        )
        stack.append(paint(drawn, "mixture"))
    chart = layers(*stack, height=int(44 * top) + 12)
    named = boxes[boxes["label"] != ""]
    words = "; ".join(f"{label}: {note}" for label, note in zip(named["label"], named["note"], strict=True))
    data = named[["label", "note", "exact"]].rename(columns={"exact": "parameters"})
    return draw(title, f"Block diagram, from input to output. {title}. {words}.", chart, data)
