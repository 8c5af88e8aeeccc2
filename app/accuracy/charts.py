"""Accuracy: predicted against measured, how errors are spread. Frames: `silicon.workshop.errors`."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from app.figure import TIME_AXIS, Figure, draw, largest, paint, percent, roles, ticks, times, tips
from moe_core.units import quantity

CLAIM = 0.8  # what the intervals claim to cover
_BAND = 1.2  # lines at a fifth off


def scatter(rows: pd.DataFrame, label: str, score: dict[str, float]) -> Figure:
    """Binned: predicted over measured. `rows`: measured, predicted, rows, inside.  `score`: mape, median."""
    data = rows.assign(
        text=rows["measured"].map(lambda s: quantity(float(s), "s")),
        guess=rows["predicted"].map(lambda s: quantity(float(s), "s")),
    )
    low, high = (
        float(data[["measured", "predicted"]].min().min()),
        float(data[["measured", "predicted"]].max().max()),
    )
    scale = alt.Scale(type="log", domain=[low / 1.2, high * 1.2], nice=False)
    axis = alt.Axis(labelExpr=TIME_AXIS, values=ticks(low, high))
    x = alt.X("measured:Q", title="measured, one layer", scale=scale, axis=axis)
    y = alt.Y("predicted:Q", title="predicted without this architecture", scale=scale, axis=axis)
    color = alt.Color("rows:Q", scale=alt.Scale(type="log", range="ramp"), legend=alt.Legend(title="rows"))
    tip = [
        *tips("text:N", "guess:N", "rows:Q"),
        alt.Tooltip("inside:Q", format=".0%", title="inside their interval"),
    ]
    cells = alt.Chart(data).mark_square(size=130, opacity=1).encode(x=x, y=y, color=color, tooltip=tip)
    chart = alt.layer(*_diagonals(low, high, x, y), cells).properties(height=420)
    title = (
        f"{label}: {percent(score['mape'])} off in the mean, half of {int(score['rows']):,} layers within "
        f"{percent(score['median'])}"
    )
    words = f"Predicted against measured times in bins; grey lines: equal, and a fifth off. {title}."
    return draw(title, words, chart, rows)


def _diagonals(low: float, high: float, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    ends = [
        (name, end, end * factor)
        for name, factor in (("equal", 1.0), ("above", _BAND), ("below", 1 / _BAND))
        for end in (low / 1.2, high * 1.2)
    ]
    data = pd.DataFrame(ends, columns=["line", "measured", "predicted"])
    line = alt.Chart(data[data["line"] == "equal"]).mark_line(strokeWidth=1.6, clip=True)
    near = alt.Chart(data[data["line"] != "equal"]).mark_line(strokeWidth=1, strokeDash=[3, 3], clip=True)
    return [
        paint(one.encode(x=x, y=y, detail=alt.Detail("line:N")), "limit", stroke=True) for one in (line, near)
    ]


def spread(rows: pd.DataFrame, label: str) -> Figure:
    """Histogram of errors. `rows`: low, high (log2 of predicted over measured), rows."""
    data = rows.groupby(["low", "high"])["rows"].sum().reset_index()
    total = float(data["rows"].sum())
    data = data.assign(
        share=data["rows"] / total,
        start=2 ** data["low"],
        end=2 ** data["high"],
        text=[f"{times(2**a)} to {times(2**b)}" for a, b in zip(data["low"], data["high"], strict=True)],
    )
    x = alt.X(
        "start:Q",
        title="predicted over measured",
        scale=alt.Scale(type="log", base=2, domain=[0.5, 2], nice=False),
        axis=alt.Axis(values=[0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 2], format=".2~f"),
    )
    y = alt.Y("share:Q", title="share of all layers", axis=alt.Axis(format=".0%"))
    bars = (
        alt.Chart(data)
        .mark_bar(opacity=0.85)
        .encode(
            x=x,
            x2=alt.X2("end:Q"),
            y=y,
            y2=alt.Y2Datum(0),
            tooltip=[*tips("text:N", "rows:Q"), alt.Tooltip("share:Q", format=".1%")],
        )
    )
    one = paint(alt.Chart(pd.DataFrame({"start": [1.0]})).mark_rule(), "limit", stroke=True).encode(
        x=alt.X("start:Q")
    )
    near = data[(data["low"] > -0.27) & (data["high"] < 0.27)]
    high = data[data["low"] >= 0]["rows"].sum() / total
    title = (
        f"{label}: {percent(float(near['rows'].sum()) / total)} of the predictions lie within a fifth; "
        f"{percent(float(high))} are too high"
    )
    chart = alt.layer(paint(bars, "mixture"), one).properties(height=300)
    return draw(title, f"How the errors are spread. {title}.", chart, data)


def ranges(rows: pd.DataFrame, field: str, what: str, order: Sequence[str] | None = None) -> Figure:
    """A row a group: median, mean, ninth decile of the absolute error. `rows`: field and a score."""
    order = order or rows.sort_values("mape")[field].tolist()
    data = rows.assign(
        text=[
            f"median {percent(a)}, mean {percent(b)}, nine tenths below {percent(c)}"
            for a, b, c in zip(rows["median"], rows["mape"], rows["p90"], strict=True)
        ],
    )
    y = _names(field, order)
    x = alt.X(
        "mape:Q", title="error: median, mean (point), ninth decile", axis=alt.Axis(format=".0%", tickCount=6)
    )
    tip = [*tips(f"{field}:N", "rows:Q", "text:N")]
    base = alt.Chart(data).encode(y=y, tooltip=tip)
    line = base.mark_rule(strokeWidth=5, opacity=0.35).encode(
        x=alt.X("median:Q", axis=x["axis"]), x2=alt.X2("p90:Q")
    )
    dots = base.mark_point(filled=True, size=75, opacity=1).encode(x=x)
    chart = alt.layer(paint(line, "mixture", stroke=True), paint(dots, "mixture"))
    best, worst = largest(rows.assign(by=-rows["mape"]), "by"), largest(rows, "mape")
    title = (
        f"The mean error by {what} goes from {percent(best['mape'])} ({best[field]}) to "
        f"{percent(worst['mape'])} ({worst[field]})"
    )
    chart = chart.properties(height=24 * len(rows) + 110)
    return draw(title, f"Errors by {what}. {title}.", chart, rows)


def _names(field: str, order: Sequence[str]) -> alt.Y:
    axis = alt.Axis(labelLimit=260, minExtent=150, labelOverlap=False)
    return alt.Y(f"{field}:N", sort=list(order), title=None, axis=axis)


def _limit(value: float) -> alt.Chart:
    return paint(
        alt.Chart(pd.DataFrame({"limit": [value]})).mark_rule(strokeDash=[3, 3]), "limit", stroke=True
    ).encode(x=alt.X("limit:Q"))


def coverage(rows: pd.DataFrame, field: str) -> Figure:
    """Share of measurements inside the 80 % interval, by group."""
    order = rows.sort_values("coverage")[field].tolist()
    y = _names(field, order)
    x = alt.X(
        "coverage:Q",
        title="measurements inside their 80 % interval",
        axis=alt.Axis(format=".0%", tickCount=6),
        scale=alt.Scale(domain=[0, 1]),
    )
    dots = (
        alt.Chart(rows)
        .mark_point(filled=True, size=75, opacity=1)
        .encode(y=y, x=x, tooltip=[*tips(f"{field}:N", "rows:Q")])
    )
    chart = alt.layer(_limit(CLAIM), paint(dots, "mixture")).properties(height=24 * len(rows) + 110)
    whole = float((rows["coverage"] * rows["rows"]).sum() / rows["rows"].sum())
    title = f"{percent(whole)} of the measurements lie inside intervals that claim {percent(CLAIM)}"
    return draw(title, f"Coverage of the intervals. {title}.", chart, rows)


def served(rows: pd.DataFrame, measure: str, words: str, score: dict[str, float]) -> Figure:
    """Served models, a point a configuration. `rows`: kind, model, measured, predicted and its setting."""
    data = rows.rename(columns={"kind": "role"}).assign(
        text=rows["measured"].map(lambda s: quantity(float(s), "s")),
        guess=rows["predicted"].map(lambda s: quantity(float(s), "s")),
    )
    low, high = (
        float(data[["measured", "predicted"]].min().min()),
        float(data[["measured", "predicted"]].max().max()),
    )
    scale = alt.Scale(type="log", domain=[low / 1.3, high * 1.3], nice=False)
    axis = alt.Axis(labelExpr=TIME_AXIS, values=ticks(low, high))
    x = alt.X("measured:Q", title=f"measured {words}", scale=scale, axis=axis)
    y = alt.Y("predicted:Q", title=f"predicted {words}", scale=scale, axis=axis)
    tip = [
        *tips("model:N", "device:N", "framework:N", "sequences:Q", "isl:Q", "osl:Q", "text:N", "guess:N"),
    ]
    dots = (
        alt.Chart(data)
        .mark_point(size=28, opacity=0.55, filled=True)
        .encode(x=x, y=y, color=roles("role"), shape=alt.Shape("role:N", legend=None), tooltip=tip)
    )
    chart = alt.layer(*_diagonals(low, high, x, y), dots).properties(height=380)
    title = (
        f"{measure}: {percent(score['mape'])} off in the mean, rank correlation {score['spearman']:.3f} over "
        f"{len(rows):,} configurations of models left out"
    )
    return draw(title, f"Served models, predicted against measured. {title}.", chart, rows)


def groups_of(rows: pd.DataFrame, fields: Sequence[str]) -> pd.Series[str]:
    """`h100_sxm, vllm, bf16`."""
    return rows[list(fields)].astype(str).agg(", ".join, axis=1)
