"""Co-activation: which experts of a layer work on the same byte, over what chance would give.

`together` frame: first, second (experts), pairs (bytes both worked on), lift (over independence).
"""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from app.charts.figure import Figure, largest, times


def coactivation(together: pd.DataFrame, layer: int) -> Figure:
    """Expert x expert, coloured around chance; the diagonal is left empty."""
    data = together[together["first"] != together["second"]]
    data = data.assign(
        log_lift=np.log2(data["lift"].clip(lower=1e-9)).clip(-2, 2), over_chance=data["lift"].map(times)
    )
    legend = alt.Legend(
        title="over chance",
        values=[-2, -1, 0, 1, 2],
        labelExpr="datum.value == 0 ? 'chance' : (format(pow(2, datum.value), '~r') + '×')",
    )
    scale = alt.Scale(domain=[-2, 2], domainMid=0, range="diverging")
    chart = (
        alt.Chart(data)
        .mark_rect()
        .encode(
            x=alt.X("second:O", title="expert", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("first:O", title="expert", axis=alt.Axis(labelOverlap=True)),
            color=alt.Color("log_lift:Q", scale=scale, legend=legend),
            tooltip=[
                alt.Tooltip("first:O", title="expert"),
                alt.Tooltip("second:O", title="with expert"),
                alt.Tooltip("over_chance:N", title="over chance"),
                alt.Tooltip("pairs:Q", title="bytes together", format=","),
            ],
        )
        .properties(height=420)
    )
    title = _title(data, layer)
    return Figure(title, f"How often two experts of layer {layer} share a byte. {title}.", chart, data)


def _title(data: pd.DataFrame, layer: int) -> str:
    seen = data[data["pairs"] > 0]
    if seen.empty:
        return f"No two experts of layer {layer} ever work on the same byte"
    top = largest(seen, "lift")
    return (
        f"In layer {layer}, experts {int(top['first'])} and {int(top['second'])} work together "
        f"{times(float(top['lift']))} as often as chance"
    )
