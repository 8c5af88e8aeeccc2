"""Landscape: every model as total against active parameters, and what mixtures looked like over the years.

`models` frame: name, kind (dense|mixture), total, active, year, experts, top_k (missing in dense models),
standing (published|rumoured|yours).
"""

from __future__ import annotations

import math
from math import ceil

import altair as alt
import pandas as pd

from app.figure import Figure, draw, largest, layers, paint, percent, roles, shapes, times
from moe_core.report.palette import GROUPS, STACK, part_of
from moe_core.report.text import many
from moe_core.units import count

RATIOS = (1, 2, 4, 8, 16, 32)  # one line each: 1 in so many parameters is active
COUNT_AXIS = "replace(format(datum.value, '~s'), 'G', ' B')"
_TOLD = ("name", "model", "in_all", "in_use", "ratio", "mixture", "released", "standing")
_ROOM = (0.2, 0.055)  # of the plot's width and height, that a label wants for itself


def scatter(models: pd.DataFrame, shown: str, convention: str) -> Figure:
    """Log against log; dense models lie on the diagonal. A click on a point selects its `name` as `model`."""
    data = _data(models, shown)
    low, high = _span(data)
    x = alt.X("total:Q", title="total parameters", axis=_axis(), scale=_log(low, high))
    y = alt.Y("active:Q", title=f"active parameters, {convention}", axis=_axis(), scale=_log(low, high))
    base = alt.Chart(data).encode(x=x, y=y)
    ring = base.transform_filter("datum.shown").mark_point(
        size=330, strokeWidth=2.5, filled=False, aria=False
    )
    names = base.transform_filter("datum.labelled").mark_text(
        align="left", dx=9, dy=-7, fontSize=11, aria=False
    )
    chart = alt.layer(
        *_ratio_lines(low, high),
        *_points(base, rumours=bool((data["standing"] == "rumoured").any())),
        paint(ring, "ink", stroke=True),
        paint(names, "ink").encode(text=alt.Text("name:N")),
        height=470,
    )
    title = _title(data)
    words = f"{len(data)} models, total against active parameters, {convention}. {title}."
    return draw(title, words, chart, data.drop(columns=["labelled", "role", "spoken"], errors="ignore"))


def _points(base: alt.Chart, rumours: bool) -> list[alt.Chart]:
    """A point a model, which can be clicked; rumoured ones hollow and grey, which cannot."""
    tip = [alt.Tooltip(f"{name}:N") for name in _TOLD]
    spoken = alt.Description("spoken:N")
    click = alt.selection_point(name="model", fields=["name"], empty=False)
    points = base.mark_point(filled=True, size=85, opacity=0.85, cursor="pointer").encode(
        color=roles(), shape=shapes(), tooltip=tip, description=spoken
    )
    sure = points.transform_filter("datum.standing != 'rumoured'").add_params(click)
    hearsay = base.transform_filter("datum.standing == 'rumoured'").mark_point(size=110, shape="diamond")
    rumoured = paint(hearsay, "limit", stroke=True).encode(tooltip=tip, description=spoken)
    return [sure, rumoured] if rumours else [sure]


def _data(models: pd.DataFrame, shown: str) -> pd.DataFrame:
    data = models.rename(columns={"kind": "model"}).sort_values("total")
    data = data.assign(
        shown=data["name"] == shown,
        ratio=[percent(a / t) for a, t in zip(data["active"], data["total"], strict=True)],
        in_all=data["total"].map(lambda n: f"{count(n)} in all"),
        in_use=data["active"].map(lambda n: f"{count(n)} active"),
        mixture=[_mixture(e, k) for e, k in zip(data["experts"], data["top_k"], strict=True)],
    )
    spoken = data["name"] + ": " + data["in_all"] + ", " + data["in_use"] + ", " + data["mixture"]
    return data.assign(labelled=data["name"].isin(_uncrowded(data)), spoken=spoken)


def _mixture(experts: float, top_k: float) -> str:
    return "dense" if pd.isna(experts) else f"{many(int(experts), 'experts')}, top-{top_k:.0f}"


def _uncrowded(data: pd.DataFrame) -> set[str]:
    """Names that can be written beside their points without touching: the chosen one, then the newest."""
    low, high = (math.log(v) for v in _span(data))
    kept: list[tuple[float, float, str]] = []
    order = data.sort_values(["shown", "standing", "released"], ascending=[False, False, False])
    for row in order.to_dict("records"):
        x, y = ((math.log(row[axis]) - low) / (high - low) for axis in ("total", "active"))
        if (all(abs(x - a) > _ROOM[0] or abs(y - b) > _ROOM[1] for a, b, _ in kept) and x < 0.9) or row[
            "shown"
        ]:
            kept.append((x, y, str(row["name"])))
    return {name for _, _, name in kept}


def _span(data: pd.DataFrame) -> tuple[float, float]:
    """One range for both axes, so that the diagonal is one."""
    return float(data["active"].min()) / 1.4, float(data["total"].max()) * 1.6


