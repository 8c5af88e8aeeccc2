"""Distinct experts against batch: what a decode step must read, recorded beside the uniform formula.

`measured` frame: tokens, kind ("across sequences" or "neighbours"), experts (mean of a layer), low, high.
`modelled` frame: tokens, experts: E (1 - (1 - K/E)^T).
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.figure import Figure, largest, log2_axis, role


def distinct(measured: pd.DataFrame, modelled: pd.DataFrame, experts: int, error: float | None) -> Figure:
    """Recorded points over the dashed formula; the grey line is all the experts there are."""
    kinds = list(dict.fromkeys(measured["kind"]))
    x = log2_axis("tokens", "tokens in the step", [*measured["tokens"], *modelled["tokens"]])
    y = alt.Y(
        "experts:Q",
        title="distinct experts in a layer",
        scale=alt.Scale(domain=[0, experts * 1.05], nice=False),
    )
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=kinds), legend=alt.Legend(orient="top", title=None))
    points = (
        alt.Chart(measured)
        .mark_line(point=alt.OverlayMarkDef(size=55, filled=True), strokeWidth=1.5)
        .encode(x=x, y=y, color=role("mixture"), shape=shape, strokeOpacity=alt.value(0.7), detail="kind:N")
        .encode(
            tooltip=["tokens:Q", "kind:N", alt.Tooltip("experts:Q", title="distinct experts", format=".3~g")]
        )
    )
    spread = (
        alt.Chart(measured)
        .mark_area(opacity=0.15)
        .encode(x=x, y="low:Q", y2="high:Q", color=role("mixture"), detail="kind:N")
    )
    formula = (
        alt.Chart(modelled)
        .mark_line(strokeDash=[6, 4], strokeWidth=1.5)
        .encode(x=x, y=y, color=role("limit"))
    )
    name = (
        alt.Chart(modelled.iloc[[len(modelled) // 3]])
        .mark_text(align="right", dx=-6, dy=-6, fontStyle="italic")
        .encode(x=x, y=y, text=alt.value("uniform formula"), color=role("limit"))
    )
    every = (
        alt.Chart(pd.DataFrame({"experts": [experts]})).mark_rule().encode(y="experts:Q", color=role("limit"))
    )
    title = _title(measured, experts, error)
    data = pd.concat([measured, modelled.assign(kind="uniform formula")], ignore_index=True)
    chart = (every + spread + formula + name + points).properties(height=340)
    return Figure(title, f"Distinct experts touched against tokens in a step. {title}.", chart, data)


def _title(measured: pd.DataFrame, experts: int, error: float | None) -> str:
    most = largest(measured, "experts")
    tail = "" if error is None else f"; the uniform formula is off by {abs(error):.2g} at most"
    return f"{int(most['tokens'])} tokens touch {most['experts']:.3g} of {experts} experts{tail}"
