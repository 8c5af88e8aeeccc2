"""Raster: expert x token for one layer, one sequence. Only the routed pairs are drawn: the rest is empty.

`pairs` frame: position, expert, weight, slot, byte.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.figure import Figure, draw, percent

SHOWN = 256  # positions drawn at once: a wider raster has cells below a pixel


def printable(byte: int) -> str:
    """How one byte is shown: itself, a name, or its hexadecimal value."""
    names = {9: "tab", 10: "newline", 32: "space"}
    return names.get(byte) or (chr(byte) if 33 <= byte < 127 else f"0x{byte:02X}")


def raster(pairs: pd.DataFrame, layer: int, experts: int) -> Figure:
    """Which experts each byte went to; a darker cell is a larger weight."""
    data = pairs.assign(character=pairs["byte"].map(printable))
    equal = bool(data["weight"].max() - data["weight"].min() < 1e-6)
    field, legend = ("slot", "choice (0 is first)") if equal else ("weight", "weight")
    colour = alt.Color(
        f"{field}:Q",
        scale=alt.Scale(range="ramp", reverse=equal),
        legend=alt.Legend(title=legend, tickMinStep=1 if equal else 0.05),
    )
    start, stop = int(data["position"].min()), int(data["position"].max()) + 1
    chart = (
        alt.Chart(data)
        .mark_rect()
        .encode(
            x=alt.X(
                "position:Q",
                title="position in the text (bytes)",
                bin=alt.Bin(binned=True, step=1),
                scale=alt.Scale(domain=[start, stop], nice=False),
                axis=alt.Axis(tickMinStep=1, grid=False),
            ),
            x2="end:Q",
            y=alt.Y("expert:O", title="expert", scale=alt.Scale(domain=list(range(experts)))),
            color=colour,
            tooltip=[
                "position:Q",
                alt.Tooltip("character:N", title="byte"),
                "expert:O",
                alt.Tooltip("slot:O", title="choice"),
                alt.Tooltip("weight:Q", format=".3~g"),
            ],
        )
        .transform_calculate(end="datum.position + 1")
        .properties(height=min(560, max(180, 16 * experts)))
    )
    title = _title(data, layer)
    return draw(title, f"Expert by position for {stop - start} bytes in layer {layer}. {title}.", chart, data)


def _title(data: pd.DataFrame, layer: int) -> str:
    """How sticky routing is: the share of neighbours that keep their first choice."""
    first = data[data["slot"] == 0].sort_values("position")["expert"]
    kept = float((first == first.shift()).iloc[1:].mean()) if len(first) > 1 else 0.0
    return f"In layer {layer}, {percent(kept)} of neighbouring bytes keep the same first expert"
