"""Memory: what fills it, predicted beside measured, and whether the full size fits a device.

`memory` frame: model (dense|moe), component, predicted_bytes, measured_bytes (missing where not measured).
`sizes` frame: name, component, bytes.
"""

from __future__ import annotations

from math import ceil

import altair as alt
import pandas as pd

from app.charts.figure import (
    BYTE_AXIS,
    Figure,
    draw,
    label_models,
    largest,
    layers,
    paint,
    percent,
    roles,
    times,
)
from app.theme import ROLES
from moe_core.report.tables import GROUPS as GROUPS
from moe_core.report.tables import SHADES
from moe_core.report.tables import STACK as STACK
from moe_core.report.tables import part_of as part_of
from moe_core.units import quantity

ORDER = (
    "embedding",
    "head",
    "attention",
    "ffn",
    "experts",
    "shared",
    "router",
    "norms",
    "kv_cache",
    "state",
    "activations",
)
NAMES = {"ffn": "dense FFN", "kv_cache": "KV cache", "head": "output head", "state": "recurrent state"}


def predicted(memory: pd.DataFrame, model: str) -> Figure:
    """Predicted (dashed outline) beside measured (solid) bytes of one model, component by component."""
    part = memory[(memory["model"] == model) & (memory["predicted_bytes"].fillna(0) > 0)]
    rows = [
        {"model": model, "component": component, "kind": kind, "bytes": size}
        for kind in ("predicted", "measured")
        for component, size in zip(part["component"], part[f"{kind}_bytes"], strict=True)
        if pd.notna(size)
    ]
    long = pd.DataFrame(rows, columns=["model", "component", "kind", "bytes"])
    data = label_models(long).assign(
        text=long["bytes"].map(lambda b: quantity(float(b), "B")), component=long["component"].map(_name)
    )
    y = alt.Y("component:N", title=None, sort=[_name(c) for c in (*ORDER, "total")])
    offset = alt.YOffset("kind:N", sort=["measured", "predicted"])
    base = alt.Chart().encode(
        y=y,
        yOffset=offset,
        x=alt.X("bytes:Q", title="bytes", axis=alt.Axis(labelExpr=BYTE_AXIS, tickCount=6)),
        tooltip=[alt.Tooltip("component:N"), alt.Tooltip("kind:N"), alt.Tooltip("text:N", title="size")],
    )
    label = "dense" if model == "dense" else "mixture"
    edge = alt.Stroke("model:N", scale=alt.Scale(domain=list(ROLES)), legend=None)
    measured = base.transform_filter(alt.datum.kind == "measured").mark_bar()
    expected = base.transform_filter(alt.datum.kind == "predicted")
    solid = measured.encode(color=roles(legend=False))
    dashed = expected.mark_bar(fillOpacity=0.15, strokeDash=[4, 3], strokeWidth=1.5)
    dashed = dashed.encode(color=roles(legend=False), stroke=edge)
    words = paint(base.mark_text(align="left", dx=5, fontSize=11), "ink").encode(text=alt.Text("text:N"))
    title = _predicted_title(part, label)
    chart = layers(dashed, solid, words, data=data, height=34 * data["component"].nunique() + 60)
    return draw(title, f"Predicted and measured memory of the {label} scale model. {title}.", chart, data)


def _predicted_title(part: pd.DataFrame, label: str) -> str:
    both = part.dropna(subset="measured_bytes").set_index("component")
    rest = both.drop(index="total", errors="ignore")
    if rest.empty:
        return f"Nothing of the {label} model could be measured on this device"
    error = float(rest["predicted_bytes"].sum() / rest["measured_bytes"].sum() - 1)
    return f"Prediction and measurement of the {label} model's tensors differ by {percent(abs(error))}"


