"""Figure: what every chart function returns (`moe_core.report.figure`), and the grammar they share.

A chart names palette roles and lets the theme choose the colours, so one figure serves light and dark.
Title and alternative text are sentences computed from the data; the page prints the title above the
chart, a file carries it inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from math import ceil, floor, log10
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
from altair.utils import schemapi

from moe_core.report.figure import Figure as Figure
from moe_core.report.palette import ROLES
from moe_core.units import significant

_drawn: ContextVar[dict[str, pd.DataFrame]] = ContextVar("_drawn")


def _by_name(data: pd.DataFrame) -> dict[str, str]:
    """Frames stay frames: Streamlit sends them as Arrow, and JSON is what takes longest to make."""
    frames = _drawn.get()
    name = next((known for known, frame in frames.items() if frame is data), f"data-{len(frames)}")
    frames[name] = data
    return {"name": name}


alt.data_transformers.register("frames", _by_name)
alt.data_transformers.enable("frames")
schemapi.DEBUG_MODE = False  # checking every mark against the schema takes half the time; the tests check

MODEL_LABELS = {"dense": "dense", "moe": "mixture"}
TIME_AXIS = "format(datum.value, '.3~s') + 's'"
BYTE_AXIS = "format(datum.value, '.3~s') + 'B'"


class Layers(NamedTuple):
    """Charts on top of one another, compiled one by one.

    What `alt.layer` makes of them, without its copies, which take longer than all the rest; selections
    (`add_params`) are not moved to the top here, so charts with one go through `alt.layer`.
    """

    charts: tuple[alt.Chart, ...]
    data: pd.DataFrame | None
    properties: dict[str, Any]

    def to_dict(self, validate: bool) -> dict[str, Any]:
        """The specification. Charts without data of their own take `data`."""
        own = {} if self.data is None else {"data": _by_name(self.data)}
        context = {"top_level": False} | ({} if self.data is None else {"data": self.data})
        layer = [one.to_dict(validate=False, context=context) for one in self.charts]
        spec = {"$schema": alt.SCHEMA_URL, **alt.theme.get()(), **own, "layer": layer, **self.properties}
        if validate:
            alt.LayerChart.from_dict(spec)  # checks the whole, its layers included
        return spec


def layers(*charts: alt.Chart, data: pd.DataFrame | None = None, **properties: Any) -> Layers:
    """From the bottom to the top; `properties` are those of the whole, such as its height."""
    return Layers(charts, data, properties)


def draw(title: str, words: str, chart: alt.TopLevelMixin | Layers, data: pd.DataFrame) -> Figure:
    """Compile an Altair chart, once: compiling takes longer than sending."""
    token = _drawn.set({})
    try:
        spec: dict[str, Any] = chart.to_dict(validate=schemapi.DEBUG_MODE)
        spec["datasets"] = {name: frame.reset_index(drop=True) for name, frame in _drawn.get().items()}
    finally:
        _drawn.reset(token)
    return Figure(title, words, spec, data)


def roles(field: str = "model", legend: bool = True, **extra: Any) -> alt.Color:
    """Colour by role: the field's values are names in `ROLES`; dense and mixture are in the legend."""
    key = alt.Legend(orient="top", title=None, values=["dense", "mixture"]) if legend else None
    return alt.Color(f"{field}:N", scale=alt.Scale(domain=list(ROLES)), legend=key, **extra)


def shapes(field: str = "model") -> alt.Shape:
    """Point shape by role, beside `roles`: dense is round, a mixture square. In grey hue says nothing."""
    drawn = ["square" if role == "mixture" else "circle" for role in ROLES]
    key = alt.Legend(orient="top", title=None, values=["dense", "mixture"])
    return alt.Shape(f"{field}:N", scale=alt.Scale(domain=list(ROLES), range=drawn), legend=key)


