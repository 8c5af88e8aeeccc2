"""Exports: a figure as PNG, SVG, CSV or Vega-Lite JSON. No browser, no network, no Streamlit.

A file says on its own what the page says around the chart: title, provenance, theme colours.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import vl_convert

from app.charts.figure import Figure
from app.theme import PALETTES, vega_config

WIDTH = 760  # pixels of a single view; PNG is drawn at twice that


def standalone(figure: Figure, source: str, theme: str = "light") -> dict[str, Any]:
    """The figure as complete Vega-Lite: data inside, title and `source` above, colours of `theme`."""
    spec: dict[str, Any] = deepcopy({key: value for key, value in figure.spec.items() if key != "datasets"})
    spec["datasets"] = {
        name: json.loads(frame.to_json(orient="records", date_format="iso", double_precision=15))
        for name, frame in figure.spec.get("datasets", {}).items()
    }
    spec["title"] = {"text": figure.title, "subtitle": source, "subtitleColor": PALETTES[theme].faded}
    spec["description"] = figure.alt
    spec["config"] = {**spec.get("config", {}), **vega_config(PALETTES[theme])}
    for view in (spec, *spec.get("vconcat", ()), *spec.get("hconcat", ())):
        if "vconcat" not in view and "hconcat" not in view:
            view.setdefault("width", WIDTH)
    return spec


def png(figure: Figure, source: str, theme: str = "light") -> bytes:
    """A PNG at twice the screen's resolution."""
    return bytes(vl_convert.vegalite_to_png(standalone(figure, source, theme), scale=2.0))


def svg(figure: Figure, source: str, theme: str = "light") -> bytes:
    """An SVG."""
    return str(vl_convert.vegalite_to_svg(standalone(figure, source, theme))).encode()


def csv(figure: Figure) -> bytes:
    """The rows behind the figure, full precision, UTF-8 with a byte order mark so that Excel reads it."""
    return figure.data.to_csv(index=False).encode("utf-8-sig")
