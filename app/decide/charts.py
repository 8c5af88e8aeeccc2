"""Decide: factors as diverging bars, and the margin over one input with the regions of each answer.

`factors` frame: title, score, weight, pull, winner, evidence, provenance; above zero is for the mixture.
`points` frame: value, margin, winner (mixture | dense | neither), and the devices of each candidate there.
`regions` frame: low, high, winner.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import altair as alt
import pandas as pd

from app.figure import Figure, draw, layers, paint, powers_of_two, roles
from moe_core.report.palette import ROLES
from moe_core.units import significant

SIDES = (
    "datum.value == 0 ? 'even' : (datum.value < 0 ? 'dense ' : 'mixture ') + format(abs(datum.value), '.1f')"
)
NEITHER = "neither"
HEIGHT = 300
DEVICES = {"mixture devices": "mixture", "dense devices": "dense"}  # columns of `points`, and whose they are
_ROLE = {"mixture": "mixture", "dense": "dense", NEITHER: "limit"}
_SAID = {"mixture": "mixture", "dense": "dense", NEITHER: "neither will do"}


class Knob(NamedTuple):
    """What the margin is drawn over: its name, unit, where it stands, and whether it is a whole number."""

    title: str
    unit: str
    now: float
    whole: bool

    def words(self, value: float) -> str:
        return f"{value:,.0f}" if self.whole else significant(value)


def factors(frame: pd.DataFrame, winner: str) -> Figure:
    """Bars from the middle to the side a factor speaks for; their height is the weight."""
    data = frame.assign(
        model=frame["winner"].map(lambda side: side or "limit"),
        label=[_weight(row) for row in frame.to_dict("records")],
        left=[score < 0 for score in frame["score"]],
    )
    y = alt.Y(
        "title:N", sort=data["title"].tolist(), title=None, axis=alt.Axis(labelLimit=190, minExtent=150)
    )
    wide = alt.Scale(domain=[-1.25, 1.25], nice=False)
    axis = alt.Axis(values=[-1, -0.5, 0, 0.5, 1], labelExpr=SIDES)
    x = alt.X("score:Q", title="score: length; weight: height of the bar", scale=wide, axis=axis)
    tip = [
        *(alt.Tooltip("title:N"), alt.Tooltip("score:Q", format="+.2f"), alt.Tooltip("weight:Q")),
        *(alt.Tooltip("pull:Q", format="+.3f", title="adds to the margin"), alt.Tooltip("evidence:N")),
        alt.Tooltip("provenance:N"),
    ]
    heaviest = max(float(data["weight"].max()), 1.0)
    height = alt.Size("weight:Q", scale=alt.Scale(domain=[0, heaviest], range=[2, 22]), legend=None)
    bars = alt.Chart().mark_bar(opacity=0.85).encode(x=x, y=y, color=roles(), size=height, tooltip=tip)
    middle = paint(alt.Chart(pd.DataFrame({"score": [0.0]})).mark_rule(), "limit", stroke=True)
    middle = middle.encode(x=alt.X("score:Q", scale=wide))
    right = _words("!datum.left", "left", 6).encode(x=x, y=y, text="label:N")
    left = _words("datum.left", "right", -6).encode(x=x, y=y, text="label:N")
    chart = layers(bars, middle, right, left, data=data, height=30 * len(data) + 50)
    title = _loudest(frame, winner)
    return draw(title, f"Scores of {len(frame)} factors, weights as heights. {title}.", chart, frame)


def _words(when: str, align: str, dx: int) -> alt.Chart:
    chart = alt.Chart().mark_text(align=align, dx=dx, fontSize=11).transform_filter(when)
    return paint(chart, "ink")


def _weight(row: dict[object, object]) -> str:
    return f"× {row['weight']:g}" if row["weight"] else "not in play"


def _loudest(frame: pd.DataFrame, winner: str) -> str:
    """Who speaks loudest on each side."""
    names = {}
    for side, sign in (("mixture", 1), ("dense", -1)):
        part = frame[sign * frame["pull"] > 0]
        if len(part):
            names[side] = str(
                max(part.to_dict("records"), key=lambda row: sign * row["pull"])["title"]
            ).lower()
    other = "dense" if winner == "mixture" else "mixture"
    said = (
        f"{names[winner].capitalize()} speaks loudest for the {winner} model" if winner in names else "Even"
    )
    said = said.replace("the mixture model", "the mixture")
    rival = "the dense model" if other == "dense" else "the mixture"
    return f"{said}, {names[other]} for {rival}" if other in names else f"{said}; nothing for {rival}"


def against(points: pd.DataFrame, regions: pd.DataFrame, knob: Knob) -> Figure:
    """The margin over one input: tinted by who wins where, a rule where the scenario stands."""
    x = _axis(points, knob)
    fits = points[points["winner"] != NEITHER].assign(model=points["winner"].map(_ROLE))
    tints, names = _tinted(points, regions, x)
    even, line, dots = _margins(fits, knob, x)
    rule, word = _here(fits, knob, x)
    counts = _counts(points, x)
    chart = layers(tints, even, line, dots, rule, names, word, *counts, height=HEIGHT)
    title = _story(regions, knob)
    return draw(title, f"The margin over {knob.title}, modelled. {title}.", chart, points)


def _tinted(points: pd.DataFrame, regions: pd.DataFrame, x: alt.X) -> tuple[alt.Chart, alt.Chart]:
    """Who wins where, as tints, and the names of those that are wide enough."""
    shaded = regions.assign(model=regions["winner"].map(_ROLE), said=regions["winner"].map(_SAID))
    low, high = float(points["value"].min()), float(points["value"].max())
    shaded = shaded.assign(low=shaded["low"].clip(lower=low), high=shaded["high"].clip(upper=high))
    tints = (
        alt.Chart(shaded)
        .mark_rect(opacity=0.16)
        .encode(
            x=alt.X("low:Q", scale=x["scale"], axis=x["axis"], title=x["title"]),
            x2=alt.X2("high:Q"),
            color=roles(legend=False),
            tooltip=[alt.Tooltip("said:N", title="answer"), alt.Tooltip("low:Q"), alt.Tooltip("high:Q")],
        )
    )
    names = paint(
        alt.Chart(shaded).mark_text(align="left", baseline="top", dx=6, dy=6, fontWeight="bold"), "ink"
    )
    names = names.encode(x=alt.X("low:Q", scale=x["scale"]), y=alt.value(0), text=alt.Text("said:N"))
    return tints, names.transform_filter(f"log(datum.high / datum.low) > {_room(low, high)}")


def _margins(fits: pd.DataFrame, knob: Knob, x: alt.X) -> tuple[alt.Chart, alt.Chart, alt.Chart]:
    """Where both are even, the margin as a dashed line, and its points."""
    y = alt.Y(
        "margin:Q", title="margin", scale=alt.Scale(domain=[-1.05, 1.05], nice=False),
        axis=alt.Axis(values=[-1, -0.5, 0, 0.5, 1], labelExpr=SIDES),
    )  # fmt: skip
    tip = [
        alt.Tooltip("value:Q", title=knob.title),
        alt.Tooltip("margin:Q", format="+.2f"),
        *(alt.Tooltip("winner:N"), *(alt.Tooltip(f"{name}:Q") for name in DEVICES)),
    ]
    line = paint(alt.Chart(fits).mark_line(strokeDash=[6, 4], strokeWidth=1.8), "ink", stroke=True)
    dots = alt.Chart(fits).mark_point(size=45, filled=True, opacity=1)
    even = paint(alt.Chart(pd.DataFrame({"margin": [0.0]})).mark_rule(), "limit", stroke=True)
    return even.encode(y=y), line.encode(x=x, y=y), dots.encode(x=x, y=y, color=roles(), tooltip=tip)


def _here(fits: pd.DataFrame, knob: Knob, x: alt.X) -> tuple[alt.Chart, alt.Chart]:
    """A rule where the scenario stands, and its words where the line is not."""
    here = alt.Chart(pd.DataFrame({"value": [knob.now]})).encode(x=alt.X("value:Q", scale=x["scale"]))
    rule = paint(here.mark_rule(strokeDash=[2, 3]), "ink", stroke=True)
    beside = min(fits.to_dict("records"), key=lambda row: abs(math.log(row["value"] / knob.now)), default={})
    low_free = beside.get("margin", 0) > 0
    place = {"baseline": "bottom", "y": "height", "dy": -44} if low_free else {"baseline": "top", "y": 24}
    word = paint(here.mark_text(align="left", dx=5, **place), "ink")
    return rule, word.encode(text=alt.value("you are here"))


def _counts(points: pd.DataFrame, x: alt.X) -> list[alt.Chart]:
    """A line of text for each candidate above the axis: its devices where their number changes."""
    drawn = []
    for up, (column, role) in zip((26, 8), DEVICES.items(), strict=True):
        steps = points[points[column] != points[column].shift()]
        first = f"{role} on "
        text = [f"{first if at == 0 else ''}{many:,.0f}" for at, many in enumerate(steps[column])]
        shown = alt.Chart(steps.assign(text=text)[["value", "text"]])
        shown = shown.mark_text(align="left", baseline="bottom", dx=3, y="height", dy=-up, fontSize=11)
        shown = shown.encode(x=alt.X("value:Q", scale=x["scale"]), text=alt.Text("text:N"))
        drawn.append(paint(shown, role))
    return drawn


def _room(low: float, high: float) -> float:
    """Logarithm that a region must span for its name to fit."""
    return 0.12 * math.log(high / low)


def _axis(points: pd.DataFrame, knob: Knob) -> alt.X:
    low, high = float(points["value"].min()), float(points["value"].max())
    ticks = [tick for tick in powers_of_two([low, high]) if low <= tick <= high]
    scale = alt.Scale(type="log", base=2, domain=[low, high], nice=False)
    axis = alt.Axis(values=ticks[:: 1 + len(ticks) // 14], format="~s" if high >= 10_000 else "d")
    return alt.X("value:Q", title=f"{knob.title} ({knob.unit})", scale=scale, axis=axis)


def _story(regions: pd.DataFrame, knob: Knob) -> str:
    """`Mixture up to batch 2, then dense up to 61, then neither will do`."""
    rows = regions.to_dict("records")
    if len(rows) == 1:
        return f"{_SAID[rows[0]['winner']].capitalize()} at every {knob.title}"
    parts = [f"{_SAID[row['winner']]} up to {knob.words(row['high'])}" for row in rows[:-1]]
    parts[0] = parts[0].replace("up to", f"up to {knob.title}")
    said = ", then ".join([*parts, _SAID[rows[-1]["winner"]]])
    return said[:1].upper() + said[1:]


assert set(_ROLE.values()) <= set(ROLES)


# -- tornado -----------------------------------------------------------------------------------------
# How far each weight, input and error moves the margin. `swings` frame: name, turned, low_at, high_at,
# low, high, flips; margins above zero are the mixture's.


SHOWN = 14


def tornado(swings: pd.DataFrame, margin: float) -> Figure:
    """Bars between the margins at both ends of what is turned, the widest on top; ends say where they are."""
    data = swings.head(SHOWN)
    ends = _both_ends(data)
    order = data["name"].tolist()
    y = alt.Y("name:N", sort=order, title=None, axis=alt.Axis(labelLimit=220, minExtent=170))
    wide = alt.Scale(domain=[-1.6, 1.6], nice=False)
    axis = alt.Axis(values=[-1, -0.5, 0, 0.5, 1], labelExpr=SIDES)
    x = alt.X("low:Q", title="margin", scale=wide, axis=axis)
    tip = [
        "name:N",
        "low_at:N",
        alt.Tooltip("low:Q", format="+.2f"),
        "high_at:N",
        alt.Tooltip("high:Q", format="+.2f"),
    ]
    bars = paint(alt.Chart(data).mark_bar(height=7, opacity=0.45), "limit").encode(
        x=x, x2="high:Q", y=y, tooltip=tip
    )
    at = alt.X("value:Q", scale=wide, axis=axis, title="margin")
    dots = alt.Chart(ends).mark_point(filled=True, size=70, opacity=1)
    dots = dots.encode(
        x=at, y=y, color=roles(), tooltip=["name:N", "at:N", alt.Tooltip("value:Q", format="+.2f")]
    )
    words = [_tornado_words(side).encode(x=at, y=y, text="at:N") for side in (True, False)]
    rules = pd.DataFrame({"margin": [0.0, margin]})
    even = paint(alt.Chart(rules.head(1)).mark_rule(), "limit", stroke=True)
    now = paint(alt.Chart(rules.tail(1)).mark_rule(strokeDash=[2, 3]), "ink", stroke=True)
    place = alt.X("margin:Q", scale=wide)
    chart = layers(
        *(bars, even.encode(x=place), now.encode(x=place), dots),
        *(word.properties(data=ends) for word in words),
        height=26 * len(data) + 50,
    )
    title = _title(data)
    return draw(title, f"Margins at both ends of each weight, input and error. {title}.", chart, swings)


def _both_ends(data: pd.DataFrame) -> pd.DataFrame:
    """A row an end of each bar: its margin, whose it is, and on which side its words stand."""
    ends = pd.concat(
        [
            data.assign(value=data[end], at=data[f"{end}_at"], other=data["high" if end == "low" else "low"])
            for end in ("low", "high")
        ],
        ignore_index=True,
    )
    return ends.assign(
        model=["mixture" if value > 0 else "dense" if value < 0 else "limit" for value in ends["value"]],
        right=(ends["value"] > ends["other"]) | ((ends["value"] == ends["other"]) & ends.duplicated("name")),
    )


def _tornado_words(right: bool) -> alt.Chart:
    chart = alt.Chart().mark_text(align="left" if right else "right", dx=8 if right else -8, fontSize=10)
    return paint(chart.transform_filter("datum.right" if right else "!datum.right"), "ink")


def _title(data: pd.DataFrame) -> str:
    turning = data.loc[data["flips"], "name"].tolist()
    widest = data.iloc[0]["name"]
    if not turning:
        return f"Nothing here turns the answer alone; {widest} moves the margin most"
    many = "one" if len(turning) == 1 else str(len(turning))
    return f"{many.capitalize()} of {len(data)} could turn the answer alone: {', '.join(turning[:3])}"
