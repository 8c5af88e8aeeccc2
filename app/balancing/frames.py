"""Balancing, cached: how unevenly each strategy ends, and what its busiest expert costs at full size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
import streamlit as st

from app.balancing import charts
from app.economics import frames as economics
from app.economics.view import FRAMEWORKS
from app.experiments import frames, series
from app.figure import Figure
from moe_core.errors import ConfigError, InfeasibleError
from moe_core.scenario import loads
from moe_core.scenario.costs import Study
from moe_core.scenario.spec import Scenario
from moe_core.store.queries import Run

EVEN = "even"


class Priced(NamedTuple):
    """What busiest experts cost: `rows` of `loads.hottest`, or the sentence that says why nobody knows."""

    study: Study | None
    rows: pd.DataFrame
    refusal: str = ""


def late(run: Run, metric: str, part: str) -> dict[str, float]:
    """How each strategy ends, the mean over seeds."""
    rows = series.without_floor(series.chosen(frames.rows([run]), metric, "step", part))
    ends = series.ends(rows).groupby("arm", sort=False)["value"].mean()
    return {series.strategy(str(arm)): float(value) for arm, value in ends.items()}


def nearest_part(parts: list[str], top_k: int) -> str:
    """The part of an experiment whose k is nearest: `k=1` or `k=2`; the first where parts are no k's."""

    def distance(name: str) -> int:
        digits = name.removeprefix("k=")
        return abs(int(digits) - top_k) if digits.isdecimal() else 0

    return min(parts, key=distance)


def price(scenario: Scenario, violations: Mapping[str, float]) -> Priced:
    """The busiest expert of a step on the scenario's hardware, for every strategy and an even load."""
    try:
        study = economics.study(scenario, FRAMEWORKS[0], None, None).layer
        return Priced(study, _hottest(repr((study, dict(violations))), study, {**violations, EVEN: 0.0}))
    except (ConfigError, InfeasibleError) as error:
        return Priced(None, pd.DataFrame(), str(error))


@st.cache_resource(show_spinner=False, max_entries=128)
def _hottest(key: str, _study: Study, _violations: Mapping[str, float]) -> pd.DataFrame:
    return loads.hottest(_study, _violations)


def at(rows: pd.DataFrame, load: str, tokens: int) -> float:
    """Seconds at the nearest number of tokens that was priced."""
    mine = rows[rows["load"] == load]
    by_tokens = dict(zip(mine["tokens"], mine["seconds"], strict=True))
    return float(by_tokens[min(by_tokens, key=lambda known: abs(known - tokens))])


def price_figure(found: Priced, tokens: Mapping[str, int]) -> Figure:
    """The price over the tokens of a step, marked at the scenario's own."""
    assert found.study is not None, "it was priced"
    key = repr((found.study, found.rows["factor"].tolist(), dict(tokens)))
    return _price_figure(key, found.rows, tokens, found.study.hardware.title)


@st.cache_resource(show_spinner=False, max_entries=128)
def _price_figure(key: str, _rows: pd.DataFrame, _tokens: Mapping[str, int], _device: str) -> Figure:
    return charts.price(_rows, _tokens, _device, EVEN)
