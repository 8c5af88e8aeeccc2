"""Overview: the strip from dense to mixture, and both candidates' memory against one device.

`sizes` frame: model (mixture | dense), name, component, bytes: what the fullest device of each holds.
"""

from __future__ import annotations

from typing import NamedTuple

import altair as alt
import pandas as pd

from app.figure import BYTE_AXIS, Figure, draw, layers, paint, percent, roles
from moe_core.report.tables import GROUPS, SHADES, STACK, part_of
from moe_core.units import quantity

STRIP, MEMORY = 46, 200  # heights in pixels, axes and legend included
NEAR = 0.15  # of the strip: a margin below it is called small
_ENDS = "datum.value == 0 ? 'even' : (datum.value < 0 ? 'dense' : 'mixture')"


class Standing(NamedTuple):
    """Where a verdict stands between dense (-1) and mixture (1), with its error, and the nearest flip."""

    margin: float
    low: float
    high: float
    winner: str
    firm: bool
    flip: str


def strip(now: Standing) -> Figure:
    """From dense to mixture: where the answer stands, how far the error of the times reaches."""
    row = now._asdict() | {"model": now.winner, "even": 0.0}
    data = pd.DataFrame([row])
    scale = alt.Scale(domain=[-1, 1], nice=False)
    axis = alt.Axis(values=[-1, 0, 1], labelExpr=_ENDS, title=None, grid=False, labelFlush=True)
    x = alt.X("margin:Q", scale=scale, axis=axis)
    whole = alt.Chart(pd.DataFrame({"from": [-1.0, 0.0], "to": [0.0, 1.0], "model": ["dense", "mixture"]}))
    sides = whole.mark_bar(height=10, opacity=0.22)
    sides = sides.encode(x=alt.X("from:Q", scale=scale, axis=axis), x2="to:Q", color=roles(legend=False))
    tip = [
        *(
            alt.Tooltip("margin:Q", format="+.2f"),
            alt.Tooltip("low:Q", format="+.2f", title="with the error"),
        ),
        alt.Tooltip("high:Q", format="+.2f", title="to"),
    ]
    middle = paint(alt.Chart().mark_tick(thickness=2, size=22), "limit")
    middle = middle.encode(x=alt.X("even:Q", scale=scale, axis=axis))
    error = paint(alt.Chart().mark_rule(strokeWidth=4), "ink", stroke=True)
    error = error.encode(x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q", tooltip=tip)
    dot = alt.Chart().mark_point(size=150, filled=True, opacity=1)
    dot = dot.encode(x=x, color=roles(legend=False), tooltip=tip)
    title = _standing(now)
    said = (
        f"A strip from dense to mixture: the margin is {now.margin:+.2f}, {now.low:+.2f} to {now.high:+.2f}"
    )
    chart = layers(sides, middle, error, dot, data=data, height=STRIP)
    return draw(title, f"{said} with the error of the times. {title}.", chart, data.drop(columns=["even"]))


def _standing(now: Standing) -> str:
    """`Leans to dense, but the error bar crosses the middle; nearest flip: mixture above batch 43`."""
    side = "the mixture" if now.winner == "mixture" else "dense"
    if not now.firm:
        said = f"Leans to {side}, but the error bar crosses the middle"
    elif abs(now.margin) < NEAR:
        said = f"On the side of {side}, by a little"
    else:
        said = f"Clearly on the side of {side}"
    return f"{said}; nearest flip: {now.flip}" if now.flip else f"{said}; no batch or traffic turns it"


def memory(sizes: pd.DataFrame, usable: float, device: str) -> Figure:
    """Both candidates, component by component, against what one device can give."""
    data = sizes.assign(part=sizes["component"].map(part_of))
    data = data.groupby(["model", "name", "part"], sort=False)["bytes"].sum().reset_index()
    data = data.assign(
        order=data["part"].map({name: place for place, name in enumerate(STACK)}),
        text=data["bytes"].map(lambda b: quantity(float(b), "B")),
    )
    totals = data.groupby(["model", "name"], sort=False)["bytes"].sum().reset_index()
    totals = totals.assign(text=totals["bytes"].map(lambda b: quantity(float(b), "B")))
    names, reach = totals["name"].tolist(), max(float(totals["bytes"].max()), usable) * 1.12
    near = totals["bytes"].between(usable - 0.15 * reach, usable)  # its amount would lie across the rule
    totals = totals.assign(place=totals["bytes"].where(~near, usable))
    scale = alt.Scale(domain=[0, reach], nice=False)
    axis = alt.Axis(labelExpr=BYTE_AXIS, tickCount=6)
    x = alt.X("bytes:Q", title=None, stack="zero", scale=scale, axis=axis)
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=150))
    bars = alt.Chart(data).mark_bar(height=20).encode(
        x=x, y=y, color=_parts(data), opacity=_shades(), order=alt.Order("order:Q"),
        tooltip=[alt.Tooltip("name:N"), alt.Tooltip("part:N"), alt.Tooltip("text:N", title="size")],
    )  # fmt: skip
    amounts = paint(alt.Chart(totals).mark_text(align="left", dx=5, fontWeight="bold"), "ink")
    amounts = amounts.encode(x=alt.X("place:Q", scale=scale), y=y, text=alt.Text("text:N"))
    limit = alt.Chart(pd.DataFrame({"bytes": [usable], "text": [f"usable: {quantity(usable, 'B')}"]}))
    rule = paint(limit.mark_rule(strokeWidth=2.5), "limit", stroke=True)
    rule = rule.encode(x=alt.X("bytes:Q", scale=scale))
    word = paint(limit.mark_text(align="right", dx=-5), "limit")
    word = word.encode(x=alt.X("bytes:Q", scale=scale), y=alt.YValue(-7), text=alt.Text("text:N"))
    chart = layers(
        bars, rule, word, amounts, height=MEMORY, padding={"top": 20, "left": 5, "right": 5, "bottom": 5}
    )
    title = _filled(totals, usable, device)
    return draw(title, f"Memory of both candidates against {device}. {title}.", chart, sizes)


def _parts(data: pd.DataFrame) -> alt.Color:
    present = [name for name in STACK if name in set(data["part"])]
    legend = alt.Legend(
        orient="bottom", title=None, columns=2, values=present, labelFontSize=11, columnPadding=6
    )
    return alt.Color("part:N", scale=alt.Scale(domain=list(GROUPS), range="category"), legend=legend)


def _shades() -> alt.Opacity:
    scale = alt.Scale(type="ordinal", domain=list(GROUPS), range=[SHADES[part] for part in GROUPS])
    return alt.Opacity("part:N", scale=scale, legend=None)


def _filled(totals: pd.DataFrame, usable: float, device: str) -> str:
    """`The mixture fills 87 % of an H100, the dense model 46 %`, or by how much one does not fit."""
    words = {"mixture": "the mixture", "dense": "the dense model"}
    rows = totals.to_dict("records")
    over = [row for row in rows if row["bytes"] > usable]
    if over:
        said = [f"{words[row['model']]} needs {row['text']}" for row in over]
        text = f"{' and '.join(said)} of the {quantity(usable, 'B')} that one {device} can give"
    else:
        said = [f"{words[row['model']]} fills {percent(row['bytes'] / usable)}" for row in rows]
        text = ", ".join(
            [f"{said[0]} of what one {device} can give", *(one.replace(" fills", "") for one in said[1:])]
        )
    return text[:1].upper() + text[1:]
