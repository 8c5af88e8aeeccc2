"""Plots: the charts of a report. Each is drawn twice from the same rows: as Vega-Lite, and native in a deck.

Series differ in more than hue: lines by dash and point shape and with their name at the end, bars by
position, and stacked parts keep one order, written out in the legend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd

from moe_core.report import tables
from moe_core.report.figure import Figure
from moe_core.report.palette import ROLES
from moe_core.report.tables import GROUPS, SHADES, STACK, Cases
from moe_core.units import significant

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
SERIES = ("dense", "mixture", "published", "purple")  # roles of up to four scenarios, in the deck
DASHES = ([1, 0], [8, 4], [2, 3], [10, 3, 2, 3])
SHAPES = ("circle", "square", "triangle-up", "diamond")
ROW, FRAME = 46, 170  # pixels a bar needs; axis and legend, which a page counts in

INK = {  # the colour of text, which the theme chooses
    "datum": "ink",
    "type": "nominal",
    "scale": {"domain": list(ROLES), "range": "category"},
    "legend": None,
}


class Plot(NamedTuple):
    """A chart as rows and roles: `value` over `category`, one series for each value of `series`."""

    name: str
    kind: Literal["stacked", "bars", "lines", "sides"]
    category: str
    series: str
    value: str
    unit: str
    axis: str  # what the category axis says
    figure: Figure


def plots(cases: Cases) -> list[Plot]:
    """Every chart of these scenarios that has something to show."""
    return [made for make in PLOTS if (made := make(cases)) is not None]


def _memory(cases: Cases) -> Plot | None:
    data = tables.footprints(cases)
    if data.empty:
        return None
    totals, good = data.groupby("scenario", sort=False)["GB"].sum(), tables.fits(cases)
    most = str(totals.idxmax())
    fitting = [name for name, ok in good.items() if ok]
    verdict = (
        "all fit one device" if len(fitting) == len(good) else f"{len(fitting)} of {len(good)} fit one device"
    )
    most_gb = f"{significant(float(totals.max()))} GB"
    title = f"{most} needs the most memory, {most_gb}; {verdict}"
    if len(cases) == 1:
        title = f"{most} needs {most_gb}, which {'fits' if fitting else 'does not fit'} one {_device(cases)}"
    spec = _stacked(data, cases)
    return Plot("memory", "stacked", "scenario", "part", "GB", "GB", "scenario", _figure(title, spec, data))


def _device(cases: Cases) -> str:
    return next(iter(cases.values())).hardware


def _parameters(cases: Cases) -> Plot | None:
    data = tables.parameters(cases)
    wide = data.pivot(index="scenario", columns="kind", values="billions")
    share = (wide["active"] / wide["total"]).sort_values()
    least = str(share.index[0])
    title = f"{least} uses {significant(100 * float(share.iloc[0]))} % of its parameters for a token"
    return Plot(
        "parameters", "bars", "scenario", "kind", "billions", "billion parameters", "scenario",
        _figure(title, _bars(data), data),
    )  # fmt: skip


def _growth(cases: Cases) -> Plot | None:
    data = tables.growth(cases)
    if data.empty:
        return None
    last = data[data["context"] == data["context"].max()].set_index("scenario")["GB"]
    first = data[data["context"] == data["context"].min()].set_index("scenario")["GB"]
    rise = (last - first).sort_values()
    context = int(data["context"].max())
    more = significant(float(rise.iloc[-1]))
    title = f"At {context:,} tokens {rise.index[-1]} holds {more} GB more than at {CONTEXT_TICKS[0]:,}"
    spec = _lines(data, "context", "GB", "context (tokens)", "memory (GB)", CONTEXT_TICKS)
    return Plot(
        "growth", "lines", "context", "scenario", "GB", "GB", "context (tokens)", _figure(title, spec, data)
    )


def _distinct(cases: Cases) -> Plot | None:
    data = tables.distinct(cases)
    if data.empty:
        return None
    one = data[data["batch"] == data["batch"].max()].sort_values("percent").to_dict("records")[0]
    title = (
        f"At batch {int(one['batch'])} a step of {one['scenario']} reads "
        f"{significant(float(one['percent']))} % of each layer's experts"
    )
    spec = _lines(data, "batch", "percent", "batch (sequences)", "experts read (%)", list(tables.BATCHES))
    return Plot(
        "distinct",
        "lines",
        "batch",
        "scenario",
        "percent",
        "%",
        "batch (sequences)",
        _figure(title, spec, data),
    )


def _decode(cases: Cases) -> Plot | None:
    data = tables.decode(cases)
    if data.empty:
        return None
    batch = int(data.groupby("scenario")["batch"].max().min())
    ranked = data[data["batch"] == batch].sort_values("ms").to_dict("records")
    first, last = ranked[0], ranked[-1]
    title = (
        f"At batch {batch} a decoding step of {first['scenario']} takes {significant(float(first['ms']))} ms"
    )
    if len(ranked) > 1:
        title += f", of {last['scenario']} {significant(float(last['ms']))} ms"
    ticks = [one for one in tables.BATCHES if one <= int(data["batch"].max())]
    says = "decoding step (ms), with its 80 % interval"
    spec = _lines(data, "batch", "ms", "batch (sequences)", says, ticks if len(ticks) > 1 else [1, 2])
    lines, points = spec["layer"]
    ends = {"y": {"field": "low", "type": "quantitative", "title": says}, "y2": {"field": "high"}}
    band = {name: lines["encoding"][name] for name in ("x", "color")} | ends
    spec["layer"] = [{"mark": {"type": "area", "opacity": 0.13}, "encoding": band}, lines, points]
    figure = _figure(title, spec, data)
    return Plot("decode", "lines", "batch", "scenario", "ms", "ms", "batch (sequences)", figure)


PLOTS: tuple[Callable[[Cases], Plot | None], ...] = (
    _memory,
    _decode,
    _parameters,
    _growth,
    _distinct,
)
CONTEXT_TICKS = list(tables.CONTEXTS)


def _figure(title: str, spec: dict[str, Any], data: pd.DataFrame) -> Figure:
    words = f"{title}. Columns: {', '.join(map(str, data.columns))}; {len(data)} rows."
    full = {"$schema": SCHEMA, "data": {"name": "rows"}, **spec, "datasets": {"rows": data}}
    return Figure(title, words, full, data)


def _names(data: pd.DataFrame, column: str) -> list[str]:
    return [str(name) for name in dict.fromkeys(data[column])]


def _y(data: pd.DataFrame) -> dict[str, Any]:
    axis = {"labelLimit": 160, "minExtent": 60}
    return {
        "field": "scenario",
        "type": "nominal",
        "title": None,
        "sort": _names(data, "scenario"),
        "axis": axis,
    }


def _stacked(data: pd.DataFrame, cases: Cases) -> dict[str, Any]:
    """Parts of the memory of each scenario, and what its device can give as a tick."""
    shown = [part for part in STACK if part in set(data["part"])]
    legend = {"orient": "top", "title": None, "columns": 2, "values": shown}
    legend |= {"labelLimit": 200, "symbolStrokeWidth": 0}
    order = "indexof(" + str(list(STACK)) + ", datum.part)"
    bars = {
        "transform": [{"calculate": order, "as": "order"}],
        "mark": {"type": "bar", "height": 22, "stroke": "gray", "strokeWidth": 0.6},
        "encoding": {
            "y": _y(data),
            "x": {"field": "GB", "type": "quantitative", "title": "memory (GB)", "stack": "zero"},
            "color": {
                "field": "part",
                "type": "nominal",
                "scale": {"domain": list(GROUPS), "range": "category"},
                "legend": legend,
            },
            "opacity": {
                "field": "part",
                "type": "nominal",
                "scale": {
                    "type": "ordinal",  # a point scale would read two ends
                    "domain": list(GROUPS),
                    "range": [SHADES[part] for part in GROUPS],
                },
                "legend": legend,
            },
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": [{"field": name} for name in ("scenario", "part", "GB")],
        },
    }
    totals = {
        "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 11},
        "encoding": {
            "y": _y(data),
            "x": {"aggregate": "sum", "field": "GB", "type": "quantitative"},
            "text": {"aggregate": "sum", "field": "GB", "type": "quantitative", "format": ",.3~r"},
            "fill": INK,
        },
    }
    return {"layer": [bars, totals], "height": ROW * len(cases) + FRAME}


def _bars(data: pd.DataFrame) -> dict[str, Any]:
    """Total beside active, one pair a scenario, each with its number."""
    shared = {
        "y": _y(data),
        "yOffset": {"field": "kind", "sort": ["total", "active"]},
        "x": {"field": "billions", "type": "quantitative", "title": "parameters (billions)"},
    }
    bars = {
        "mark": {"type": "bar", "stroke": "gray", "strokeWidth": 0.5},
        "encoding": shared
        | {
            "opacity": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": ["total", "active"], "range": [0.35, 1]},
                "legend": {"orient": "top", "title": None, "symbolStrokeWidth": 0},
            },
        },
    }
    words = {
        "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 11},
        "encoding": shared
        | {"text": {"field": "billions", "type": "quantitative", "format": ",.3~r"}, "fill": INK},
    }
    return {"layer": [bars, words], "height": ROW * data["scenario"].nunique() + FRAME}


def _lines(
    data: pd.DataFrame, x: str, y: str, x_title: str, y_title: str, ticks: list[int]
) -> dict[str, Any]:
    """One line a scenario: its own hue, dash and point shape, and its name where it ends."""
    names = _names(data, "scenario")
    places = _places(names, [" " * (n + 1) for n in range(8)])
    legend = {
        "orient": "top",
        "title": None,
        "values": names,
        "labelLimit": 220,
        "symbolStrokeWidth": 2,
        "symbolSize": 90,
        "symbolOpacity": 1,
        "symbolDash": [1, 0],
    }
    shared: dict[str, Any] = {
        "x": {
            "field": x,
            "type": "quantitative",
            "title": x_title,
            "scale": {"type": "log", "base": 2, "nice": False, "domain": [ticks[0], ticks[-1]]},
            "axis": {"values": ticks, "format": ",d"},
        },
        "y": {"field": y, "type": "quantitative", "title": y_title, "scale": {"zero": True}},
        "color": {
            "field": "scenario",
            "type": "nominal",
            "scale": {"domain": places, "range": "category"},  # blue, vermilion, green, purple
            "legend": legend,
        },
    }
    dash = {
        "field": "scenario",
        "type": "nominal",
        "scale": {"domain": places, "range": _places(DASHES, DASHES * 2)},
        "legend": None,
    }
    shape = {
        "field": "scenario",
        "type": "nominal",
        "scale": {"domain": places, "range": _places(SHAPES, SHAPES * 2)},
        "legend": legend,
    }
    return {
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": shared | {"strokeDash": dash}},
            {
                "mark": {"type": "point", "filled": True, "size": 55},
                "encoding": shared | {"shape": shape, "tooltip": [{"field": name} for name in data.columns]},
            },
        ],
        "height": 340,
    }


def _places(values: Sequence[Any], filler: Sequence[Any]) -> list[Any]:
    """Up to four values where the palette has blue, vermilion, green and purple."""
    found = list(filler[: len(ROLES) - 1])
    for value, role in zip(values, SERIES, strict=False):
        found[ROLES.index(role)] = value
    return found
