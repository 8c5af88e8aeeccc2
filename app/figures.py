"""Figures: from a run to a drawn figure. A table by name; `data.figure` calls it and keeps the result."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from app import data, layer_figures
from app.charts import coactivation, distinct, load, memory, quality, raster, sankey, times, wanted
from app.charts.figure import Figure
from moe_core.store.queries import Run

GROUPINGS = ("decode", "consecutive")


def _load(run: Run, domain: str = "all", click: bool = False, compact: bool = False) -> Figure:
    if domain == "all":
        frame = data.frame("load", run)
    else:
        frame = data.frame("load", run, by_domain=True)
        frame = frame[frame["domain"] == domain]
    return load.heatmap(frame, domain=domain, click=click, compact=compact)


def _domains(run: Run, layer: int) -> Figure:
    frame = data.frame("load", run, by_domain=True)
    return load.domains(frame[frame["layer"] == layer], layer)


def _lift(run: Run, layer: int, expert: int, by: str = "domain") -> Figure:
    frame = data.frame("lift", run, by=by)
    return load.lift(frame[(frame["layer"] == layer) & (frame["expert"] == expert)], layer, expert)


def _raster(run: Run, layer: int, first: int) -> Figure:
    pairs = data.frame("raster", run, layer=layer, first=first, count=raster.SHOWN)
    letters = data.frame("text", run, layer=layer, first=first, count=raster.SHOWN)
    here = letters[letters["sequence"] == letters["sequence"].iloc[0]]
    return raster.raster(pairs.merge(here[["token", "position", "byte"]], on="token"), layer, experts(run))


def _coactivation(run: Run, layer: int) -> Figure:
    return coactivation.coactivation(data.frame("coactivation", run, layer=layer), layer)


def _distinct(run: Run) -> Figure:
    parts = [data.frame("distinct", run, grouping=name).assign(grouping=name) for name in GROUPINGS]
    return distinct.distinct(pd.concat(parts, ignore_index=True), experts(run))


def _sankey(run: Run, first: int, last: int) -> Figure:
    flows = data.frame("flow", run)
    return sankey.sankey(flows[(flows["layer"] >= first) & (flows["next_layer"] <= last)])


def experts(run: Run) -> int:
    """Experts of the mixture that ran; a trained model brings its own number."""
    return int(run.architectures["moe"]["experts"]["count"])


def top_k(run: Run) -> int:
    """Experts a token visits in the mixture that ran."""
    return int(run.architectures["moe"]["experts"]["top_k"])


def _peak(run: Run) -> Figure:
    peaks = run.summary["peak_bytes"]
    return memory.small(
        pd.DataFrame({"model": list(peaks), "bytes": [float(v) for v in peaks.values()]}), None
    )


FIGURES: dict[str, Callable[..., Figure]] = {
    **layer_figures.FIGURES,
    "load": _load,
    "load_curve": lambda run: load.curve(data.frame("load_curve", run)),
    "wanted": lambda run: wanted.wanted(data.frame("probabilities", run), data.frame("load", run)),
    "balance": lambda run: load.balance(data.frame("balance", run)),
    "domains": _domains,
    "lift": _lift,
    "raster": _raster,
    "coactivation": _coactivation,
    "distinct": _distinct,
    "sankey": _sankey,
    "phases": lambda run: times.phases(data.frame("timings", run)),
    "components": lambda run, phase: times.components(data.frame("timings", run), phase),
    "memory": lambda run, model: memory.predicted(data.frame("memory", run), model),
    "peak": _peak,
    "bits": lambda run: quality.summary(run.summary["bits_per_byte"]),
    "quality_by_domain": lambda run: quality.by_domain(data.frame("quality", run)),
    "quality_against_k": lambda run, k: quality.against_k(data.frame("quality", run), k),
}
