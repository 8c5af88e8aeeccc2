"""Charts of Overview: the strip and the memory bar say their finding, validate, and draw."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from altair.utils import schemapi

from app.overview import charts
from app.overview.charts import Standing
from moe_core.report import formats
from moe_core.report.manifest import make


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """Every mark against the schema, as users' browsers will."""
    with schemapi.debug_mode(True):
        yield


@pytest.mark.parametrize(
    ("now", "title"),
    [
        (
            Standing(-0.1, -0.27, 0.06, "dense", False, "mixture above batch 43"),
            "Leans to dense, but the error bar crosses the middle; nearest flip: mixture above batch 43",
        ),
        (
            Standing(0.1, 0.05, 0.14, "mixture", True, ""),
            "On the side of the mixture, by a little; no batch or traffic turns it",
        ),
        (
            Standing(1.0, 1.0, 1.0, "mixture", True, "dense below batch 2"),
            "Clearly on the side of the mixture; nearest flip: dense below batch 2",
        ),
    ],
)
def test_the_strip_says_where_the_answer_stands(now: Standing, title: str) -> None:
    figure = charts.strip(now)
    assert figure.title == title
    assert not any(letter.isdecimal() for letter in title.split(";")[0])  # no margin in words
    assert f"{now.low:+.2f}" in figure.alt
    assert "dense</text>" in svg(figure)


def sizes(mixture: float, dense: float) -> pd.DataFrame:
    rows = [
        ("mixture", "M, one H100", "experts", mixture - 2e9),
        ("mixture", "M, one H100", "kv_cache", 2e9),
        ("dense", "D, one H100", "ffn", dense),
    ]
    return pd.DataFrame(rows, columns=["model", "name", "component", "bytes"])


@pytest.mark.parametrize(
    ("held", "title"),
    [
        ((36e9, 18e9), "The mixture fills 50.0 % of what one H100 can give, the dense model 25.0 %"),
        ((36e9, 75e9), "The dense model needs 75.0 GB of the 72.0 GB that one H100 can give"),
    ],
)
def test_the_memory_bar_says_what_fits(held: tuple[float, float], title: str) -> None:
    figure = charts.memory(sizes(*held), 72e9, "H100")
    assert figure.title.replace("\N{NO-BREAK SPACE}", " ") == title
    assert figure.data["bytes"].sum() == sum(held)
    assert "usable: 72.0 GB" in svg(figure)


def svg(figure: charts.Figure) -> str:
    """As a file draws it, in the dark theme."""
    drawn = formats.svg(figure, make("figure", figure.title, sources=[]), "dark").decode()
    assert drawn.startswith("<svg")
    assert "NaN" not in drawn
    return drawn
