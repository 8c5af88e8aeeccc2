"""Layer figures: from a layer sweep, and a calibration, to drawn figures. `data.figure` keeps them."""

from __future__ import annotations

import pandas as pd

from app import data
from app.figure import Figure
from app.speed import charts, layers
from app.speed.layers import Facts
from moe_core.store.queries import Run


def frame(run: Run, subject: Facts | None = None) -> pd.DataFrame:
    """The rows of one subject of a sweep, the first if none is named."""
    return layers.of(data.frame("layers", run), subject or layers.facts(run)[0])


def over_tokens(run: Run, subject: int = 0, by: str | None = None) -> Figure:
    """Time of a layer over tokens, with what the calibration predicts where asked."""
    facts = layers.facts(run)[subject]
    rows = frame(run, facts)
    roofs = _predicted(run, facts, by) if by else pd.DataFrame()
    return charts.over_tokens(rows.dropna(subset="name"), roofs, facts.label)


def _predicted(run: Run, facts: Facts, by: str) -> pd.DataFrame:
    known, rows = layers.calibration(data.run(by)), frame(run, facts)
    if run.provenance["dtype"] not in known.rates:
        return pd.DataFrame()
    return layers.predicted(rows, facts, known, run.provenance["dtype"])


def beside(run: Run, by: str, subject: int = 0) -> Figure:
    """Predicted beside measured."""
    facts = layers.facts(run)[subject]
    return charts.predicted(_predicted(run, facts, by), _name(facts))


def roofline(run: Run, by: str, subject: int = 0) -> Figure:
    """What the layers reach of what the device can do."""
    facts, dtype = layers.facts(run)[subject], run.provenance["dtype"]
    known = layers.calibration(data.run(by))
    points = layers.roofline(frame(run, facts), facts, known, dtype)
    return charts.roofline(points, layers.limits(facts, known, dtype), _sentence_case(_name(facts)))


def split(run: Run, subject: int = 0) -> Figure:
    """Where a mixture layer's time goes."""
    return charts.split(layers.splits(frame(run, layers.facts(run)[subject])))


def equivalent(run: Run, subject: int = 0) -> Figure:
    """How wide a dense layer takes as long."""
    facts = layers.facts(run)[subject]
    layer = facts.layer
    total = layer.total_width / layer.active_width
    lines = {"active": 1.0, "half the total": total / 2, "total": total}
    return charts.equivalent(layers.equivalents(frame(run, facts), facts), lines)


def _name(facts: Facts) -> str:
    return facts.label if facts.random else "the test model"


def _sentence_case(name: str) -> str:
    return name[:1].upper() + name[1:]


def components(run: Run, phase: str) -> Figure:
    """Time by component, dense beside mixture."""
    return charts.components(data.frame("timings", run), phase)
