"""Frames: what Overview draws of a verdict, and of a run of the test model."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import data
from app.decide import frames as decide_frames
from app.decide.frames import Ruling
from app.figure import Figure
from app.memory import charts as memory_charts
from app.overview import charts
from app.overview.charts import Standing
from app.routing import quality
from app.speed import charts as speed_charts
from moe_core.scenario import answer
from moe_core.store.queries import Run

# -- the verdict -----------------------------------------------------------------------------------


def strip(of: Ruling) -> Figure | None:
    """Where the answer stands between dense and mixture; None where neither will do."""
    return _strip(of.key, of)


@st.cache_resource(show_spinner=False, max_entries=256)
def _strip(key: str, _of: Ruling) -> Figure | None:
    found, near = _of.verdict, decide_frames.nearest(_of)
    if found.winner is None:
        return None
    flip = near.sentence if near else ""
    return charts.strip(Standing(found.margin, found.low, found.high, found.winner, found.firm, flip))


def memory(of: Ruling) -> Figure:
    """What the fullest device of each candidate holds, against what a device can give."""
    return _memory(of.key, of)


@st.cache_resource(show_spinner=False, max_entries=256)
def _memory(key: str, _of: Ruling) -> Figure:
    both = _of.verdict.case.both
    rows = [
        (
            one.candidate.kind,
            one.candidate.name,
            part,
            float(size),
        )
        for one in both
        for part, size in answer.held(one).components().items()
    ]
    sizes = pd.DataFrame(rows, columns=["model", "name", "component", "bytes"])
    return charts.memory(sizes, float(both[0].usable), both[0].device.title)


# -- a run -----------------------------------------------------------------------------------------


def phases(run: Run) -> Figure:
    """Prefill and decode, dense beside mixture."""
    return speed_charts.phases(data.frame("timings", run))


def bits(run: Run) -> Figure:
    """Bits a byte of both models."""
    return quality.summary(run.summary["bits_per_byte"])


def peak(run: Run) -> Figure:
    """Peak memory of both models, as measured."""
    peaks = run.summary["peak_bytes"]
    rows = {"model": list(peaks), "bytes": [float(value) for value in peaks.values()]}
    return memory_charts.small(pd.DataFrame(rows), None)


def against_batch(of: Run) -> Figure | None:
    """Decode time against batch, from runs like this one on its device; None with fewer than two batches."""
    rows = _like(of)
    return _against_batch(rows, int(of.spec["batch"])) if len({row[0] for row in rows}) > 1 else None


def _like(of: Run) -> tuple[tuple[int, str, float], ...]:
    """batch, model and decode seconds of runs that differ in batch only: same device, dtype and code."""
    table, spec = data.history("bench"), of.spec
    table = table[table["complete"]]
    same = {name: spec[name] for name in ("model", "experts", "top_k", "shared", "seq")}
    same |= {name: of.provenance[name] for name in ("device", "dtype", "code_version")}
    for name, value in same.items():
        table = table[table[name] == value]
    rows = table[~table["own_text"]].drop_duplicates("batch").to_dict("records")
    models = ("dense", "moe")
    return tuple(
        (int(row["batch"]), model, float(row[f"decode_{model}_s"])) for row in rows for model in models
    )


@st.cache_resource(show_spinner=False, max_entries=64)
def _against_batch(rows: tuple[tuple[int, str, float], ...], batch: int) -> Figure:
    return speed_charts.against_batch(pd.DataFrame(rows, columns=["batch", "model", "seconds"]), batch)
