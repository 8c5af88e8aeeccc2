"""Frames: what the routing page draws of a run, each figure by its function. `data.figure` keeps them."""

from __future__ import annotations

import pandas as pd

from app import data
from app.figure import Figure
from app.routing import charts, flow, quality
from moe_core.store.queries import Run

GROUPINGS = ("decode", "consecutive")


def load(run: Run, domain: str = "all", click: bool = False, compact: bool = False) -> Figure:
    """Layer x expert: who does the work."""
    if domain == "all":
        frame = data.frame("load", run)
    else:
        frame = data.frame("load", run, by_domain=True)
        frame = frame[frame["domain"] == domain]
    return charts.heatmap(frame, domain=domain, click=click, compact=compact)


def domains(run: Run, layer: int) -> Figure:
    """One layer's load by kind of text."""
    frame = data.frame("load", run, by_domain=True)
    return charts.domains(frame[frame["layer"] == layer], layer)


def lift(run: Run, layer: int, expert: int, by: str = "domain") -> Figure:
    """Which text an expert prefers, over chance."""
    frame = data.frame("lift", run, by=by)
    return charts.lift(frame[(frame["layer"] == layer) & (frame["expert"] == expert)], layer, expert)


def raster(run: Run, layer: int, first: int) -> Figure:
    """Expert x token over the text itself."""
    pairs = data.frame("raster", run, layer=layer, first=first, count=charts.SHOWN)
    letters = data.frame("text", run, layer=layer, first=first, count=charts.SHOWN)
    here = letters[letters["sequence"] == letters["sequence"].iloc[0]]
    said = here[["token", "position", "byte", "word", "token_id"]]
    return charts.raster(pairs.merge(said, on="token"), layer, experts(run))


def coactivation(run: Run, layer: int) -> Figure:
    """Experts that work on the same token."""
    return charts.coactivation(data.frame("coactivation", run, layer=layer), layer)


def distinct(run: Run) -> Figure:
    """Distinct experts against batch."""
    parts = [data.frame("distinct", run, grouping=name).assign(grouping=name) for name in GROUPINGS]
    return charts.distinct(pd.concat(parts, ignore_index=True), experts(run))


def sankey(run: Run, first: int, last: int) -> Figure:
    """From expert to expert between layers."""
    flows = data.frame("flow", run)
    return flow.sankey(flows[(flows["layer"] >= first) & (flows["next_layer"] <= last)])


def experts(run: Run) -> int:
    """Experts of the mixture that ran; a trained model brings its own number."""
    return int(run.architectures["moe"]["experts"]["count"])


def whose(run: Run) -> str:
    """Whose choices a run recorded: the test model's, or those of a model that was served."""
    return f"{run.spec['model']}, as served" if run.served else "test model"


def top_k(run: Run) -> int:
    """Experts a token visits in the mixture that ran."""
    return int(run.architectures["moe"]["experts"]["top_k"])


def load_curve(run: Run) -> Figure:
    """Experts by rank: the hottest first."""
    return charts.curve(data.frame("load_curve", run))


def wanted(run: Run) -> Figure:
    """What the router would like against what it chose."""
    return charts.wanted(data.frame("probabilities", run), data.frame("load", run))


def balance(run: Run) -> Figure:
    """Measures of balance, layer by layer."""
    return charts.balance(data.frame("balance", run))


def quality_by_domain(run: Run) -> Figure:
    """Bits a byte by kind of text."""
    return quality.by_domain(data.frame("quality", run))


def quality_against_k(run: Run, k: int) -> Figure:
    """Bits a byte against experts per token."""
    return quality.against_k(data.frame("quality", run), k)
