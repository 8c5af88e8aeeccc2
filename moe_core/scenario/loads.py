"""Loads: what an uneven load costs at full size, and what exchanging tokens takes. No Streamlit here.

The link between the two scales: the load that the test model recorded, as a curve of ranks, is put on the
experts of the full size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pandas as pd

from moe_core.errors import ConfigError
from moe_core.formats import kind
from moe_core.perf import economics
from moe_core.perf.dense_equivalent import references
from moe_core.perf.moe_layer import LayerCase
from moe_core.perf.step_time import Exchange
from moe_core.scenario.costs import Study, layer_of
from moe_core.silicon import dense_equivalent, kernels, layer, systems, tables
from moe_core.silicon.dense_equivalent import TOKENS, Series
from moe_core.silicon.place import Place
from moe_core.silicon.predict import resampled

POWER_LAW = "power_law_1.01"
WORDS = {
    "balanced": "dealt out in turn",
    POWER_LAW: "power law 1.01",
    "power_law_1.2": "power law 1.2",
}
RECORDED, EVEN = "as recorded", "even, independent tokens"
NODE = "inside a node, 8 devices"
BETWEEN = "between nodes, 16 to 64 devices"
PUBLISHED = {"published, least: 15 %": 0.15, "published, most: 60 %": 0.60}


def recorded(frame: pd.DataFrame) -> tuple[float, ...]:
    """The load curve of a run: shares of the experts of a layer by rank, mean over layers. `load` frame."""
    layers = [part["pairs"].astype(float).tolist() for _, part in frame.groupby("layer")]
    return economics.ranked(layers)


def form(of: Study) -> str:
    """The format of the experts' weights."""
    return kind(of.spec.formats(of.mixture.architecture).of("experts"))


def curves(of: Study) -> list[tuple[str, Series]]:
    """The dense-equivalent curve: measured where tables hold it, predicted, and with the recorded load."""
    mixture, found = layer_of(of.mixture.architecture), []
    ask = (of.hardware, form(of), mixture)
    known = dense_equivalent.measured(*ask, POWER_LAW, of.framework)
    if known:
        found.append((f"measured, {WORDS[POWER_LAW]}", known))
    guess = dense_equivalent.predicted(*ask, POWER_LAW, of.framework)
    found.append((f"predicted, {WORDS[POWER_LAW]}", guess))
    if of.load:
        own = resampled(of.load, mixture.experts)
        found.append((f"predicted, load {RECORDED}", dense_equivalent.predicted(*ask, own, of.framework)))
    return found


def curve_rows(found: Sequence[tuple[str, Series]], of: Study) -> pd.DataFrame:
    """series, kind, tokens, width, low, high, beyond, seconds, active, total."""
    mixture = layer_of(of.mixture.architecture)
    sizes = {"active": mixture.active_width, "total": mixture.total_width}
    rows = [
        {"series": name, "kind": series.source, **point._asdict(), **sizes}
        for name, series in found
        for point in series.points
    ]
    return pd.DataFrame(rows)


def lines(of: Study) -> dict[str, float]:
    """Widths that people say a mixture costs."""
    return references(layer_of(of.mixture.architecture))


# -- imbalance -------------------------------------------------------------------------------------


def imbalance(of: Study) -> pd.DataFrame:
    """load, tokens, seconds, ratio (over even), distinct, source: one layer on one device."""
    mixture = layer_of(of.mixture.architecture)
    named: dict[str, layer.Popularity] = {words: name for name, words in WORDS.items()}
    if of.load:
        named[RECORDED] = resampled(of.load, mixture.experts)
    rows: list[dict[str, Any]] = []
    for tokens in TOKENS:
        case = dense_equivalent.of(mixture, tokens)
        even = layer.estimate(of.hardware, form(of), case, framework=of.framework).seconds
        for words, load in named.items():
            found = layer.estimate(of.hardware, form(of), case, framework=of.framework, load=load)
            rows.append(
                {"load": words, "tokens": tokens, "seconds": found.seconds, "ratio": found.seconds / even}
                | {"distinct": found.distinct, "source": found.source}
            )
    return pd.DataFrame(rows)


def hottest(of: Study, violations: Mapping[str, float], steps: Sequence[int]) -> pd.DataFrame:
    """load, tokens, factor, pairs, seconds, lower, upper: the busiest expert of a layer, alone on its device.

    violations: name -> MaxVio of a step (busiest over mean, less 1) of a small model, taken over as it is; a
    token reaches an expert once. steps: tokens of a step, all devices together. Ignored: what exchanging
    tokens takes, and experts that share a device.
    """
    mixture, rows = layer_of(of.mixture.architecture), []
    for name, violation in violations.items():
        for tokens in steps:
            pairs = min(tokens * mixture.top_k / mixture.experts * (1 + violation), float(tokens))
            case = LayerCase(max(round(pairs), 1), mixture.hidden, mixture.width, 1, 1, gated=mixture.gated)
            found = layer.estimate(of.hardware, form(of), case, framework=of.framework)
            times = {"seconds": found.seconds, "lower": found.lower, "upper": found.upper}
            rows.append({"load": name, "tokens": tokens, "factor": 1 + violation, "pairs": pairs} | times)
    return pd.DataFrame(rows)


# -- expert parallelism ----------------------------------------------------------------------------


def exchanged(of: Study) -> pd.DataFrame:
    """link, tokens (of each device), low, high (share of the layer's time), source.

    Inside a node: the faster and the slower of DeepEP's two kernels. Between nodes: 16 and 64 devices.
    """
    rows = [
        _share(of, link, tokens, options)
        for link, options in (
            (NODE, ((8, "low_latency"), (8, "normal"))),
            (BETWEEN, ((16, "low_latency"), (64, "low_latency"))),
        )
        for tokens in TOKENS[:11]
    ]
    return pd.DataFrame([row for row in rows if row])


def _share(of: Study, link: str, tokens: int, options: Sequence[tuple[int, str]]) -> dict[str, Any] | None:
    found = []
    for ranks, mode in options:
        with suppress(ConfigError):  # experts do not divide over so many devices
            seconds, measured = _exchange(of, ranks, mode, tokens)
            case = _split(of, ranks, tokens)
            compute = layer.estimate(of.hardware, form(of), case, framework=of.framework).seconds
            found.append((economics.network_share(compute, (seconds, seconds))[0], measured))
    if not found:
        return None
    shares = [share for share, _ in found]
    source = "measured elsewhere" if all(measured for _, measured in found) else "modelled"
    return {"link": link, "tokens": tokens, "low": min(shares), "high": max(shares), "source": source}


def _split(of: Study, ranks: int, tokens: int) -> LayerCase:
    mixture = layer_of(of.mixture.architecture)
    return dense_equivalent.of(mixture, tokens * ranks)._replace(ep=ranks)


def _exchange(of: Study, ranks: int, mode: str, tokens: int) -> tuple[float, bool]:
    """Seconds of dispatch and combine, and whether a table holds them."""
    mixture, system = layer_of(of.mixture.architecture), systems.of(of.hardware)
    shape = {"hidden": mixture.hidden, "experts": mixture.experts, "top_k": mixture.top_k}
    known = tables.deepep(system.name, tokens, ranks=ranks, mode=mode, **shape) if system.own else None
    if known is not None:
        return sum(known), True
    asked = Exchange(ranks, tokens, mixture.hidden, mixture.experts, mixture.top_k, mode == "low_latency")
    place = Place(of.hardware, system.name, system.own, of.framework)
    return kernels.exchange(asked, place).seconds, False
