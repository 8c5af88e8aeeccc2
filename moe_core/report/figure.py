"""Figure: a chart with its words and numbers, on screen and in every file.

`standalone` turns one into complete Vega-Lite: what a file needs and a page says around the chart.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import pandas as pd

from moe_core.report.palette import PALETTES, vega_config
from moe_core.report.text import clean

WIDTH = 760  # pixels of a single view; PNG is drawn at twice that
_LETTERS = 108  # of the subtitle, on a line of that width


class Figure(NamedTuple):
    """A chart with its words and numbers.

    title  the finding, one sentence without a full stop.
    alt    what a reader who cannot see the chart should know.
    spec   Vega-Lite, untitled, data as frames under `datasets`; colours come from the theme's ranges.
    data   the rows behind it, tidy, for the data view and the CSV.
    """

    title: str
    alt: str
    spec: dict[str, Any]
    data: pd.DataFrame


def standalone(figure: Figure, below: Sequence[str], theme: str = "light") -> dict[str, Any]:
    """The figure as complete Vega-Lite: data inside, title and the lines `below` it, colours of `theme`."""
    spec: dict[str, Any] = deepcopy({key: value for key, value in figure.spec.items() if key != "datasets"})
    spec["datasets"] = {name: records(frame) for name, frame in figure.spec.get("datasets", {}).items()}
    spec["title"] = {
        "text": textwrap.wrap(clean(figure.title), 84) or [""],
        "subtitle": [part for text in below for part in textwrap.wrap(clean(text), _LETTERS)],
        "subtitleColor": PALETTES[theme].faded,
        "subtitlePadding": 6,
    }
    spec["description"] = clean(figure.alt)
    spec["config"] = {**spec.get("config", {}), **vega_config(PALETTES[theme])}
    for view in (spec, *spec.get("vconcat", ()), *spec.get("hconcat", ())):
        if "vconcat" not in view and "hconcat" not in view:
            view.setdefault("width", WIDTH)
    return spec


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain JSON values; text is cleaned, what is not finite is null."""
    safe = frame.copy(deep=False)
    for name in frame.select_dtypes(exclude=["number"]).columns:
        safe[name] = _cleaned(frame[name])
    text = safe.to_json(orient="records", date_format="iso", double_precision=15)
    rows: list[dict[str, Any]] = json.loads(text)
    return rows


def _cleaned(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.map(lambda value: clean(value) if isinstance(value, str) else value)
