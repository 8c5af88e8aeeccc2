"""Tornado: how far each weight, input and error moves the margin. `swings` frame: name, turned, low_at,
high_at, low, high, flips; margins above zero are the mixture's."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.decide import SIDES
from app.charts.figure import Figure, draw, layers, paint, roles

SHOWN = 14


def tornado(swings: pd.DataFrame, margin: float) -> Figure:
    """Bars between the margins at both ends of what is turned, the widest on top; ends say where they are."""
    data = swings.head(SHOWN)
    ends = pd.concat(
        [
            data.assign(value=data[end], at=data[f"{end}_at"], other=data["high" if end == "low" else "low"])
            for end in ("low", "high")
        ],
        ignore_index=True,
    )
    ends = ends.assign(
        model=["mixture" if value > 0 else "dense" if value < 0 else "limit" for value in ends["value"]],
        right=(ends["value"] > ends["other"]) | ((ends["value"] == ends["other"]) & ends.duplicated("name")),
    )
    order = data["name"].tolist()
    y = alt.Y("name:N", sort=order, title=None, axis=alt.Axis(labelLimit=220, minExtent=170))
    wide = alt.Scale(domain=[-1.6, 1.6], nice=False)
    axis = alt.Axis(values=[-1, -0.5, 0, 0.5, 1], labelExpr=SIDES)
    x = alt.X("low:Q", title="margin", scale=wide, axis=axis)
    tip = [
        "name:N",
        "low_at:N",
        alt.Tooltip("low:Q", format="+.2f"),
        "high_at:N",
        alt.Tooltip("high:Q", format="+.2f"),
    ]
    bars = paint(alt.Chart(data).mark_bar(height=7, opacity=0.45), "limit").encode(
        x=x, x2="high:Q", y=y, tooltip=tip
    )
    at = alt.X("value:Q", scale=wide, axis=axis, title="margin")
    dots = alt.Chart(ends).mark_point(filled=True, size=70, opacity=1)
    dots = dots.encode(
        x=at, y=y, color=roles(), tooltip=["name:N", "at:N", alt.Tooltip("value:Q", format="+.2f")]
    )
    words = [_words(side).encode(x=at, y=y, text="at:N") for side in (True, False)]
    rules = pd.DataFrame({"margin": [0.0, margin]})
    even = paint(alt.Chart(rules.head(1)).mark_rule(), "limit", stroke=True)
    now = paint(alt.Chart(rules.tail(1)).mark_rule(strokeDash=[2, 3]), "ink", stroke=True)
    place = alt.X("margin:Q", scale=wide)
    chart = layers(
        *(bars, even.encode(x=place), now.encode(x=place), dots),
        *(word.properties(data=ends) for word in words),
        height=26 * len(data) + 50,
    )
    title = _title(data)
    return draw(title, f"Margins at both ends of each weight, input and error. {title}.", chart, swings)


def _words(right: bool) -> alt.Chart:
    chart = alt.Chart().mark_text(align="left" if right else "right", dx=8 if right else -8, fontSize=10)
    return paint(chart.transform_filter("datum.right" if right else "!datum.right"), "ink")


def _title(data: pd.DataFrame) -> str:
    turning = data.loc[data["flips"], "name"].tolist()
    widest = data.iloc[0]["name"]
    if not turning:
        return f"Nothing here turns the answer alone; {widest} moves the margin most"
    many = "one" if len(turning) == 1 else str(len(turning))
    return f"{many.capitalize()} of {len(data)} could turn the answer alone: {', '.join(turning[:3])}"
