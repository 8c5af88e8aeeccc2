"""Loads: what an uneven load on the experts costs, and what exchanging tokens takes. Frames: `app.loads`."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd

from app.charts.economics import shapes, tips
from app.charts.figure import Figure, draw, largest, log2_axis, paint, percent, times
from moe_core.units import quantity


def imbalance(rows: pd.DataFrame) -> Figure:
    """Layer time under each load over that under an even one.

    `rows`: load, tokens, ratio, seconds, distinct, source.
    """
    data = rows.assign(
        text=rows["seconds"].map(lambda s: quantity(float(s), "s")),
        role="mixture",
        hit=rows["distinct"].round(1),
    )
    x = log2_axis("tokens", "tokens in the layer at once", data["tokens"].tolist())
    y = alt.Y(
        "ratio:Q", title="layer time, × even load", scale=alt.Scale(zero=False), axis=alt.Axis(format=".3~g")
    )
    tip = [
        *tips("load:N", "tokens:Q"),
        alt.Tooltip("ratio:Q", format=".3~g"),
        *tips("text:N", "hit:Q", "source:N"),
    ]
    base = alt.Chart(data).encode(x=x, y=y)
    line = paint(base.mark_line(strokeWidth=1.5, opacity=0.7), "mixture", stroke=True).encode(
        detail=alt.Detail("load:N")
    )
    dots = paint(base.mark_point(size=60, opacity=1, filled=True), "mixture")
    dots = dots.encode(shape=shapes(data, "load"), tooltip=tip)
    one = alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(strokeDash=[2, 3])
    rule = paint(one, "limit", stroke=True).encode(y=alt.Y("one:Q"))
    least, most = (largest(data.assign(by=sign * data["ratio"]), "by") for sign in (-1, 1))
    title = (
        f"Other loads take {times(least['ratio'])} ({least['load']}, {int(least['tokens']):,} tokens) "
        f"to {times(most['ratio'])} ({most['load']}, {int(most['tokens']):,}) the time of an even one"
    )
    chart = alt.layer(rule, line, dots).properties(height=320)
    return draw(title, f"Layer time by load on the experts. {title}.", chart, rows)


def exchange(rows: pd.DataFrame, published: Mapping[str, float]) -> Figure:
    """Share of a layer's time spent exchanging tokens, a band for each interconnect.

    `rows`: link, tokens (of each device), low, high.  `published`: what is claimed -> share.
    """
    data = rows.assign(
        text=[f"{percent(a)} to {percent(b)}" for a, b in zip(rows["low"], rows["high"], strict=True)],
        middle=(rows["low"] + rows["high"]) / 2,
        role="mixture",
    )
    x = log2_axis("tokens", "tokens of each device in a step", data["tokens"].tolist())
    share = alt.Axis(format=".0%", tickCount=6)
    y = alt.Y("low:Q", title="share of the layer's time", scale=alt.Scale(domain=[0, 1]), axis=share)
    base = alt.Chart(data).encode(x=x)
    band = paint(base.mark_area(opacity=0.22), "mixture").encode(
        y=y, y2=alt.Y2("high:Q"), detail=alt.Detail("link:N")
    )
    dots = paint(base.mark_point(filled=True, size=50, opacity=1), "mixture").encode(
        y=alt.Y("middle:Q", title="share of the layer's time"),
        shape=shapes(data, "link"),
        tooltip=[*tips("link:N", "tokens:Q", "text:N")],
    )
    marks = pd.DataFrame({"share": list(published.values()), "word": list(published)})
    rule = paint(alt.Chart(marks).mark_rule(strokeWidth=1), "published", stroke=True).encode(
        y=alt.Y("share:Q")
    )
    word = paint(alt.Chart(marks).mark_text(align="right", dx=-4, dy=-7), "published")
    word = word.encode(x=alt.XValue("width"), y=alt.Y("share:Q"), text=alt.Text("word:N"))
    least, most = float(data["low"].min()), float(data["high"].max())
    title = (
        f"Exchanging tokens takes {percent(least)} to {percent(most)} of a layer's time, by link and batch"
    )
    chart = alt.layer(band, rule, word, dots).properties(height=320)
    return draw(title, f"Share of all-to-all in a layer with its experts dealt out. {title}.", chart, rows)
