"""Economics, cached: studies, frames and figures of the economics page, each made once for one question.

Kept by content: a study does not depend on the scenario's batch except through the devices it takes, so the
batch knob finds everything but the markers again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from app import data
from app.economics import charts, dense_equivalent
from app.economics import worth as worth_chart
from app.figure import Figure
from app.speed import layers
from app.speed.layers import BEST
from moe_core.errors import ConfigError
from moe_core.scenario import costs, loads, worth
from moe_core.scenario.costs import Study
from moe_core.scenario.spec import Scenario
from moe_core.silicon import constants, systems
from moe_core.silicon.workshop import layer_accuracy
from moe_core.specs import RunSpec
from moe_core.store.queries import Run


def study(scenario: Scenario, framework: str, run: Run | None, beside: str | None) -> Study:
    """What the page prices. Raises ConfigError or InfeasibleError, one sentence."""
    load = data.recorded(run).load if run else None
    asked = (scenario._replace(text=None), framework, load, beside)
    return _study(repr(asked), asked)


@st.cache_resource(show_spinner=False, max_entries=256)
def _study(key: str, _asked: tuple[Any, ...]) -> Study:
    return costs.study(*_asked)


# -- frames ----------------------------------------------------------------------------------------


def _decode(of: Study) -> pd.DataFrame:
    return costs.steps(of, "decode")


def _prefill(of: Study) -> pd.DataFrame:
    return costs.steps(of, "prefill", costs.BATCHES[:7])


def _curves(of: Study) -> pd.DataFrame:
    return loads.curve_rows(loads.curves(of), of)


def _parts(of: Study, phase: costs.Phase) -> pd.DataFrame:
    return costs.parts(of, phase, costs.BATCHES if phase == "decode" else costs.BATCHES[:7])


def _crossings(of: Study, phase: costs.Phase) -> dict[str, list[tuple[int, str]]]:
    return {one.name: costs.crossings(of, one, phase) for one in of.rivals}


_FRAMES: dict[str, Callable[..., Any]] = {
    "decode": _decode,
    "prefill": _prefill,
    "curves": _curves,
    "parts": _parts,
    "cache": costs.cache_bytes,
    "slowness": costs.slowness,
    "crossings": _crossings,
    "imbalance": loads.imbalance,
    "exchanged": loads.exchanged,
    "worth": worth.of,
}


_OF_LAYER = ("curves", "imbalance", "exchanged", "exchange", "worth")


def frame(name: str, of: Study, **options: Any) -> Any:
    """A table of `_FRAMES`; shared, so not to be changed."""
    of = of.layer if name in _OF_LAYER else of
    return _frame(name, repr(of), tuple(sorted(options.items())), of)


@st.cache_resource(show_spinner=False, max_entries=512)
def _frame(name: str, key: str, options: tuple[Any, ...], _of: Study) -> Any:
    return _FRAMES[name](_of, **dict(options))


def live(of: Study, spec: RunSpec) -> tuple[pd.DataFrame, Run] | None:
    """A layer sweep as a curve: of this very layer where it was timed, else of the test model."""
    wanted = costs.layer_of(of.mixture.architecture)
    for lab in ("real_layers", "layer_sweep"):
        run = data.tested(spec.model_copy(update={"lab": lab}))
        for one in layers.facts(run) if run else ():
            if run and (one.layer == wanted or not one.random):
                return _live(run.run_id, run.created.isoformat(), one.name, run), run
    return None


@st.cache_resource(show_spinner=False, max_entries=128)
def _live(run_id: str, created: str, subject: str, _run: Run) -> pd.DataFrame:
    one = next(facts for facts in layers.facts(_run) if facts.name == subject)
    rows = layers.equivalents(layers.of(data.frame("layers", _run), one), one)
    rows = rows[rows["name"] == BEST]
    scale = one.label if one.random else "the test model's layer"
    where = "this device" if _run.reference is None else str(_run.provenance["device"])
    return pd.DataFrame(
        {
            "series": f"{scale} on {where}",
            "kind": "measured here" if _run.reference is None else "measured elsewhere",
            "tokens": rows["tokens"],
            "seconds": float("nan"),
            "width": rows["width"],
            "low": rows["width"],
            "high": rows["width"],
            "beyond": rows["beyond"],
            "active": one.layer.active_width,
            "total": one.layer.total_width,
        }
    )


# -- figures ---------------------------------------------------------------------------------------


def curve(of: Study, spec: RunSpec, here: dict[str, int], unit: dense_equivalent.Unit) -> Figure:
    """The dense-equivalent curve, with this device's own where it was timed."""
    beside = live(of, spec)
    key = (beside[1].run_id, beside[1].created.isoformat()) if beside else None
    found = _curve(repr((of.layer, key, unit)), of.layer, beside[0] if beside else None, here, unit)
    return dense_equivalent.moved(found, here)