def budget(sizes: pd.DataFrame, capacity: float, device: str, title: str | None = None) -> Figure:
    """Stacked bars against a device's capacity: it fits when the bar ends left of the grey line.

    `title` says another finding than what fills the first bar.
    """
    data = _grouped(sizes)
    names = list(dict.fromkeys(data["name"]))
    totals = data.groupby("name", sort=False)["bytes"].sum().reset_index()
    totals["text"] = totals["bytes"].map(lambda b: quantity(float(b), "B"))
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=210, minExtent=130))
    present = [name for name in GROUPS if name in set(data["part"])]
    legend = alt.Legend(orient="top", title=None, columns=2, values=present, labelLimit=200)
    bars = (
        alt.Chart(data)
        .mark_bar(height=26)
        .encode(
            y=y,
            x=alt.X("bytes:Q", title="bytes", stack="zero", axis=alt.Axis(labelExpr=BYTE_AXIS, tickCount=6)),
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=list(GROUPS), range="category"),
                legend=legend,
            ),
            order=alt.Order("order:Q"),
            opacity=alt.Opacity(
                "part:N",
                scale=alt.Scale(type="ordinal", domain=list(GROUPS), range=[SHADES[part] for part in GROUPS]),
                legend=legend,
            ),
            tooltip=[
                alt.Tooltip("name:N"),
                alt.Tooltip("part:N", title="component"),
                alt.Tooltip("text:N", title="size"),
            ],
        )
    )
    amounts = paint(alt.Chart(totals).mark_text(align="left", dx=6, fontWeight="bold"), "ink")
    limit = alt.Chart(
        pd.DataFrame({"bytes": [capacity], "text": [f"usable of {device}: {quantity(capacity, 'B')}"]})
    )
    rule = limit.mark_rule(strokeWidth=2.5, color="gray").encode(x=alt.X("bytes:Q"))
    right = capacity > 0.6 * max(float(totals["bytes"].max()), capacity)
    name = paint(limit.mark_text(align="right" if right else "left", dx=-6 if right else 6), "limit")
    chart = layers(
        bars,
        rule,
        name.encode(x=alt.X("bytes:Q"), y=alt.YValue(-8), text=alt.Text("text:N")),
        amounts.encode(y=y, x=alt.X("bytes:Q"), text=alt.Text("text:N")),
        height=46 * len(names) + 90 + 16 * ceil(len(present) / 2),
    )
    title = title or _biggest(data)
    first = float(totals["bytes"].iloc[0])
    words = f"Memory by component against {device}. {fits(names[0], first, capacity, device)}. {title}."
    return draw(title, words, chart, sizes)


def _biggest(data: pd.DataFrame) -> str:
    """What fills the first bar."""
    first = data[data["name"] == data["name"].iloc[0]]
    top, whole = largest(first, "bytes"), float(first["bytes"].sum())
    return f"{top['part'][:1].upper()}{top['part'][1:]}: {percent(top['bytes'] / whole)} of {top['name']}"


def fits(name: str, need: float, room: float, device: str) -> str:
    """Whether `need` bytes go into `room`, and by how much."""
    if need <= room:
        return f"{name} fits {device} with {quantity(room - need, 'B')} to spare"
    return f"{name} needs {times(need / room)} what {device} can give: {quantity(need - room, 'B')} too much"


def _grouped(sizes: pd.DataFrame) -> pd.DataFrame:
    """Components folded into `GROUPS`, in drawing order: weights, then cache, then activations."""
    parts = sizes.assign(part=sizes["component"].map(part_of))
    data = parts.groupby(["name", "part"], sort=False, as_index=False)["bytes"].sum()
    rank = {name: index for index, name in enumerate(STACK)}
    text = data["bytes"].map(lambda b: quantity(float(b), "B"))
    return data.assign(order=data["part"].map(rank), text=text)


def small(parts: pd.DataFrame, capacity: float | None) -> Figure:
    """Two bars, dense and mixture, for the overview. `parts`: model, bytes."""
    data = label_models(parts).assign(text=parts["bytes"].map(lambda b: quantity(float(b), "B")))
    base = alt.Chart(data).encode(
        y=alt.Y("model:N", title=None, sort=["dense", "mixture"], axis=alt.Axis(labels=False))
    )
    bars = base.mark_bar(height=22).encode(
        x=alt.X("bytes:Q", title=None, axis=alt.Axis(labelExpr=BYTE_AXIS, tickCount=4)),
        color=roles(legend=False),
    )
    words = paint(base.mark_text(align="left", dx=6, fontWeight="bold"), "ink")
    chart = bars + words.encode(x=alt.X("bytes:Q"), text=alt.Text("text:N"))
    if capacity is not None and capacity < 20 * data["bytes"].max():
        chart = (
            alt.Chart(pd.DataFrame({"c": [capacity]}))
            .mark_rule(strokeWidth=2, color="gray")
            .encode(x=alt.X("c:Q"))
            + chart
        )
    ratio = float(
        data.set_index("model")["bytes"].get("mixture", 0) / data.set_index("model")["bytes"].get("dense", 1)
    )
    title = f"At its peak the mixture holds {times(ratio)} the dense model's memory"
    return draw(title, f"Peak memory of both scale models. {title}.", chart.properties(height=110), data)


def _name(component: str) -> str:
    return NAMES.get(component, component)
