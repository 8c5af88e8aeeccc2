"""Economics: times, rates, dollars and shares over batch, demand and tokens. Frames come from `app.costs`.

Steps: name, model (mixture | dense), batch, and a value with its interval. Filled points are measured
elsewhere, hollow ones modelled, bands are 80 % intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from app.figure import (
    BYTE_AXIS,
    TIME_AXIS,
    Figure,
    draw,
    largest,
    log2_axis,
    paint,
    percent,
    roles,
    ticks,
    times,
    tips,
)
from moe_core.units import quantity, significant

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")
# Parts of a step, at the places of their colours in the theme: dense blue, experts vermilion, grey overhead.
PARTS = {
    "dense FFN": ("ffn",),
    "experts": ("experts",),
    "unused": (),  # green is for published facts
    "starting and small kernels": ("framework",),
    "shared experts": ("shared",),
    "attention and router": ("attention", "mixer", "router"),
    "output head": ("head",),
    "between devices": ("network",),
}
HERE = "here"  # the column that marks the rows of "you are here"
BYTES = ("unused", "weights", "unused 2", "unused 3", "unused 4", "KV cache and state")
LEGEND = alt.Legend(  # shapes in grey, which both themes show
    orient="top",
    title=None,
    labelLimit=320,
    columns=2,
    symbolStrokeColor="gray",
    symbolFillColor="transparent",
)
DOLLAR_AXIS = "'$' + format(datum.value, ',.3~r')"
RATE_AXIS = "format(datum.value, '.3~s')"


class Value(NamedTuple):
    """What is drawn: columns of the value and its interval, the axis' title, labels and words."""

    field: str
    title: str
    axis: str
    unit: str
    low: str | None = None
    high: str | None = None

    @property
    def ends(self) -> list[str]:
        """Columns that the vertical axis must hold."""
        return [name for name in (self.field, self.low, self.high) if name]

    def words(self, value: float) -> str:
        """The value as people read it."""
        if self.unit == "$":
            return f"${significant(value)}"
        return quantity(value, self.unit)


SECONDS = Value("seconds", "time of one step", TIME_AXIS, "s", "lower", "upper")
RATE = Value("rate", "tokens a second of one device", RATE_AXIS, "tokens/s")
DOLLARS = Value(
    "dollars", "US dollars for a million written tokens", DOLLAR_AXIS, "$", "dollars_low", "dollars_high"
)


def over_batch(rows: pd.DataFrame, value: Value, here: int, what: str) -> Figure:
    """One value over batch for every model. `here`: the scenario's batch.

    Compiled once for the models and batches there are; the data and the vertical axis are put in.
    """
    data = rows.assign(text=rows[value.field].map(lambda v: value.words(float(v))))
    names, batches = tuple(dict.fromkeys(data["name"])), tuple(sorted(set(data["batch"])))
    form = _form(value, names, batches)
    y = logarithmic(value.field, value.title, value.axis, data[value.ends]).to_dict()
    axis = {"scale": y["scale"], "axis": y["axis"]}
    spec = {**form, "layer": [_with_axis(layer, axis) for layer in form["layer"]]}
    mark = pd.DataFrame({"batch": [here], HERE: ["you are here"]})
    spec["datasets"] = {name: mark if HERE in frame else data for name, frame in form["datasets"].items()}
    title = _at_title(data, value, here, what)
    return Figure(title, _words(value, title), spec, rows)


def _with_axis(layer: dict[str, Any], axis: dict[str, Any]) -> dict[str, Any]:
    """A layer whose vertical channel, if it has an axis, takes this one."""
    encoding = layer["encoding"]
    if "scale" not in encoding.get("y", {}):
        return layer
    return {**layer, "encoding": {**encoding, "y": {**encoding["y"], **axis}}}


