"""Compare: two runs, measurement by measurement, as ratios on one logarithmic axis.

`rows` frame: section, model, item, unit, a, b, ratio (b over a).
"""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from app.figure import Figure, draw, label_models, roles, shapes, times
from moe_core.units import quantity, significant

KEPT = {
    "timings": ("prefill total", "decode total", "prefill experts", "decode experts", "prefill attention"),
    "memory": ("experts", "kv_cache", "total"),
}


_ORDER = {"timings": 0, "quality": 1, "memory": 2, "balance": 3, "findings": 4}
MOST = 16  # rows that are drawn, those that differ most


def ratios(rows: pd.DataFrame) -> Figure:
    """Second run over first: left of 1 is less, right is more. The table behind has every measurement."""
    data = label_models(rows).dropna(subset=["ratio"])
    data = data[data["ratio"] > 0]  # differences of either sign have no ratio: they stand in the table below
    data = data.sort_values("section", key=lambda names: names.map(_ORDER), kind="stable")
    data = data.assign(
        what=data["section"] + ": " + data["item"].str.replace("kv_cache", "KV cache"),
        change=data["ratio"].map(times),
        first=[_value(v, unit) for v, unit in zip(data["a"], data["unit"], strict=True)],
        second=[_value(v, unit) for v, unit in zip(data["b"], data["unit"], strict=True)],
        one=1.0,
    )
    drawn = data[[_keep(row) for row in data.to_dict("records")]]
    drawn = drawn if len(drawn) else data
    if len(drawn) > MOST:
        drawn = drawn[np.abs(np.log(drawn["ratio"])).rank(ascending=False, method="first") <= MOST]
    top = float(np.exp(np.abs(np.log(drawn["ratio"].clip(lower=1e-6))).max() * 1.15)) if len(drawn) else 2.0
    top = max(top, 1.2)
    y = alt.Y("what:N", title=None, sort=drawn["what"].tolist(), axis=alt.Axis(labelLimit=260))
    x = alt.X(
        "ratio:Q",
        title="second run over first",
        scale=alt.Scale(type="log", domain=[1 / top, top], nice=False),
        axis=alt.Axis(labelExpr="format(datum.value, '~r') + '×'", tickCount=6),
    )
    base = alt.Chart(drawn)
    offset = alt.YOffset("model:N", sort=["dense", "mixture"])
    tip = ["what:N", "model:N", "first:N", "second:N", alt.Tooltip("change:N", title="second over first")]
    sticks = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        y=y, yOffset=offset, x=x, x2="one:Q", color=roles()
    )
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=y, yOffset=offset, x=x, color=roles(), shape=shapes(), tooltip=tip
    )
    zero = alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(color="gray").encode(x="one:Q")
    title = _title(drawn)
    chart = (zero + sticks + dots).properties(height=34 * drawn["what"].nunique() + 90)
    return draw(title, f"Two runs compared. {title}.", chart, data.drop(columns="one"))


def _keep(row: dict[object, object]) -> bool:
    """The few measurements a reader asks for first; all of them are in the data view."""
    section, item = str(row["section"]), str(row["item"])
    if section == "quality":
        return item.startswith("all,") and row["model"] in ("dense", "mixture")
    return section in ("balance", "findings") or item in KEPT.get(section, ())


def _value(value: float, unit: str) -> str:
    if pd.isna(value):
        return "not measured"
    return (
        quantity(float(value), unit) if unit in ("s", "B") else f"{significant(float(value))} {unit}".strip()
    )


def _title(drawn: pd.DataFrame) -> str:
    if drawn.empty:
        return "The two runs have no measurement in common"
    far = drawn.assign(distance=np.abs(np.log(drawn["ratio"].clip(lower=1e-9)))).nlargest(1, "distance")
    row = far.to_dict("records")[0]
    if row["distance"] < 0.01:
        return "The two runs agree within one per cent"
    return f"They differ most in {row['what']}, {row['model']}: {row['change']}"
