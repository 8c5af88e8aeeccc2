"""Vega: the charts of a report as Vega-Lite. A mixture is vermilion, a dense model blue, everywhere.

Scenarios of one kind have one hue: they differ by dash, by the shape of their points and by their name at
the end of the line. A bar has its number at its end and starts at zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from moe_core.report.palette import GROUPS, ROLES, SHADES, STACK

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
DASHES = ([1, 0], [8, 4], [2, 3], [10, 3, 2, 3], [14, 5], [5, 2])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
ROW, FRAME = 46, 150  # pixels a bar needs; axis and legend, which a page counts in
GAP, ROOM = 0.065, 0.42  # between two names, of the height; right of the last tick, of the axis' doublings
LETTERS = 30  # of a name at the end of a line
NAMES = {"labelLimit": 260, "minExtent": 60}

INK = {  # the colour of text, which the theme chooses
    "datum": "ink",
    "type": "nominal",
    "scale": {"domain": list(ROLES), "range": "category"},
    "legend": None,
}
KIND = {"field": "model", "type": "nominal", "legend": None,
        "scale": {"domain": list(ROLES), "range": "category"}}  # fmt: skip


def whole(spec: Mapping[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """A chart with its rows beside what it brings itself."""
    own = spec.get("datasets", {})
    return {"$schema": SCHEMA, "data": {"name": "rows"}, **spec, "datasets": {"rows": data, **own}}


# -- bars ------------------------------------------------------------------------------------------


def stacked(data: pd.DataFrame) -> dict[str, Any]:
    """Parts of the memory of each scenario, its total at the end."""
    total = {"aggregate": "sum", "field": "GB", "type": "quantitative"}
    totals = {
        "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 11},
        "encoding": {"y": _scenario(data), "x": total, "text": {**total, "format": ",.3r"}, "fill": INK},
    }
    return {"layer": [_parts(data), totals], "height": ROW * data["scenario"].nunique() + FRAME}


def _parts(data: pd.DataFrame) -> dict[str, Any]:
    shown = [part for part in STACK if part in set(data["part"])]
    legend = {"orient": "top", "title": None, "columns": 4, "values": shown}
    legend |= {"labelLimit": 220, "symbolStrokeWidth": 0}
    part = {"field": "part", "type": "nominal", "legend": legend}
    shades = [SHADES[name] for name in GROUPS]  # a point scale would read two ends
    return {
        "transform": [{"calculate": f"indexof({list(STACK)}, datum.part)", "as": "order"}],
        "mark": {"type": "bar", "height": 22, "stroke": "gray", "strokeWidth": 0.6},
        "encoding": {
            "y": _scenario(data),
            "x": {"field": "GB", "type": "quantitative", "title": "memory (GB)", "stack": "zero"},
            "color": {**part, "scale": {"domain": list(GROUPS), "range": "category"}},
            "opacity": {**part, "scale": {"type": "ordinal", "domain": list(GROUPS), "range": shades}},
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": [{"field": name} for name in ("scenario", "part", "GB")],
        },
    }


def pairs(data: pd.DataFrame) -> dict[str, Any]:
    """Total beside active parameters of each scenario, each with its number and its name."""
    shared = {
        "y": _scenario(data),
        "yOffset": {"field": "kind", "sort": ["total", "active"]},
        "x": {"field": "billions", "type": "quantitative", "title": "parameters (billions)",
              "scale": {"zero": True}},
    }  # fmt: skip
    shade = {"domain": ["total", "active"], "range": [0.35, 1]}
    bars = {
        "mark": {"type": "bar"},
        "encoding": {
            **shared,
            "color": KIND,
            "opacity": {"field": "kind", "type": "nominal", "scale": shade, "legend": None},
            "tooltip": [{"field": name} for name in data.columns],
        },
    }
    words = {
        "transform": [{"calculate": "format(datum.billions, ',.3r') + ' ' + datum.kind", "as": "said"}],
        "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 11},
        "encoding": {**shared, "text": {"field": "said", "type": "nominal"}, "fill": INK},
    }
    return {"layer": [bars, words], "height": ROW * data["scenario"].nunique() + FRAME // 2}


def _scenario(data: pd.DataFrame) -> dict[str, Any]:
    order = _names(data)
    return {"field": "scenario", "type": "nominal", "title": None, "sort": order, "axis": NAMES}


# -- lines -----------------------------------------------------------------------------------------


def lines(
    data: pd.DataFrame,
    x: str,
    y: str,
    titles: tuple[str, str],
    ticks: Sequence[int],
    top: float | None = None,
) -> dict[str, Any]:
    """One line a scenario over an axis that doubles, its name at the end; a band where there is an interval.

    `top`: where the values end, if they do.
    """
    banded = {"low", "high"} <= set(data.columns)
    high = float(data["high" if banded else y].max()) * 1.04 if top is None else top
    ends = _ends(data, x, y, high, ticks)
    across = _across(x, titles[0], ticks)
    shared = {"x": across, "y": _up(y, titles[1], high), "color": KIND}
    layer = [*([_band(shared, titles[1], high)] if banded else []), *_marks(data, shared), *_last()]
    return {"layer": [_with(one, shared) for one in layer], "height": 340, "datasets": {"ends": ends}}


def _with(layer: dict[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    return {**layer, "encoding": {**shared, **layer["encoding"]}}


def _across(field: str, title: str, ticks: Sequence[int]) -> dict[str, Any]:
    """Doublings at equal distances, each with its tick, and room for the names on the right."""
    last = ticks[-1] * (ticks[-1] / ticks[0]) ** ROOM
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "base": 2, "nice": False, "domain": [ticks[0], last]},
        "axis": {"values": list(ticks), "format": ",d"},
    }


def _up(field: str, title: str, high: float) -> dict[str, Any]:
    scale = {"domain": [0, high], "nice": False}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale}


def _marks(data: pd.DataFrame, shared: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = _names(data)

    def by(values: Sequence[Any]) -> dict[str, Any]:
        scale = {"domain": names, "range": [values[at % len(values)] for at in range(len(names))]}
        return {"field": "scenario", "type": "nominal", "scale": scale, "legend": None}

    tip = [{"field": name} for name in data.columns]
    return [
        {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"strokeDash": by(DASHES)}},
        {
            "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
            "encoding": {"shape": by(SHAPES), "tooltip": tip},
        },
    ]


def _band(shared: Mapping[str, Any], title: str, high: float) -> dict[str, Any]:
    place = {"y": _up("low", title, high), "y2": {"field": "high"}, "detail": {"field": "scenario"}}
    return {"mark": {"type": "area", "opacity": 0.13}, "encoding": place}


def _last() -> list[dict[str, Any]]:
    """The names, and a thin line from each to its curve."""
    rule = {"type": "rule", "strokeWidth": 0.8, "opacity": 0.55, "strokeDash": [1, 3]}
    text = {"type": "text", "align": "left", "dx": 10, "fontWeight": "bold", "fontSize": 10.5}
    lead = {"x2": {"field": "last"}, "y2": {"field": "place"}}
    name = {
        "x": {"field": "last", "type": "quantitative"},
        "y": {"field": "place", "type": "quantitative"},
        "text": {"field": "short", "type": "nominal"},
    }
    source = {"name": "ends"}
    return [
        {"data": source, "mark": rule, "encoding": lead},
        {"data": source, "mark": text, "encoding": name},
    ]


def _ends(data: pd.DataFrame, x: str, y: str, high: float, ticks: Sequence[int]) -> pd.DataFrame:
    """The last point of each line, and where its name stands: in one column, none on another."""
    rows = data.sort_values(x).groupby("scenario", sort=False).tail(1).sort_values(y, kind="stable")
    places: list[float] = []
    for value in rows[y]:
        places.append(max(float(value), places[-1] + GAP * high if places else 0.0))
    limit = high
    for at in reversed(range(len(places))):
        places[at], limit = min(places[at], limit), min(places[at], limit) - GAP * high
    short = [_short(str(name)) for name in rows["scenario"]]
    return rows[["scenario", "model", x, y]].assign(place=places, last=float(ticks[-1]), short=short)


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"


def _names(data: pd.DataFrame) -> list[str]:
    return [str(name) for name in dict.fromkeys(data["scenario"])]
