"""Overlay: up to four scenarios in one chart. Time of a token over batch, memory of the fullest device.

Mixtures have warm colours, dense models cool ones; in grey they differ by dash, by the shape of their points
and by the name at the end of the line. Lines: scenario, batch, ms, low, high, source. Bars: scenario, part,
GB, usable (GB of the device), devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from typing import NamedTuple

import altair as alt
import pandas as pd

from app.figure import Figure, draw, layers, paint, powers_of_two
from moe_core.report.palette import GROUPS, ROLES, SHADES, STACK
from moe_core.units import significant

WARM = ("mixture", "ochre", "pink", "purple")
COOL = ("dense", "teal", "limit", "ink")
DASHES = ([7, 4], [2, 3], [12, 3, 2, 3], [14, 5])
SHAPES = ("circle", "square", "triangle-up", "diamond")
GAP = 0.075  # of the axis' height between two names, in its logarithm
LETTERS = 26  # of a name at the end of a line


class Look(NamedTuple):
    """How a scenario is drawn everywhere."""

    role: str
    dash: list[int]
    shape: str


def looks(mixtures: Mapping[str, bool]) -> dict[str, Look]:
    """Colour by kind, dash and shape by place. `mixtures`: whether each scenario's model is one."""
    warm, cool = iter(WARM), iter(COOL)
    return {
        name: Look(next(warm if mixture else cool), DASHES[at], SHAPES[at])
        for at, (name, mixture) in enumerate(mixtures.items())
    }


def lines(rows: pd.DataFrame, mixtures: Mapping[str, bool], here: Mapping[str, int]) -> Figure:
    """Time per output token over batch. `here`: each scenario's own batch, marked by a ring."""
    drawn = {name: look for name, look in looks(mixtures).items() if name in set(rows["scenario"])}
    data = rows.assign(
        role=[drawn[name].role for name in rows["scenario"]],
        seconds=rows["ms"] / 1e3, lower=rows["low"] / 1e3, upper=rows["high"] / 1e3,
        text=[f"{significant(float(ms))} ms" for ms in rows["ms"]],
        span=[f"{significant(float(a))} to {significant(float(b))} ms"
              for a, b in zip(rows["low"], rows["high"], strict=True)],
    )  # fmt: skip
    x, y, lower = _axes(data)
    base = alt.Chart(data)
    band = base.mark_area(opacity=0.12).encode(
        x=x, y=lower, y2="upper:Q", color=_color(), detail="scenario:N"
    )
    line = base.mark_line(strokeWidth=2.2).encode(x=x, y=y, color=_color(), strokeDash=_dash(drawn))
    tip = ["scenario:N", "batch:Q", alt.Tooltip("text:N", title="time of a token"),
           alt.Tooltip("span:N", title="80 % interval"), "source:N"]  # fmt: skip
    dots = base.mark_point(size=62, opacity=1, strokeWidth=1.6).encode(
        x=x, y=y, color=_color(), shape=_shape(drawn), tooltip=tip
    )
    solid = dots.transform_filter(alt.datum.source == "measured elsewhere").mark_point(
        size=62, opacity=1, filled=True
    )
    own = data[
        [here.get(str(name)) == batch for name, batch in zip(data["scenario"], data["batch"], strict=True)]
    ]
    rings = alt.Chart(own).mark_point(size=230, strokeWidth=1.6, opacity=1).encode(x=x, y=y, color=_color())
    words, lead = _names(_ends(data), x, y)
    title = _title(data)
    said = (
        "Time per output token over batch; filled points are measured elsewhere, hollow ones modelled, bands "
        f"80 % intervals, rings the scenarios' own batches. {title}."
    )
    return draw(title, said, layers(band, lead, line, dots, solid, rings, words, height=360), rows)


def _axes(data: pd.DataFrame) -> tuple[alt.X, alt.Y, alt.Y]:
    """Batch with room for the names on the right; seconds, logarithmic, 1-2-5; the same for the band."""
    ticks = powers_of_two(data["batch"].tolist())
    last = max(ticks[-1], 2)
    wide = last * (last / ticks[0]) ** 0.42
    x = alt.X(
        "batch:Q",
        title="batch (sequences)",
        scale=alt.Scale(type="log", base=2, domain=[ticks[0], wide], nice=False),
        axis=alt.Axis(values=ticks, format="d"),
    )
    low, high = float(data["lower"].min()) / 1.1, float(data["upper"].max()) * 1.1
    marks = [step * 10.0**decade for decade in range(-6, 4) for step in (1, 2, 5)]
    axis = alt.Axis(labelExpr="format(datum.value, '~s') + 's'",
                    values=[mark for mark in marks if low <= mark <= high])  # fmt: skip
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    title = "time per output token"
    return x, alt.Y("seconds:Q", title=title, scale=scale, axis=axis), alt.Y(
        "lower:Q", title=title, scale=scale, axis=axis
    )  # fmt: skip


def _names(ends: pd.DataFrame, x: alt.X, y: alt.Y) -> tuple[alt.Chart, alt.Chart]:
    """The names at the ends of the lines, and what leads to them."""
    ending = alt.Chart(ends).mark_text(align="left", dx=11, fontWeight="bold", fontSize=10.5)
    at = alt.X("last:Q", scale=x["scale"])
    words = ending.encode(x=at, y=alt.Y("place:Q"), text="short:N", color=_color())
    lead = alt.Chart(ends).mark_rule(strokeWidth=0.8, opacity=0.55, strokeDash=[1, 3])
    return words, lead.encode(x=x, x2="last:Q", y=y, y2="place:Q", color=_color())


