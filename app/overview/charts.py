"""Overview: the strip from dense to mixture, and both candidates' memory against one device.

`sizes` frame: model (mixture | dense), name, component, bytes: what the fullest device of each holds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from app.figure import BYTE_AXIS, Figure, draw, layers, paint, percent, roles
from moe_core.report.palette import GROUPS, SHADES, STACK, part_of
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
    data = pd.DataFrame([now._asdict() | {"model": now.winner}])
    title = _standing(now)
    reach = f"the margin is {now.margin:+.2f}, {now.low:+.2f} to {now.high:+.2f} with the error of the times"
    alt_text = f"A strip from dense to mixture: {reach}. {title}."
    return Figure(title, alt_text, _filled_in(_strip(), _SIDES, data), data)


def _filled_in(spec: dict[str, Any], *frames: pd.DataFrame) -> dict[str, Any]:
    """A compiled chart with these frames in place of those it was compiled with, in their order."""
    return spec | {"datasets": dict(zip(spec["datasets"], frames, strict=True))}


_SIDES = pd.DataFrame({"from": [-1.0, 0.0], "to": [0.0, 1.0], "model": ["dense", "mixture"], "even": 0.0})


@lru_cache(maxsize=2)  # its marks are the same for every answer, and compiling takes longer than all the rest
def _strip() -> dict[str, Any]:
    scale = alt.Scale(domain=[-1, 1], nice=False)
    axis = alt.Axis(values=[-1, 0, 1], labelExpr=_ENDS, title=None, grid=False, labelFlush=True)
    sides = alt.Chart(_SIDES).mark_bar(height=10, opacity=0.22)
    sides = sides.encode(x=alt.X("from:Q", scale=scale, axis=axis), x2="to:Q", color=roles(legend=False))
    middle = paint(alt.Chart(_SIDES).mark_tick(thickness=2, size=22), "limit")
    middle = middle.encode(x=alt.X("even:Q", scale=scale, axis=axis))
    tip = [
        alt.Tooltip("margin:Q", format="+.2f"),
        alt.Tooltip("low:Q", format="+.2f", title="with the error"),
        alt.Tooltip("high:Q", format="+.2f", title="to"),
    ]
    now = pd.DataFrame([Standing(0.0, 0.0, 0.0, "dense", True, "")._asdict() | {"model": "dense"}])
    error = paint(alt.Chart(now).mark_rule(strokeWidth=4), "ink", stroke=True)
    error = error.encode(x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q", tooltip=tip)
    dot = alt.Chart(now).mark_point(size=150, filled=True, opacity=1)
    dot = dot.encode(x=alt.X("margin:Q", scale=scale, axis=axis), color=roles(legend=False), tooltip=tip)
    return draw("", "", layers(sides, middle, error, dot, height=STRIP), now).spec


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
    totals = data.groupby(["model", "name"], sort=False)["bytes"].sum().reset_index()
    reach = max(float(totals["bytes"].max()), usable) * 1.12
    near = totals["bytes"].between(usable - 0.15 * reach, usable)  # its amount would lie across the rule
    totals = totals.assign(text=_amounts(totals), place=totals["bytes"].where(~near, usable))
    order = data["part"].map({name: place for place, name in enumerate(STACK)})
    limit = pd.DataFrame({"bytes": [usable], "text": [f"usable: {quantity(usable, 'B')}"], "reach": [reach]})
    present = tuple(name for name in STACK if name in set(data["part"]))
    spec = _filled_in(_memory(present), data.assign(order=order, text=_amounts(data)), limit, totals)
    title = _filled(totals, usable, device)
    return Figure(title, f"Memory of both candidates against {device}. {title}.", spec, sizes)


def _amounts(frame: pd.DataFrame) -> list[str]:
    return [quantity(float(size), "B") for size in frame["bytes"]]


@lru_cache(maxsize=64)  # as the strip: the parts in the legend are all that differs
def _memory(present: tuple[str, ...]) -> dict[str, Any]:
    scale = alt.Scale(nice=False, zero=True)
    axis = alt.Axis(labelExpr=BYTE_AXIS, tickCount=6)
    x = alt.X("bytes:Q", title=None, stack="zero", scale=scale, axis=axis)
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=150))
    held = {"model": [""], "name": [""], "part": [""], "bytes": [1.0], "text": [""], "place": [1.0]}
    data, totals = pd.DataFrame(held | {"order": [0]}), pd.DataFrame(held)
    bars = alt.Chart(data).mark_bar(height=20).encode(
        x=x, y=y, color=_parts(present), opacity=_shades(), order=alt.Order("order:Q"),
        tooltip=[alt.Tooltip("name:N"), alt.Tooltip("part:N"), alt.Tooltip("text:N", title="size")],
    )  # fmt: skip
    limit = alt.Chart(pd.DataFrame({"bytes": [1.0], "text": [""], "reach": [1.0]}))
    room = limit.mark_rule(opacity=0).encode(x=alt.X("reach:Q", scale=scale))  # what is right of it is text
    rule = paint(limit.mark_rule(strokeWidth=2.5), "limit", stroke=True)
    rule = rule.encode(x=alt.X("bytes:Q", scale=scale))
    word = paint(limit.mark_text(align="right", dx=-5), "limit")
    word = word.encode(x=alt.X("bytes:Q", scale=scale), y=alt.YValue(-7), text=alt.Text("text:N"))
    amounts = paint(alt.Chart(totals).mark_text(align="left", dx=5, fontWeight="bold"), "ink")
    amounts = amounts.encode(x=alt.X("place:Q", scale=scale), y=y, text=alt.Text("text:N"))
    padding = {"top": 20, "left": 5, "right": 5, "bottom": 5}
    return draw("", "", layers(bars, room, rule, word, amounts, height=MEMORY, padding=padding), data).spec


def _parts(present: tuple[str, ...]) -> alt.Color:
    legend = alt.Legend(
        orient="bottom", title=None, columns=2, values=list(present), labelFontSize=11, columnPadding=6
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