def _axis() -> alt.Axis:
    values = [m * 10**e for e in range(6, 14) for m in (1, 3)]
    return alt.Axis(labelExpr=COUNT_AXIS, values=values, labelOverlap=True)


def _log(low: float, high: float) -> alt.Scale:
    return alt.Scale(type="log", domain=[low, high], nice=False)


def _ratio_lines(low: float, high: float) -> list[alt.Chart]:
    """Lines of equal ratio, cut where they leave the plot, and what each says."""
    rows = [
        {"total": max(low, low * r), "active": max(low, low * r) / r, "end": high, "end_active": high / r}
        | {"text": "dense" if r == 1 else f"1 in {r}", "strength": 0.9 if r == 1 else 0.45}
        for r in RATIOS
    ]
    base = alt.Chart(pd.DataFrame(rows)).encode(x=alt.X("total:Q"), y=alt.Y("active:Q"))
    lines = base.mark_rule(color="gray", aria=False).encode(
        x2=alt.X2("end:Q"),
        y2=alt.Y2("end_active:Q"),
        strokeOpacity=alt.Opacity("strength:Q", scale=None, legend=None),
    )
    words = alt.Chart(pd.DataFrame(rows)).mark_text(align="right", dx=-4, dy=-7, fontSize=11, aria=False)
    return [
        lines,
        paint(words, "limit").encode(x=alt.X("end:Q"), y=alt.Y("end_active:Q"), text=alt.Text("text:N")),
    ]


def _title(data: pd.DataFrame) -> str:
    """The sparsest published mixture, against the middle one."""
    mixtures = data[(data["model"] == "mixture") & (data["standing"] == "published")]
    share = (mixtures["active"] / mixtures["total"]).sort_values()
    sparsest = str(mixtures.loc[share.index[0], "name"])
    return (
        f"The median of {len(mixtures)} mixtures uses {percent(float(share.median()))} of its parameters "
        f"for a token; {sparsest}, the sparsest, {percent(float(share.iloc[0]))}"
    )


YEARS = {"experts": "routed experts in a layer", "top_k": "experts a token visits (top-k)"}