@st.cache_resource(show_spinner=False, max_entries=512)
def _curve(
    key: str, _of: Study, _live: pd.DataFrame | None, _here: dict[str, int], _unit: dense_equivalent.Unit
) -> Figure:
    rows = frame("curves", _of)
    if _live is not None:
        rows = pd.concat([rows, _live], ignore_index=True)
    return dense_equivalent.curve(rows, loads.lines(_of), _here, _unit)


def _over_batch(of: Study, phase: str) -> Figure:
    return charts.over_batch(frame(phase, of), charts.SECONDS, 1, _WHAT[phase])


def _rate(of: Study) -> Figure:
    return charts.over_batch(costs.rates(frame("decode", of), 1.0), charts.RATE, 1, _WHAT["rate"])


def _dollars(of: Study, price: float) -> Figure:
    rows = costs.rates(frame("decode", of), price)
    return charts.over_batch(rows, charts.DOLLARS, 1, _WHAT["dollars"])


_WHAT = {
    "decode": "the time per output token",
    "prefill": "the time of the prompts",
    "rate": "the output of one device",
    "dollars": "the price of a million tokens",
}


def over_batch(what: str, of: Study, here: int, price: float = 1.0) -> Figure:
    """decode, prefill, rate or dollars over batch, marked at `here`."""
    if what in ("decode", "prefill"):
        found, value = figure("over_batch", of, phase=what), charts.SECONDS
    elif what == "rate":
        found, value = figure("rate", of), charts.RATE
    else:
        found, value = figure("dollars", of, price=price), charts.DOLLARS
    return charts.moved(found, value, here, _WHAT[what])


def _demand(of: Study, price: float) -> Figure:
    return charts.over_demand(costs.over_demand(frame("decode", of), price))


_FIGURES: dict[str, Callable[..., Figure]] = {
    "over_batch": _over_batch,
    "rate": _rate,
    "dollars": _dollars,
    "demand": _demand,
    "parts": lambda of, phase: charts.parts(frame("parts", of, phase=phase), phase),
    "cache": lambda of: charts.cache(frame("cache", of)),
    "imbalance": lambda of: charts.imbalance(frame("imbalance", of)),
    "exchange": lambda of: charts.exchange(frame("exchanged", of), loads.PUBLISHED),
    "worth": lambda of, tokens: worth_chart.chart(frame("worth", of, tokens=tokens), tokens),
}


def figure(name: str, of: Study, **options: Any) -> Figure:
    """A figure of `_FIGURES`, compiled once."""
    of = of.layer if name in _OF_LAYER else of
    return _figure(name, repr(of), tuple(sorted(options.items())), of)


@st.cache_resource(show_spinner=False, max_entries=512)
def _figure(name: str, key: str, options: tuple[Any, ...], _of: Study) -> Figure:
    return _FIGURES[name](_of, **dict(options))


# -- how far to trust it ---------------------------------------------------------------------------


@st.cache_resource(show_spinner=False, max_entries=128)
def error_words(device: str, framework: str, form: str) -> str:
    """What is known of the error behind a modelled number, for its tooltip."""
    from moe_core import hardware

    system = systems.of(hardware.get(device))
    try:
        layer = layer_accuracy.score(layer_accuracy.errors(system.name, framework, form))
        words = (
            f"MoE layers of architectures left out: {layer['mape']:.0%} in the mean ({system.name}, {form})"
        )
    except ConfigError:
        words = f"MoE layers in {form} were not measured on {system.name}: its nearest format serves"
    spread = constants.served(framework).get("spread", 0.0)
    served = f"80 % of served models left out lie within {spread:.0%} per output token" if spread else ""
    far = (
        ""
        if system.own
        else f"no table is of {device}: constants of {system.name}, scaled by the data sheets"
    )
    return "; ".join(part for part in (words, served, far, "see Accuracy") if part)