def paint(chart: alt.Chart, role: str, stroke: bool = False) -> alt.Chart:
    """Every mark of a chart in the colour of one role, which the theme chooses.

    Through fill (or stroke, for lines) and not colour, so that a layer keeps its own colour legend.
    """
    scale = alt.Scale(domain=list(ROLES), range="category")
    channel = (alt.Stroke if stroke else alt.Fill)("role:N", scale=scale, legend=None)
    return chart.transform_calculate(role=f"'{role}'").encode(channel)


def around_one(ratios: pd.Series[float]) -> tuple[pd.Series[float], float]:
    """Ratios as powers of two, cut where the colour scale ends: 1.41, 2 or 4 times, what the data need."""
    powers = pd.Series(np.log2(ratios.clip(lower=1e-9).to_numpy(dtype=float)), index=ratios.index)
    widest = float(powers[ratios > 0].abs().max()) if (ratios > 0).any() else 0.0
    limit = next((step for step in (0.5, 1.0) if widest <= step), 2.0)
    return powers.clip(-limit, limit), limit


def diverging(field: str, title: str, middle: str, limit: float, top: bool = False) -> alt.Color:
    """Colour of `around_one`: changes hue at one, which is called `middle`."""
    legend = alt.Legend(
        title=title,
        values=[-limit, 0, limit] if limit < 2 else [-2, -1, 0, 1, 2],
        labelExpr=f"datum.value == 0 ? '{middle}' : (format(pow(2, datum.value), '.3~r') + '×')",
        orient="top" if top else "right",
        gradientLength=180,
        labelOverlap=False,
    )
    scale = alt.Scale(domain=[-limit, limit], domainMid=0, range="diverging")
    return alt.Color(f"{field}:Q", scale=scale, legend=legend)


def powers_of_two(values: Iterable[float]) -> list[int]:
    """Ticks 1, 2, 4 ... that cover `values`, all positive."""
    known = [v for v in values if v > 0] or [1]
    low, high = math.floor(math.log2(min(known))), math.ceil(math.log2(max(known)))
    return [2**i for i in range(low, high + 1)] if low >= 0 else [1]


def log2_axis(field: str, title: str, values: Sequence[float]) -> alt.X:
    """A horizontal axis of tokens or batch: logarithmic, ticks at powers of two."""
    ticks = powers_of_two(values)
    return alt.X(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", base=2, domain=[ticks[0], max(ticks[-1], 2)], nice=False),
        axis=alt.Axis(values=ticks, format="d", grid=True),
    )


def times(ratio: float) -> str:
    """A ratio as people say it: `2.8×`."""
    return f"{significant(ratio)}×"


def percent(share: float) -> str:
    """A share as a percentage with at most three significant figures."""
    return f"{significant(100 * share)}\N{NO-BREAK SPACE}%"


def label_models(frame: pd.DataFrame) -> pd.DataFrame:
    """`moe` in the tables is called mixture wherever people read it."""
    return frame.assign(model=frame["model"].map(lambda name: MODEL_LABELS.get(name, name)))


def largest(frame: pd.DataFrame, column: str) -> dict[Any, Any]:
    """The row with the largest value of `column`, by field name. The frame is not empty."""
    return frame.nlargest(1, column).to_dict("records")[0]


def by_model(frame: pd.DataFrame, index: str, value: str) -> dict[Any, dict[str, float]]:
    """`value` as {index: {model: value}}, only where dense and mixture are both there."""
    nested: dict[Any, dict[str, float]] = {}
    for row in frame.to_dict("records"):
        nested.setdefault(row[index], {})[row["model"]] = float(row[value])
    return {key: models for key, models in nested.items() if {"dense", "mixture"} <= set(models)}


def tips(*fields: str) -> list[alt.Tooltip]:
    """Tooltips of plain fields. Channels written out compile five times faster than strings."""
    return [alt.Tooltip(field) for field in fields]


def ticks(low: float, high: float) -> list[float]:
    """Ticks at 1, 2 and 5 in every decade, fewer where there are many decades."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) < 4 else (1, 3) if len(decades) < 6 else (1,)
    every = [step * 10.0**decade for decade in decades for step in steps]
    return [tick for tick in every if low / 1.3 <= tick <= high * 1.3]