def over_years(models: pd.DataFrame, field: str) -> Figure:
    """How many mixtures of each year had so many experts, or so large a top-k. Published ones only."""
    data = models[(models["standing"] == "published") & models[field].notna()].copy()
    edges = sorted({_bin(float(v)) for v in data[field]})
    data["bin"] = data[field].map(lambda v: _bin(float(v)))
    grouped = data.groupby(["year", "bin"], as_index=False).agg(
        models=("name", "size"), names=("name", lambda names: ", ".join(sorted(names)))
    )
    base = alt.Chart(grouped).encode(
        x=alt.X("year:O", title="year of release", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("bin:O", title=YEARS[field], sort=[_words(edge) for edge in reversed(edges)]),
    )
    grouped["bin"] = grouped["bin"].map(_words)
    base.data = grouped
    tip = [
        alt.Tooltip("year:O"),
        alt.Tooltip("bin:O", title=YEARS[field]),
        alt.Tooltip("models:Q"),
        alt.Tooltip("names:N"),
    ]
    cells = base.mark_rect(opacity=0.5).encode(
        color=alt.Color("models:Q", scale=alt.Scale(range="ramp", domainMin=0), legend=None), tooltip=tip
    )
    tall = paint(base.mark_text(fontSize=12, fontWeight="bold"), "ink").encode(text=alt.Text("models:Q"))
    chart = alt.layer(cells, tall, height=34 * len(edges) + 60)
    title = _years_title(data, field)
    return draw(title, f"Mixtures by year and {YEARS[field]}. {title}.", chart, grouped)


def _bin(value: float) -> int:
    """The power of two at or below `value`."""
    return int(2 ** math.floor(math.log2(value)))


def _words(edge: int) -> str:
    return str(edge) if edge == 1 else f"{edge} to {2 * edge - 1}"


def _years_title(data: pd.DataFrame, field: str) -> str:
    middle = data.groupby("year")[field].median()
    first, last = int(middle.index.min()), int(middle.index.max())
    recent = middle.loc[last]
    what = "layer of experts" if field == "experts" else "top-k"
    return f"The median {what} went from {middle.loc[first]:,.0f} in {first} to {recent:,.0f} in {last}"


# -- block -------------------------------------------------------------------------------------------
# What one token passes through, from embedding to head, as boxes. Rectangles in Vega-Lite, so that it
# follows the theme and is exported like any other chart. `boxes` frame: label, note, exact (weights in
# words), part (of `memory.GROUPS`), x, x2, y (one unit a box). `cells` frame: x, x2, y, on (chosen for a
# token): the experts of one layer.


def block(boxes: pd.DataFrame, cells: pd.DataFrame, title: str) -> Figure:
    """The stack of boxes; where a layer has experts, a row of squares with the chosen ones solid."""
    boxes = boxes.assign(low=boxes["y"] + 0.09, high=boxes["y"] + 0.91, middle=boxes["y"] + 0.5)
    top = float(boxes["high"].max())
    axis = alt.Axis(labels=False, ticks=False, grid=False, title=None, domain=False)
    x = alt.X("x:Q", axis=axis, scale=alt.Scale(domain=[0, 10], nice=False))
    y = alt.Y("low:Q", axis=axis, scale=alt.Scale(domain=[top + 0.1, -0.1], nice=False))
    stack = _boxes(boxes, x, y)
    if len(cells):
        stack.append(_squares(cells, x, y))
    chart = layers(*stack, height=int(44 * top) + 12)
    named = boxes[boxes["label"] != ""]
    words = "; ".join(f"{label}: {note}" for label, note in zip(named["label"], named["note"], strict=True))
    data = named[["label", "note", "exact"]].rename(columns={"exact": "parameters"})
    return draw(title, f"Block diagram, from input to output. {title}. {words}.", chart, data)


def _boxes(boxes: pd.DataFrame, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Each box with its name on the left and its note on the right."""
    base = alt.Chart(boxes).encode(tooltip=[alt.Tooltip("label:N"), alt.Tooltip("exact:N", title="weights")])
    groups = alt.Scale(domain=list(GROUPS), range="category")
    place = {"x": x, "x2": alt.X2("x2:Q"), "y": y, "y2": alt.Y2("high:Q")}
    colour = alt.Color("part:N", scale=groups, legend=None)
    solid = base.mark_rect(opacity=0.22, cornerRadius=4).encode(**place, color=colour)
    edge = base.mark_rect(filled=False, strokeWidth=1.5, cornerRadius=4).encode(
        **place, stroke=alt.Stroke("part:N", scale=groups, legend=None)
    )
    left = base.mark_text(align="left", dx=10, fontWeight="bold").encode(
        x=x, y=alt.Y("middle:Q"), text=alt.Text("label:N")
    )
    right = base.mark_text(align="right", dx=-10).encode(
        x=alt.X("x2:Q"), y=alt.Y("middle:Q"), text=alt.Text("note:N")
    )
    return [solid, edge, paint(left, "ink"), paint(right, "ink")]


def _squares(cells: pd.DataFrame, x: alt.X, y: alt.Y) -> alt.Chart:
    """The experts of one layer; those chosen for a token are solid."""
    strength = cells["on"].map({True: 0.95, False: 0.25})
    squares = alt.Chart(cells.assign(low=cells["y"] + 0.22, high=cells["y"] + 0.78, strength=strength))
    drawn = squares.mark_rect(cornerRadius=2).encode(
        x=x,
        x2=alt.X2("x2:Q"),
        y=y,
        y2=alt.Y2("high:Q"),
        opacity=alt.Opacity("strength:Q", scale=None, legend=None),
    )
    return paint(drawn, "mixture")


# -- components --------------------------------------------------------------------------------------
# Where the parameters of one model, or of several, are. `parts` frame: name, component (of
# `perf.params.Breakdown`), parameters.


NAMES = {
    "ffn": "dense feed-forward",
    "experts": "routed experts",
    "shared": "shared experts",
    "head": "output head",
    "mixer": "linear attention or state space",
    "other": "other (positions, residual mixers)",
    "tower": "vision and audio towers",
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
    title = _components_title(totals)
    return draw(title, f"Parameters by component, one bar a model. {title}.", chart, data)


def _components_title(totals: pd.DataFrame) -> str:
    first = totals.to_dict("records")[0]
    if len(totals) == 1:
        return f"{first['name']} has {first['text']} parameters"
    big, small = totals.nlargest(1, "parameters"), totals.nsmallest(1, "parameters")
    top, low = big.to_dict("records")[0], small.to_dict("records")[0]
    if top["parameters"] == low["parameters"]:
        every = "Both" if len(totals) == 2 else f"All {len(totals)}"
        return f"{every} have {first['text']} parameters"
    return f"{top['name']} is {times(top['parameters'] / low['parameters'])} the size of {low['name']}"


# -- twins -------------------------------------------------------------------------------------------
# A mixture between the dense models it may be compared with. `parts` frame: name, component, parameters,
# active; the mixture first.


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
    title = _twins_title(data)
    return draw(title, f"{mixture} and its dense twins. {title}.", chart, data)


def _twins_title(data: pd.DataFrame) -> str:
    dense = data[data["model"] == "dense"].sort_values("parameters")
    if dense.empty:
        return "This mixture has no dense twin: its attention alone is larger than every target"
    low, high = (row for row in dense.iloc[[0, -1]].to_dict("records"))
    if len(dense) == 1:
        return f"The only dense twin has {low['text']} parameters"
    spread = times(high["parameters"] / low["parameters"])
    return f"Its dense twins reach from {low['text']} to {high['text']}, {spread} apart: name the rule"
