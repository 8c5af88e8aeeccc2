"""Co-activation: which experts of a layer work on the same byte, over what chance would give.

`together` frame: expert_a, expert_b, tokens (bytes both worked on), lift (over independence).
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.figure import Figure, around_one, diverging, draw, largest, times


def coactivation(together: pd.DataFrame, layer: int) -> Figure:
    """Expert x expert, coloured around chance; the diagonal is left empty."""
    data = together[together["expert_a"] != together["expert_b"]]
    powers, limit = around_one(data["lift"])
    data = data.assign(log_lift=powers, over_chance=data["lift"].map(times))
    chart = (
        alt.Chart(data)
        .mark_rect()
        .encode(
            x=alt.X("expert_b:O", title="expert", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("expert_a:O", title="expert", axis=alt.Axis(labelOverlap=True)),
            color=diverging("log_lift", "over chance", "chance", limit),
            tooltip=[
                alt.Tooltip("expert_a:O", title="expert"),
                alt.Tooltip("expert_b:O", title="with expert"),
                alt.Tooltip("over_chance:N", title="over chance"),
                alt.Tooltip("tokens:Q", title="bytes together", format=","),
            ],
        )
        .properties(height=420)
    )
    title = _title(data, layer)
    return draw(title, f"How often two experts of layer {layer} share a byte. {title}.", chart, data)


def _title(data: pd.DataFrame, layer: int) -> str:
    seen = data[(data["tokens"] > 0) & (data["expert_a"] < data["expert_b"])]
    if seen.empty:
        return f"No two experts of layer {layer} ever work on the same byte"
    top = largest(seen, "lift")
    return (
        f"In layer {layer}, experts {int(top['expert_a'])} and {int(top['expert_b'])} work together "
        f"{times(float(top['lift']))} as often as chance"
    )