def _ends(data: pd.DataFrame) -> pd.DataFrame:
    """The last point of each line with its name; names stand in one column, pushed apart."""
    rows = data.sort_values("batch").groupby("scenario", sort=False).tail(1).sort_values("seconds")
    span = log(float(data["upper"].max()) / float(data["lower"].min()) * 1.21)
    places: list[float] = []
    for seconds in rows["seconds"]:
        least = places[-1] + GAP * span if places else log(float(seconds))
        places.append(max(log(float(seconds)), least))
    return rows.assign(
        place=[exp(at) for at in places], last=int(data["batch"].max()), short=rows["scenario"].map(_short)
    )


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"


def _title(data: pd.DataFrame) -> str:
    """Who leads where every scenario has a time, and whether that changes."""
    wide = data.pivot(index="batch", columns="scenario", values="seconds").dropna()
    if wide.shape[1] == 1 or wide.empty:
        one = data.iloc[0]
        return f"{one['scenario']} writes a token in {one['text']} at batch {int(one['batch'])}"
    first, last = str(wide.iloc[0].idxmin()), str(wide.iloc[-1].idxmin())
    low, high = int(wide.index[0]), int(wide.index[-1])
    if first == last:
        return f"{first} is fastest at batch {low}" + (f" and still at {high}" if high > low else "")
    turn = next(int(str(batch)) for batch, row in wide.iterrows() if str(row.idxmin()) == last)
    return f"{first} is fastest at batch {low}, {last} from batch {turn} on"


# -- memory ----------------------------------------------------------------------------------------


def bars(rows: pd.DataFrame) -> Figure:
    """What the fullest device of each scenario holds, against what that device can give (a grey tick)."""
    data = rows.assign(
        order=rows["part"].map({part: at for at, part in enumerate(STACK)}),
        text=[f"{significant(float(size))} GB" for size in rows["GB"]],
        share=[f"{significant(100 * float(a / b))} % of what the device can give"
               for a, b in zip(rows["GB"], rows["usable"], strict=True)],
    )  # fmt: skip
    names = list(dict.fromkeys(rows["scenario"]))
    whole = data.groupby(["scenario", "devices", "usable"], sort=False)["GB"].sum().reset_index()
    whole = whole.assign(text=[_bar_words(row) for row in whole.to_dict("records")])
    y = alt.Y("scenario:N", sort=names, title=None, axis=alt.Axis(labelLimit=230, minExtent=60))
    top = 1.32 * float(max(whole["GB"].max(), whole["usable"].max()))
    x = alt.X("GB:Q", title="memory of the fullest device (GB)", scale=alt.Scale(domain=[0, top], nice=False),
              stack="zero")  # fmt: skip
    present = [part for part in STACK if part in set(data["part"])]
    legend = alt.Legend(
        orient="top", title=None, values=present, columns=3, labelLimit=220, symbolStrokeWidth=0
    )
    shades = alt.Scale(type="ordinal", domain=list(GROUPS), range=[SHADES[part] for part in GROUPS])
    stack = alt.Chart(data).mark_bar(height=24, stroke="gray", strokeWidth=0.6).encode(
        y=y, x=x,
        color=alt.Color("part:N", scale=alt.Scale(domain=list(GROUPS), range="category"), legend=legend),
        opacity=alt.Opacity("part:N", scale=shades, legend=legend),
        order=alt.Order("order:Q"),
        tooltip=["scenario:N", "part:N", alt.Tooltip("text:N", title="size"), "share:N"],
    )  # fmt: skip
    room = alt.Chart(whole).mark_tick(thickness=3, size=38, opacity=1)
    tick = paint(room, "limit").encode(y=y, x=alt.X("usable:Q"))
    amount = paint(alt.Chart(whole).mark_text(align="left", dx=6, fontWeight="bold"), "ink")
    words = amount.encode(y=y, x=alt.X("end:Q"), text="text:N").transform_calculate(
        end="max(datum.GB, datum.usable)"
    )
    title = _fullest(whole)
    said = f"Memory of the fullest device by part, its usable capacity a grey tick. {title}."
    return draw(title, said, layers(stack, tick, words, height=52 * len(names) + 110), rows)


def _bar_words(row: Mapping[object, object]) -> str:
    devices = int(str(row["devices"]))
    each = "one device" if devices == 1 else f"each of {devices} devices"
    return f"{significant(float(str(row['GB'])))} of {significant(float(str(row['usable'])))} GB, {each}"


def _fullest(whole: pd.DataFrame) -> str:
    share = whole.assign(share=whole["GB"] / whole["usable"]).nlargest(1, "share").to_dict("records")[0]
    few = whole.nsmallest(1, "devices").to_dict("records")[0]
    full = f"{significant(100 * float(share['share']))} % of what it may use"
    if len(whole) == 1 or whole["devices"].nunique() == 1:
        return f"{share['scenario']} fills its device most: {full}"
    said = "one device" if few["devices"] == 1 else f"{few['devices']} devices"
    return (
        f"{few['scenario']} needs the fewest devices, {said}; {share['scenario']} fills its own most, {full}"
    )


# -- what both share -------------------------------------------------------------------------------


def _color() -> alt.Color:
    return alt.Color("role:N", scale=alt.Scale(domain=list(ROLES), range="category"), legend=None)


def _dash(drawn: Mapping[str, Look]) -> alt.StrokeDash:
    scale = alt.Scale(domain=list(drawn), range=[look.dash for look in drawn.values()])
    return alt.StrokeDash("scenario:N", scale=scale, legend=None)


def _shape(drawn: Mapping[str, Look]) -> alt.Shape:
    scale = alt.Scale(domain=list(drawn), range=[look.shape for look in drawn.values()])
    return alt.Shape("scenario:N", scale=scale, legend=None)
