"""Memory: what fills it, predicted beside measured, and whether the full size fits a device.

`memory` frame: model (dense|moe), component, predicted_bytes, measured_bytes (missing where not measured).
`sizes` frame: name, component, bytes.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from app.charts.figure import BYTE_AXIS, Figure, draw, label_models, percent, role, roles, times
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
    long = part.melt(
        id_vars=["model", "component"],
        value_vars=["predicted_bytes", "measured_bytes"],
        var_name="kind",
        value_name="bytes",
    ).dropna(subset="bytes")
    long["kind"] = long["kind"].str.removesuffix("_bytes")
    data = label_models(long).assign(
        text=long["bytes"].map(lambda b: quantity(float(b), "B")), component=long["component"].map(_name)
    )
    y = alt.Y("component:N", title=None, sort=[_name(c) for c in (*ORDER, "total")])
    offset = alt.YOffset("kind:N", sort=["measured", "predicted"])
    base = alt.Chart(data).encode(
        y=y,
        yOffset=offset,
        x=alt.X("bytes:Q", title="bytes", axis=alt.Axis(labelExpr=BYTE_AXIS, tickCount=6)),
        tooltip=["component:N", "kind:N", alt.Tooltip("text:N", title="size")],
    )
    label = "dense" if model == "dense" else "mixture"
    solid = base.transform_filter(alt.datum.kind == "measured").mark_bar().encode(color=role(label))
    dashed = (
        base.transform_filter(alt.datum.kind == "predicted")
        .mark_bar(fillOpacity=0.15, strokeDash=[4, 3], strokeWidth=1.5)
        .encode(
            color=role(label),
            stroke=alt.StrokeDatum(label, scale=alt.Scale(domain=["dense", "mixture"]), legend=None),
        )
    )
    words = base.mark_text(align="left", dx=5, fontSize=11).encode(text="text:N")
    title = _predicted_title(part, label)
    chart = (dashed + solid + words).properties(height=34 * data["component"].nunique() + 20)
    return draw(title, f"Predicted and measured memory of the {label} scale model. {title}.", chart, data)


def _predicted_title(part: pd.DataFrame, label: str) -> str:
    both = part.dropna(subset="measured_bytes").set_index("component")
    rest = both.drop(index="total", errors="ignore")
    if rest.empty:
        return f"Nothing of the {label} model could be measured on this device"
    error = float(rest["predicted_bytes"].sum() / rest["measured_bytes"].sum() - 1)
    return f"Prediction and measurement of the {label} model's tensors differ by {percent(abs(error))}"


def budget(sizes: pd.DataFrame, capacity: float, device: str) -> Figure:
    """Stacked bars against a device's capacity: it fits when the bar ends left of the grey line."""
    order = {name: index for index, name in enumerate(ORDER)}
    data = sizes[sizes["bytes"] > 0].assign(
        order=lambda f: f["component"].map(order).fillna(99),
        part=lambda f: f["component"].map(_name),
        text=lambda f: f["bytes"].map(lambda b: quantity(float(b), "B")),
    )
    names = list(dict.fromkeys(data["name"]))
    totals = data.groupby("name", sort=False)["bytes"].sum().reset_index()
    totals["text"] = totals["bytes"].map(lambda b: f"{quantity(float(b), 'B')}")
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=230, minExtent=120))
    bars = (
        alt.Chart(data)
        .mark_bar(stroke="white", strokeWidth=0.4)
        .encode(
            y=y,
            x=alt.X("bytes:Q", title="bytes", stack="zero", axis=alt.Axis(labelExpr=BYTE_AXIS, tickCount=6)),
            color=alt.Color(
                "part:N",
                scale=alt.Scale(
                    domain=[_name(n) for n in ORDER if n in set(data["component"])], range="category"
                ),
                legend=alt.Legend(orient="top", title=None, columns=4),
            ),
            order="order:Q",
            tooltip=["name:N", alt.Tooltip("part:N", title="component"), alt.Tooltip("text:N", title="size")],
        )
    )
    words = (
        alt.Chart(totals)
        .mark_text(align="left", dx=6, fontWeight="bold")
        .encode(y=y, x="bytes:Q", text="text:N")
    )
    limit = alt.Chart(pd.DataFrame({"bytes": [capacity], "text": [f"{device}: {quantity(capacity, 'B')}"]}))
    rule = limit.mark_rule(strokeWidth=2.5, color="gray").encode(x="bytes:Q")
    name = limit.mark_text(align="right", dx=-6, y=-6, color="gray").encode(x="bytes:Q", text="text:N")
    title = _budget_title(totals, capacity, device)
    chart = (bars + rule + name + words).properties(height=56 * len(names) + 30)
    return draw(
        title, f"Memory by component against {device}. {title}.", chart, data.drop(columns=["order", "part"])
    )


def _budget_title(totals: pd.DataFrame, capacity: float, device: str) -> str:
    first: dict[Any, Any] = totals.to_dict("records")[0]
    need, room = float(first["bytes"]), capacity
    if need <= room:
        return f"{first['name']} fits {device} with {quantity(room - need, 'B')} to spare"
    return (
        f"{first['name']} needs {times(need / room)} what {device} has: {quantity(need - room, 'B')} too much"
    )


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
    chart = bars + base.mark_text(align="left", dx=6, fontWeight="bold").encode(x="bytes:Q", text="text:N")
    if capacity is not None and capacity < 20 * data["bytes"].max():
        chart = (
            alt.Chart(pd.DataFrame({"c": [capacity]})).mark_rule(strokeWidth=2, color="gray").encode(x="c:Q")
            + chart
        )
    ratio = float(
        data.set_index("model")["bytes"].get("mixture", 0) / data.set_index("model")["bytes"].get("dense", 1)
    )
    title = f"At its peak the mixture holds {times(ratio)} the dense model's memory"
    return draw(title, f"Peak memory of both scale models. {title}.", chart.properties(height=84), data)


def _name(component: str) -> str:
    return NAMES.get(component, component)
