"""Roofline: what layers reach of what the device can do (Williams, Waterman and Patterson 2009).

`points` frame: name, tokens, intensity (FLOP a byte), measured, modelled (FLOP/s).
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.figure import Figure, draw, paint, percent, roles
from app.charts.speed import LEGEND, SHAPES, tokens_words
from moe_core.perf.roofline import Roof
from moe_core.units import significant

RATE_AXIS = "format(datum.value, '.2~s') + 'FLOP/s'"


def roofline(points: pd.DataFrame, roof: Roof, label: str) -> Figure:
    """Filled: measured. Hollow: modelled. Grey: the calibrated roof, its ridge marked."""
    data = points.assign(
        role=points["name"].map(lambda name: str(name).split(",")[0]),
        share=[
            percent(rate / roof.reachable(i))
            for rate, i in zip(points["measured"], points["intensity"], strict=True)
        ],
    )
    least, most = float(points["intensity"].min()) / 2, max(float(points["intensity"].max()), roof.ridge) * 2
    x = alt.X(
        "intensity:Q",
        title="FLOP a byte of memory traffic",
        scale=alt.Scale(type="log", domain=[least, most], nice=False),
        axis=alt.Axis(format="~g", tickCount=6),
    )
    names = [name for name in SHAPES if name in set(data["name"])]
    shape = alt.Shape(
        "name:N",
        scale=alt.Scale(domain=names, range=[SHAPES[name] for name in names]),
        legend=LEGEND,
    )
    base = alt.Chart(data).encode(x=x, shape=shape, color=roles("role"))
    rate = alt.Y("measured:Q", title="speed", scale=alt.Scale(type="log"))
    rate = rate.axis(labelExpr=RATE_AXIS, tickCount=6)
    tip = [
        "name:N",
        "tokens:Q",
        alt.Tooltip("intensity:Q", format=".3~g"),
        alt.Tooltip("share:N", title="of the roof"),
    ]
    solid = base.mark_point(filled=True, size=60, opacity=1).encode(y=rate, tooltip=tip)
    hollow = base.mark_point(filled=False, size=60, opacity=0.75).encode(y="modelled:Q")
    chart = alt.layer(*_roof(roof, least, most, x), hollow, solid).properties(height=380)
    best = data.assign(
        part=[m / roof.reachable(i) for m, i in zip(data["measured"], data["intensity"], strict=True)]
    )
    top = best[best["role"] == "mixture"].nlargest(1, "part").iloc[0]
    where = tokens_words(int(top["tokens"]))
    title = (
        f"{label} reaches {percent(float(top['part']))} of the roof at best ({where}); "
        f"the ridge is at {significant(roof.ridge)} FLOP a byte"
    )
    return draw(title, f"Roofline. Filled points are measured, hollow ones modelled. {title}.", chart, points)


def _roof(roof: Roof, least: float, most: float, x: alt.X) -> list[alt.Chart]:
    line = pd.DataFrame({"intensity": [least, roof.ridge, most]})
    line = line.assign(rate=[roof.reachable(i) for i in line["intensity"]])
    ridge = line.iloc[[1]].assign(word="ridge")
    edge = alt.Chart(line).mark_line(strokeWidth=2.2).encode(x=x, y="rate:Q")
    dot = alt.Chart(ridge).mark_point(filled=True, size=70, shape="diamond").encode(x=x, y="rate:Q")
    word = alt.Chart(ridge).mark_text(dy=-12, fontStyle="italic").encode(x=x, y="rate:Q", text="word:N")
    return [paint(edge, "limit", stroke=True), paint(dot, "limit"), paint(word, "limit")]