@lru_cache(maxsize=128)
def _form(value: Value, names: tuple[str, ...], batches: tuple[int, ...]) -> dict[str, Any]:
    """The compiled chart of these models and batches, over made-up values."""
    known = dict.fromkeys([*value.ends, "batch"], 1.0)
    data = pd.DataFrame(
        [{"name": name, "model": "dense", "source": "", "text": "", **known} for name in names]
    )
    x = log2_axis("batch", "batch (sequences)", list(batches))
    y = logarithmic(value.field, value.title, value.axis, data[value.ends])
    base, color = alt.Chart(data).encode(x=x), roles(legend=False)
    layers: list[alt.Chart] = []
    if value.low and value.high:
        bottom = alt.Y(f"{value.low}:Q", title=value.title, scale=y["scale"], axis=y["axis"])
        band = base.mark_area(opacity=0.1).encode(y=bottom, y2=alt.Y2(f"{value.high}:Q"))
        layers.append(band.encode(color=color, detail=alt.Detail("name:N")))
    said = alt.Tooltip("text:N", title=value.title)
    tip = [*tips("name:N", "batch:Q"), said, alt.Tooltip("source:N")]
    line = base.mark_line(strokeDash=[6, 4], strokeWidth=1.8)
    line = line.encode(y=y, color=color, detail=alt.Detail("name:N"))
    hollow = base.mark_point(size=55, opacity=1).encode(y=y, color=color, shape=shapes(data), tooltip=tip)
    measured = base.transform_filter(alt.datum.source == "measured elsewhere")
    solid = measured.mark_point(size=55, opacity=1, filled=True)
    solid = solid.encode(y=y, color=color, shape=shapes(data), tooltip=tip)
    chart = alt.layer(*layers, line, hollow, solid, *_here("batch", 1, x)).properties(height=320)
    return draw("", "", chart, data).spec


def logarithmic(field: str, title: str, labels: str, data: pd.DataFrame) -> alt.Y:
    """A logarithmic axis with ticks at 1, 2 and 5, fewer where there are many."""
    low, high = float(data.min().min()), float(data.max().max())
    scale = alt.Scale(type="log", domain=[low / 1.15, high * 1.15], nice=False)
    return alt.Y(
        f"{field}:Q", title=title, scale=scale, axis=alt.Axis(labelExpr=labels, values=ticks(low, high))
    )


def shapes(data: pd.DataFrame, field: str = "name") -> alt.Shape:
    """A shape for each name, in the legend."""
    names = list(dict.fromkeys(data[field]))
    scale = alt.Scale(domain=names, range=[SHAPES[i % len(SHAPES)] for i in range(len(names))])
    return alt.Shape(f"{field}:N", scale=scale, legend=LEGEND)


def _here(field: str, value: float, x: alt.X) -> list[alt.Chart]:
    data = pd.DataFrame({field: [value], HERE: ["you are here"]})
    rule = paint(alt.Chart(data).mark_rule(strokeDash=[2, 3]), "limit", stroke=True).encode(x=x)
    word = paint(alt.Chart(data).mark_text(align="left", dx=5, baseline="top"), "limit")
    return [rule, word.encode(x=x, y=alt.YValue(2), text=alt.Text(f"{HERE}:N"))]


def moved(figure: Figure, value: Value, here: int, what: str) -> Figure:
    """The same figure with "you are here" at another batch: nothing is compiled again."""
    frames = figure.spec["datasets"]
    swapped = {name: rows.assign(batch=here) if HERE in rows else rows for name, rows in frames.items()}
    title = _at_title(figure.data, value, here, what)
    return Figure(title, _words(value, title), {**figure.spec, "datasets": swapped}, figure.data)


def _words(value: Value, title: str) -> str:
    return f"{value.title} over batch; filled points are measured elsewhere, hollow ones modelled. {title}."


def _at_title(data: pd.DataFrame, value: Value, here: int, what: str) -> str:
    near = data[data["batch"] == min(data["batch"].unique(), key=lambda batch: abs(int(batch) - here))]
    found = {str(row["name"]): float(row[value.field]) for row in near.to_dict("records")}
    (main, own), *rest = found.items()
    batch = int(near.iloc[0]["batch"])
    if not rest:
        return f"At batch {batch}, {what} of {main}: {value.words(own)}"
    others = " and ".join(f"{times(own / other)} that of the {name}" for name, other in rest[:2])
    return f"At batch {batch}, {what} of the mixture is {value.words(own)}, {others}"


# -- what a step is made of ------------------------------------------------------------------------


def part_of(component: str) -> str:
    """The group a part of a step is drawn with."""
    return next((name for name, parts in PARTS.items() if component in parts), "attention and router")


def parts(rows: pd.DataFrame, phase: str) -> Figure:
    """Share of a step's time by part, over batch. `rows`: batch, part, component, seconds, bound."""
    data = rows.assign(group=rows["component"].map(part_of))
    data = data.groupby(["batch", "group"])["seconds"].sum().reset_index()
    whole = data.groupby("batch")["seconds"].transform("sum")
    data = data.assign(
        share=data["seconds"] / whole, text=data["seconds"].map(lambda s: quantity(float(s), "s"))
    )
    chart = _stack(data, "group", list(PARTS), "share", "share of the step's time", ".0%")
    top, end = (
        largest(data[data["batch"] == b], "share") for b in (data["batch"].min(), data["batch"].max())
    )
    title = (
        f"At batch {int(top['batch'])} {top['group']} take {percent(top['share'])} of a {phase} step, "
        f"at {int(end['batch'])} {end['group']} {percent(end['share'])}"
    )
    return draw(title, f"Parts of one {phase} step of the mixture over batch. {title}.", chart, data)


