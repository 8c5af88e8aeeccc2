"""Balancing: what the busiest expert of a step costs at full size. `rows`: those of `loads.hottest`."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd

from app.experiments.charts import across_strategies
from app.figure import TIME_AXIS, Figure, draw, log2_axis, paint, ticks, times
from moe_core.units import quantity


def price(rows: pd.DataFrame, here: Mapping[str, int], device: str, even: str) -> Figure:
    """Seconds of the busiest expert over the tokens of a step, a line a strategy; grey: an even load."""
    data = rows.assign(text=[quantity(value, "s") for value in rows["seconds"]], strategy=rows["load"])
    names = [str(name) for name in dict.fromkeys(data["load"]) if name != even]
    x = log2_axis("tokens", "tokens in a step", data["tokens"].tolist())
    low, high = float(data["lower"].min()), float(data["upper"].max())
    scale = alt.Scale(type="log", domain=[low / 1.1, high * 1.1], nice=False)
    axis = alt.Axis(values=ticks(low, high), labelExpr=TIME_AXIS)
    y = alt.Y("seconds:Q", title="the busiest expert of a layer", scale=scale, axis=axis)
    tip = [
        alt.Tooltip("load:N", title="strategy"),
        alt.Tooltip("tokens:Q", format=","),
        alt.Tooltip("factor:Q", title="times fair share", format=".3~g"),
        alt.Tooltip("text:N", title="seconds"),
    ]
    drawn, (colour, shape, faint) = data[data["load"] != even], across_strategies(names)
    base = alt.Chart(drawn).encode(x=x, y=y)
    band = alt.Chart(drawn).mark_area(opacity=0.1).encode(
        x=x, y=alt.Y("lower:Q", scale=scale, axis=axis), y2="upper:Q", fill=faint, detail="load:N"
    )  # fmt: skip
    line = base.mark_line(strokeDash=[6, 4], strokeWidth=1.8).encode(color=colour)
    dots = base.mark_point(filled=True, size=45, opacity=1).encode(color=colour, shape=shape, tooltip=tip)
    fair = alt.Chart(data[data["load"] == even]).encode(x=x, y=y)
    fair_line = paint(fair.mark_line(strokeDash=[2, 3], strokeWidth=1.6), "limit", stroke=True)
    last = alt.Chart(data[data["load"] == even].tail(1).assign(words="an even load"))
    word = paint(last.mark_text(align="right", dy=14, fontStyle="italic"), "limit").encode(
        x=x, y=y, text="words:N"
    )
    chart = alt.layer(*_here(here, x), band, fair_line, word, line, dots).properties(height=340)
    title = _price_title(data, here, device, even)
    words = f"Time of the busiest expert against tokens, modelled with its interval. {title}."
    return draw(title, words, chart, rows)


def _here(here: Mapping[str, int], x: alt.X) -> list[alt.Chart]:
    frame = pd.DataFrame({"tokens": list(here.values()), "words": list(here)})
    base = alt.Chart(frame).encode(x=x)
    rule = base.mark_rule(strokeDash=[2, 3], color="gray")
    return [
        rule,
        paint(base.mark_text(align="left", dx=5, baseline="top"), "limit").encode(
            y=alt.value(4), text="words:N"
        ),
    ]


def _price_title(data: pd.DataFrame, here: Mapping[str, int], device: str, even: str) -> str:
    told = max(here.values())
    near = data[data["tokens"] == told]
    by = dict(zip(near["load"], near["seconds"], strict=True))
    worst = max((name for name in by if name != even), key=lambda name: by[name])
    how = "no balancing" if worst == "none" else worst
    return (
        f"At {told:,} tokens a step the busiest expert takes {quantity(by[worst], 's')} with {how} "
        f"on {device}, {times(by[worst] / by[even])} the time of an even load"
    )
