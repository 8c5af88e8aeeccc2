"""Frames: the test model's memory, predicted beside measured."""

from __future__ import annotations

from app import data
from app.figure import Figure
from app.memory import charts
from moe_core.store.queries import Run


def predicted(run: Run, model: str) -> Figure:
    """Bytes by component, predicted and measured, of one model of the run."""
    return charts.predicted(data.frame("memory", run), model)
