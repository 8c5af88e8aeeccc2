"""Exports: files that stand on their own, made without a browser."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest
from PIL import Image

from app import exports
from app.charts import memory, quality, times
from app.charts.figure import Figure
from app.theme import PALETTES

BITS = {"dense": 1.9, "oracle": 2.2, "moe": 2.4, "random": 3.5}


@pytest.fixture(scope="module")
def figure() -> Figure:
    return quality.summary(BITS)


@pytest.mark.parametrize("theme", PALETTES)
def test_a_png_has_the_background_of_its_theme_and_something_on_it(figure: Figure, theme: str) -> None:
    image = Image.open(io.BytesIO(exports.png(figure, "measured here", theme))).convert("RGB")
    background = tuple(int(PALETTES[theme].background[i : i + 2], 16) for i in (1, 3, 5))
    assert image.width > 1200
    assert image.getpixel((image.width - 1, image.height - 1)) == background
    assert len(image.getcolors(maxcolors=100_000) or []) > 20


def test_an_svg_carries_title_source_and_description(figure: Figure) -> None:
    drawn = exports.svg(figure, "measured here: CPU, run 0123").decode()
    assert "measured here: CPU, run 0123" in drawn
    assert figure.title.split(";")[0] in drawn
    assert "http://" not in drawn.replace("http://www.w3.org", "")


def test_a_csv_has_the_rows_in_full_precision() -> None:
    frame = pd.DataFrame({"model": ["dense", "moe"], "bytes": [1 / 3, 2 / 3]})
    data = exports.csv(memory.small(frame, None))
    assert data.startswith(b"\xef\xbb\xbf")
    back = pd.read_csv(io.BytesIO(data))
    assert back["bytes"].tolist() == frame["bytes"].tolist()


def test_exporting_leaves_the_figure_alone() -> None:
    """A figure is shared between sessions, its views nested."""
    rows = [(m, p, "total", 0.1, 0.1, 0.2) for m in ("dense", "moe") for p in ("prefill", "decode")]
    names = ["model", "phase", "component", "median_s", "p10_s", "p90_s"]
    figure = times.phases(pd.DataFrame(rows, columns=names))
    before = json.dumps({key: value for key, value in figure.spec.items() if key != "datasets"})
    exports.png(figure, "x")
    after = json.dumps({key: value for key, value in figure.spec.items() if key != "datasets"})
    assert before == after
