"""Rulings: the scenario as a decision, made once for one question. Specs, verdicts, what-ifs, their figures.

A question's key is its spec and the run it heard; verdicts and figures are shared between sessions.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import streamlit as st

from app import data
from app.decide import charts
from app.figure import Figure
from moe_core.decide import counter, flips, knobs, rules, sensitivity, verdict
from moe_core.decide.case import Recorded
from moe_core.decide.counter import Counter
from moe_core.decide.flips import Flip, Point
from moe_core.decide.headline import QUICK, sensible
from moe_core.decide.spec import DecideSpec
from moe_core.decide.verdict import Verdict
from moe_core.report import decided
from moe_core.report.decided import Decided
from moe_core.store.queries import Run


class Ruling(NamedTuple):
    """A verdict, under the key by which its what-ifs are kept."""

    key: str
    verdict: Verdict


# -- the answer ------------------------------------------------------------------------------------


def rule(asked: DecideSpec, run: Run | None) -> Ruling:
    """The verdict. Raises InfeasibleError or ConfigError, one sentence."""
    recorded = data.recorded(run) if run else None
    key = f"{asked.model_dump_json()} {hash(recorded)}"
    return Ruling(key, _verdict(key, asked, recorded))


@st.cache_resource(show_spinner=False, max_entries=256)
def _verdict(key: str, _asked: DecideSpec, _recorded: Recorded | None) -> Verdict:
    return verdict.decide(_asked, _recorded)


def turns(of: Ruling, knob: str) -> tuple[Flip, ...]:
    """What would flip it: one input's flips, the nearest first."""
    return _turns(of.key, knob, of.verdict)


@st.cache_resource(show_spinner=False, max_entries=1024)
def _turns(key: str, knob: str, _found: Verdict) -> tuple[Flip, ...]:
    return flips.between(_found, knob, _points(key, knob, _found))


@st.cache_resource(show_spinner=False, max_entries=1024)
def _points(key: str, knob: str, _found: Verdict) -> tuple[Point, ...]:
    return flips.curve(_found, knob)


def every_turn(of: Ruling) -> tuple[Flip, ...]:
    """The flips of all inputs, the nearest first."""
    found = [flip for name in knob_names(of) for flip in turns(of, name)]
    return tuple(sorted(found, key=lambda flip: flip.distance))


def nearest(of: Ruling) -> Flip | None:
    """The flip that the headline names; quick to find."""
    return sensible([flip for name in QUICK if name in knob_names(of) for flip in turns(of, name)])


def against(of: Ruling) -> tuple[Counter, ...]:
    """What speaks against it, the strongest first."""
    return _against(of.key, of.verdict)


@st.cache_resource(show_spinner=False, max_entries=256)
def _against(key: str, _found: Verdict) -> tuple[Counter, ...]:
    return counter.counters(_found)


def knob_names(of: Ruling) -> dict[str, str]:
    """Inputs that could turn it: id and title."""
    return {one.id: one.title for one in knobs.in_play(of.verdict.spec)}


def kept(of: Ruling) -> Decided:
    """The verdict with every flip, as reviews and exports keep it."""
    return _kept(of.key, of)


@st.cache_resource(show_spinner=False, max_entries=64)
def _kept(key: str, _of: Ruling) -> Decided:
    return decided.keep(_of.verdict, every_turn(_of))


# -- figures ---------------------------------------------------------------------------------------


def curve(of: Ruling, knob: str) -> Figure:
    """The margin over one input."""
    return _curve(of.key, knob, of)


@st.cache_resource(show_spinner=False, max_entries=256)
def _curve(key: str, knob: str, _of: Ruling) -> Figure:
    found, one = _of.verdict, rules.knobs()[knob]
    points = _table(_points(key, knob, found))
    now = knobs.value(found.spec, knob)
    assert now is not None, "only knobs in play are drawn"
    regions = _regions(turns(_of, knob), points)
    return charts.against(points, regions, charts.Knob(one.title, one.unit, float(now), one.whole))


def _table(points: tuple[Point, ...]) -> pd.DataFrame:
    """value, margin, winner, and the devices that each candidate takes there."""
    rows = [(one.value, one.margin, one.winner or charts.NEITHER, *map(float, one.devices)) for one in points]
    return pd.DataFrame(rows, columns=["value", "margin", "winner", *charts.DEVICES])


def _regions(found: tuple[Flip, ...], points: pd.DataFrame) -> pd.DataFrame:
    """low, high, winner between the flips, from one end of the range to the other."""
    ordered = sorted(found, key=lambda flip: flip.low)
    edges = [float(points["value"].min()), *(flip.at for flip in ordered), float(points["value"].max())]
    winners = [points["winner"].iloc[0], *(flip.above or charts.NEITHER for flip in ordered)]
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "winner": winners})


def factors(of: Ruling) -> Figure:
    """Every factor as a bar."""
    return _factors(of.key, of.verdict)


@st.cache_resource(show_spinner=False, max_entries=256)
def _factors(key: str, _found: Verdict) -> Figure:
    shown = ("title", "score", "weight", "pull", "winner", "evidence", "provenance")
    ordered = sorted(_found.factors, key=lambda one: -abs(one.pull))
    rows = [{name: getattr(one, name) for name in shown} for one in ordered]
    return charts.factors(pd.DataFrame(rows), _found.winner or "dense")


def swings(of: Ruling) -> Figure:
    """How far each weight, input and error moves the margin."""
    return _swings(of.key, of.verdict)


@st.cache_resource(show_spinner=False, max_entries=256)
def _swings(key: str, _found: Verdict) -> Figure:
    rows = [one._asdict() for one in sensitivity.swings(_found)]
    return charts.tornado(pd.DataFrame(rows), _found.margin)
