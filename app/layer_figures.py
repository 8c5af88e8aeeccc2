"""Layer figures: from a layer sweep, and a calibration, to drawn figures. Rows of `app.figures.FIGURES`."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from app import data, layers
from app.charts import roofline as drawn_roofline
from app.charts import speed as drawn
from app.charts.figure import Figure
from app.layers import Facts
from moe_core.store.queries import Run


def frame(run: Run, subject: Facts | None = None) -> pd.DataFrame:
    """The rows of one subject of a sweep, the first if none is named."""
    return layers.of(data.frame("layers", run), subject or layers.facts(run)[0])


def _over_tokens(run: Run, subject: int = 0, by: str | None = None) -> Figure:
    facts = layers.facts(run)[subject]
    rows = frame(run, facts)
    roofs = _predicted(run, facts, by) if by else pd.DataFrame()
    return drawn.over_tokens(rows.dropna(subset="name"), roofs, facts.label)


def _predicted(run: Run, facts: Facts, by: str) -> pd.DataFrame:
    known, rows = layers.calibration(data.run(by)), frame(run, facts)
    if run.provenance["dtype"] not in known.rates:
        return pd.DataFrame()
    return layers.predicted(rows, facts, known, run.provenance["dtype"])


def _beside(run: Run, by: str, subject: int = 0) -> Figure:
    facts = layers.facts(run)[subject]
    return drawn.predicted(_predicted(run, facts, by), _name(facts))


def _roofline(run: Run, by: str, subject: int = 0) -> Figure:
    facts, dtype = layers.facts(run)[subject], run.provenance["dtype"]
    known = layers.calibration(data.run(by))
    points = layers.roofline(frame(run, facts), facts, known, dtype)
    return drawn_roofline.roofline(points, layers.limits(facts, known, dtype), _sentence_case(_name(facts)))


def _split(run: Run, subject: int = 0) -> Figure:
    return drawn.split(layers.splits(frame(run, layers.facts(run)[subject])))


def _equivalent(run: Run, subject: int = 0) -> Figure:
    facts = layers.facts(run)[subject]
    layer = facts.layer
    total = layer.total_width / layer.active_width
    lines = {"active": 1.0, "half the total": total / 2, "total": total}
    return drawn.equivalent(layers.equivalents(frame(run, facts), facts), lines)


FIGURES: dict[str, Callable[..., Figure]] = {
    "speed_layer": _over_tokens,
    "speed_predicted": _beside,
    "speed_roofline": _roofline,
    "speed_split": _split,
    "speed_equivalent": _equivalent,
}


def _name(facts: Facts) -> str:
    return facts.label if facts.random else "the scale model"


def _sentence_case(name: str) -> str:
    return name[:1].upper() + name[1:]
