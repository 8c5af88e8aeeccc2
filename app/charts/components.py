"""Components: where the parameters of one model, or of several, are.

`parts` frame: name, component (of `perf.params.Breakdown`), parameters.
"""

from __future__ import annotations

from math import ceil

import altair as alt
import pandas as pd

from app.charts.figure import Figure, draw, largest, layers, paint, percent, times
from app.charts.landscape import COUNT_AXIS
from app.charts.memory import GROUPS, STACK, part_of
from moe_core.units import count

NAMES = {
    "ffn": "dense feed-forward",
    "experts": "routed experts",
    "shared": "shared experts",
    "head": "output head",
    "mixer": "linear attention or state space",
    "other": "other (positions, residual mixers)",
}


def one(parts: pd.DataFrame) -> Figure:
    """One model, component by component, largest first; a lighter part is what a token does not visit.

    `parts` also has `active`: parameters of the component that one token passes through.
    """
    data = parts[parts["parameters"] > 0].sort_values("parameters", ascending=False)
    whole = float(data["parameters"].sum())
    data = data.assign(
        label=data["component"].map(lambda c: NAMES.get(c, c)),
        part=data["component"].map(part_of),
        share=data["parameters"] / whole,
        text=[f"{count(n)}  ({percent(n / whole)})" for n in data["parameters"]],
        exact=data["parameters"].map(lambda n: f"{n:,}"),
        used=data["active"].map(lambda n: f"{n:,}"),
    )
    high = float(data["parameters"].max())
    y = alt.Y("label:N", sort=data["label"].tolist(), title=None, axis=alt.Axis(labelLimit=220))
    room = alt.Scale(domain=[0, high * 1.35], nice=False)
    ticks = alt.Axis(labelExpr=COUNT_AXIS, tickCount=5)
    x = alt.X("parameters:Q", title="parameters", axis=ticks, scale=room)
    colour = alt.Color("part:N", scale=alt.Scale(domain=list(GROUPS), range="category"), legend=None)
    tip = [
        alt.Tooltip("label:N"),
        alt.Tooltip("exact:N", title="parameters"),
        alt.Tooltip("used:N", title="for a token"),
    ]
    base = alt.Chart().encode(y=y, color=colour, tooltip=tip)
    held = base.mark_bar(opacity=0.35).encode(x=x)
    used = base.mark_bar().encode(x=alt.X("active:Q", scale=room))
    words = paint(alt.Chart().mark_text(align="left", dx=6), "ink").encode(y=y, x=x, text=alt.Text("text:N"))
    chart = layers(held, used, words, data=data, height=34 * len(data) + 50)
    top = largest(data, "parameters")
    title = f"{top['label'][:1].upper()}{top['label'][1:]} hold {percent(top['share'])} of the parameters"
    title = title.replace("Attention hold", "Attention holds").replace("forward hold", "forward holds")
    return draw(title, f"Parameters by component; solid is what a token uses. {title}.", chart, data)


def several(parts: pd.DataFrame) -> Figure:
    """Up to four models as stacked bars on one axis."""
    parts = parts[parts["parameters"] > 0]
    grouped = parts.assign(part=parts["component"].map(part_of))
    data = grouped.groupby(["name", "part"], sort=False, as_index=False)["parameters"].sum()
    rank = {name: index for index, name in enumerate(STACK)}
    data = data.assign(order=data["part"].map(rank), text=data["parameters"].map(count))
    names = list(dict.fromkeys(data["name"]))
    totals = data.groupby("name", sort=False, as_index=False)["parameters"].sum()
    totals = totals.assign(text=totals["parameters"].map(count))
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=210, minExtent=130))
    room = alt.Scale(domain=[0, float(totals["parameters"].max()) * 1.12], nice=False)
    ticks = alt.Axis(labelExpr=COUNT_AXIS, tickCount=6)
    present = [name for name in GROUPS if name in set(data["part"])]
    key = alt.Legend(orient="top", title=None, columns=2, values=present, labelLimit=200)
    bars = (
        alt.Chart(data)
        .mark_bar(height=26)
        .encode(
            y=y,
            x=alt.X("parameters:Q", title="parameters", stack="zero", axis=ticks, scale=room),
            color=alt.Color("part:N", scale=alt.Scale(domain=list(GROUPS), range="category"), legend=key),
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("name:N"),
                alt.Tooltip("part:N", title="component"),
                alt.Tooltip("text:N", title="has"),
            ],
        )
    )
    words = paint(alt.Chart(totals).mark_text(align="left", dx=6, fontWeight="bold"), "ink")
    words = words.encode(y=y, x=alt.X("parameters:Q"), text=alt.Text("text:N"))
    chart = layers(bars, words, height=46 * len(names) + 100 + 16 * ceil(len(present) / 2))
    title = _title(totals)
    return draw(title, f"Parameters by component, one bar a model. {title}.", chart, data)


def _title(totals: pd.DataFrame) -> str:
    first = totals.to_dict("records")[0]
    if len(totals) == 1:
        return f"{first['name']} has {first['text']} parameters"
    big, small = totals.nlargest(1, "parameters"), totals.nsmallest(1, "parameters")
    top, low = big.to_dict("records")[0], small.to_dict("records")[0]
    if top["parameters"] == low["parameters"]:
        every = "Both" if len(totals) == 2 else f"All {len(totals)}"
        return f"{every} have {first['text']} parameters"
    return f"{top['name']} is {times(top['parameters'] / low['parameters'])} the size of {low['name']}"