def cache(rows: pd.DataFrame) -> Figure:
    """Bytes a decode step reads on a device: weights against cache. `rows`: batch, part, bytes."""
    data = rows.assign(text=rows["bytes"].map(lambda b: quantity(float(b), "B")))
    chart = _stack(data, "part", list(BYTES), "bytes", "read by one decode step", None)
    wide = data.pivot(index="batch", columns="part", values="bytes")
    over = wide.index[wide["KV cache and state"] > wide["weights"]]
    share = float((wide["KV cache and state"] / wide.sum(axis=1)).iloc[-1])
    title = (
        f"From batch {over[0]} on the cache is more than the weights a step reads"
        if len(over)
        else f"The cache stays below the weights: {percent(share)} of it all at batch {int(wide.index[-1])}"
    )
    return draw(title, f"Bytes that a decode step reads, weights and cache. {title}.", chart, rows)


def _stack(
    data: pd.DataFrame, field: str, domain: Sequence[str], value: str, title: str, form: str | None
) -> alt.Chart:
    """Stacked bars over batch; colours by place in `domain`."""
    present = [name for name in domain if name in set(data[field])]
    axis = alt.Axis(format=form, tickCount=5) if form else alt.Axis(labelExpr=BYTE_AXIS, tickCount=5)
    color = alt.Color(
        f"{field}:N",
        scale=alt.Scale(domain=list(domain)),
        legend=alt.Legend(orient="top", title=None, values=present, labelLimit=260, columns=3),
    )
    tip = [*tips("batch:O", f"{field}:N", "text:N")]
    return (
        alt.Chart(data)
        .mark_bar()
        .encode(
            x=alt.X("batch:O", title="batch (sequences)", axis=alt.Axis(labelAngle=0)),
            y=alt.Y(f"{value}:Q", title=title, axis=axis),
            color=color,
            tooltip=tip,
        )
        .properties(height=320)
    )


# -- money -----------------------------------------------------------------------------------------


def over_demand(rows: pd.DataFrame) -> Figure:
    """Dollars for a million tokens over demand: whole copies, so each new one is a step up."""
    low, high = float(rows["demand"].min()), float(rows["demand"].max())
    x = alt.X(
        "demand:Q",
        title="tokens a second that are asked for",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(labelExpr=RATE_AXIS, values=ticks(low, high)),
    )
    y = logarithmic("dollars", "US dollars for a million written tokens", DOLLAR_AXIS, rows[["dollars"]])
    data = rows.assign(
        price=rows["dollars"].map(lambda d: f"${significant(float(d))}"),
        used=rows["utilisation"].map(percent),
    )
    tip = [
        alt.Tooltip("name:N"),
        alt.Tooltip("demand:Q", format=",.3~s"),
        *tips("price:N", "copies:Q", "used:N"),
    ]
    base = alt.Chart(data).encode(x=x, y=y, color=roles(legend=False), tooltip=tip)
    line = base.mark_line(strokeWidth=1.8, strokeDash=[6, 4]).encode(detail=alt.Detail("name:N"))
    few = data.iloc[:: max(1, len(data) // 48)]
    dots = (
        alt.Chart(few)
        .mark_point(size=45, opacity=1)
        .encode(x=x, y=y, color=roles(legend=False), shape=shapes(few), tooltip=tip)
    )
    best = {str(name): float(part["dollars"].min()) for name, part in data.groupby("name", sort=False)}
    (main, own), *rest = best.items()
    title = f"Fully used, a million tokens of {main} cost ${significant(own)}"
    if rest:
        title += ": " + " and ".join(f"{times(own / other)} those of the {name}" for name, other in rest[:2])
    chart = alt.layer(line, dots).properties(height=320)
    return draw(title, f"Cost against demand, in whole copies at their best batch. {title}.", chart, rows)


# -- loads -------------------------------------------------------------------------------------------
# What an uneven load on the experts costs, and what exchanging tokens takes. Frames:
# `moe_core.scenario.loads`.


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
