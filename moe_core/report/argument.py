"""Argument: a decision as a report tells it: its sentence, the factors as a chart and in words, the flips."""

from __future__ import annotations

from typing import Any

import pandas as pd

from moe_core.decide import rules
from moe_core.report.blocks import Block, Grid, Words
from moe_core.report.decided import NEITHER, Decided, Turn
from moe_core.report.manifest import Origin
from moe_core.report.palette import ROLES
from moe_core.report.plots import Plot, figured
from moe_core.report.text import many
from moe_core.report.vega import INK

SIDES = (
    "datum.value == 0 ? 'even' : (datum.value < 0 ? 'dense ' : 'mixture ') + format(abs(datum.value), '.1f')"
)
EVEN, NAME = "even", "factors"
ROW, FRAME = 30, 70  # pixels


def blocks(found: Decided) -> list[Block]:
    """The verdict in words, the chart of its factors, their evidence, and what would flip it."""
    return [Words("The verdict", _words(found)), plot(found), _evidence(found), *_flips(found)]


def origins(found: Decided) -> list[Origin]:
    """Where the numbers of its factors come from, each provenance once."""
    known: dict[Any, list[str]] = {}
    for one in found.weighed:
        known.setdefault(one.provenance, []).append(one.title.lower())
    return [
        Origin(kind=kind, detail=f"verdict: {', '.join(titles)} (rules in data/decide)")
        for kind, titles in known.items()
    ]


def plot(found: Decided) -> Plot:
    """The factors in play as bars from the middle to the side that they speak for, the loudest first."""
    shown = ("score", "weight", "pull", "evidence", "provenance")
    rows = [
        (f"{one.title} × {one.weight:g}", one.winner or EVEN, *(getattr(one, name) for name in shown))
        for one in found.weighed
    ]
    data = pd.DataFrame(rows, columns=["factor", "side", *shown])
    title = f"{found.answer.capitalize()}: {_loudest(found)}"
    reading = (
        f"Scores of {many(len(data), 'factors')} from -1, dense, to 1, mixture, the loudest first: how far a "
        "bar goes from the middle is its score, the number at its name how much it weighs."
    )
    figure = figured(title, reading, _spec(data), data)
    return Plot(
        NAME, "sides", "factor", "side", "score", "score: below zero dense, above zero mixture",
        "factor × weight", figure, origins=tuple(origins(found)), reading=reading,
    )  # fmt: skip


def _words(found: Decided) -> str:
    held = "stays" if found.firm else "could turn"
    band = f"{found.low:+.2f} to {found.high:+.2f}"
    first, *rest = found.against
    lines = [
        f"{found.sentence[:1].upper()}{found.sentence[1:]}.",
        f"Why: {found.reason}.",
        f"Margin {found.margin:+.2f} from the mixture's side; {band} over the 80 % interval of the predicted "
        f"times: the answer {held}.",
        f"The pair: {found.pair}. {found.source}.",
        f"The strongest counter-argument. {first.sentence}.",
        *(f"Also: {one.sentence}." for one in rest),
    ]
    return "\n".join(lines)


def _loudest(found: Decided) -> str:
    """The factor that speaks loudest for the winner, and for the other side if one does."""
    side = 1 if found.winner == "mixture" else -1
    ordered = sorted(found.weighed, key=lambda one: -side * one.pull)
    if not ordered or side * ordered[0].pull <= 0:
        return "limits that are missed decide it"
    said = f"{ordered[0].title.lower()} speaks loudest for {_side(found)}"
    against = ordered[-1]
    return f"{said}, {against.title.lower()} against it" if side * against.pull < 0 else said


def _side(found: Decided) -> str:
    return "it" if found.firm else f"the {found.winner or 'dense'} model"


def _evidence(found: Decided) -> Grid:
    rows = tuple(
        (one.title, one.winner or EVEN, f"{one.score:+.2f} × {one.weight:g}", one.evidence, one.provenance)
        for one in found.weighed
    )
    return Grid("What decided it", ("factor", "speaks for", "score × weight", "evidence", "provenance"), rows)


def _flips(found: Decided) -> list[Block]:
    if not found.turns:
        return [Words("What would flip it", "Nothing inside the ranges that were searched.")]
    rows = tuple(
        (one.title, one.sentence, f"{one.below or NEITHER} to {one.above or NEITHER}", _now(one))
        for one in found.turns
    )
    return [Grid("What would flip it", ("input", "flip", "answers below and above it", "now"), rows)]


def _now(turn: Turn) -> str:
    """Where the input stands, as people say it; a knob that is no more as a plain number."""
    knob = rules.knobs().get(turn.knob)
    return knob.words(turn.now) if knob else f"{turn.now:g} {turn.unit}"


def _spec(data: pd.DataFrame) -> dict[str, Any]:
    """The factors as on the Decide page: length is the score, height the weight."""
    x, y = _score(), _factor(data["factor"].tolist())
    words = {"x": x, "y": y, "text": {"field": "said", "type": "nominal"}, "fill": INK}
    layer = [_bars(data, x, y)]
    for align, dx, when in (("left", 6, "datum.score >= 0"), ("right", -6, "datum.score < 0")):
        said = [{"calculate": "format(datum.score, '+.2f')", "as": "said"}, {"filter": when}]
        mark = {"type": "text", "align": align, "dx": dx, "fontSize": 11}
        layer.append({"transform": said, "mark": mark, "encoding": words})
    return {"layer": layer, "height": ROW * len(data) + FRAME}


def _score() -> dict[str, Any]:
    return {
        "field": "score",
        "type": "quantitative",
        "title": "score: length; weight: height of the bar",
        "scale": {"domain": [-1.25, 1.25], "nice": False},
        "axis": {"values": [-1, -0.5, 0, 0.5, 1], "labelExpr": SIDES},
    }


def _factor(order: list[str]) -> dict[str, Any]:
    axis = {"labelLimit": 220, "minExtent": 150}
    return {"field": "factor", "type": "nominal", "sort": order, "title": None, "axis": axis}


def _bars(data: pd.DataFrame, x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    heaviest = max([1.0, *data["weight"].tolist()])
    roles = {"domain": list(ROLES), "range": "category"}
    thick = {"domain": [0, heaviest], "range": [2, 22]}
    return {
        "transform": [{"calculate": "datum.side == 'even' ? 'limit' : datum.side", "as": "role"}],
        "mark": {"type": "bar", "opacity": 1},
        "encoding": {
            "x": x,
            "y": y,
            "color": {"field": "role", "type": "nominal", "legend": None, "scale": roles},
            "size": {"field": "weight", "type": "quantitative", "scale": thick, "legend": None},
            "tooltip": [{"field": name} for name in data.columns],
        },
    }
