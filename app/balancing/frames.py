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


class HotPrice(NamedTuple):
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


def tokens(scenario: Scenario) -> dict[str, int]:
    """Tokens of a step of the scenario: of decoding, and of its prompts."""
    return {"decoding": scenario.batch, "prompts": scenario.batch * scenario.prompt}


def price(scenario: Scenario, violations: Mapping[str, float]) -> HotPrice:
    """The busiest expert of a step on the scenario's hardware, for every strategy and an even load."""
    here = tokens(scenario).values()
    powers = range(0, max(max(here) - 1, 1).bit_length() + 1, 2)
    steps = tuple(sorted({*here, *(2**at for at in (*powers, powers[-1] + 2))}))
    try:
        study = economics.study(scenario, FRAMEWORKS[0], None, None).layer
        key = repr((study, dict(violations), steps))
        return HotPrice(study, _hottest(key, study, {**violations, EVEN: 0.0}, steps))
    except (ConfigError, InfeasibleError) as error:
        return HotPrice(None, pd.DataFrame(), str(error))


@st.cache_resource(show_spinner=False, max_entries=128)
def _hottest(
    key: str, _study: Study, _violations: Mapping[str, float], _steps: tuple[int, ...]
) -> pd.DataFrame:
    return loads.hottest(_study, _violations, _steps)


def at(rows: pd.DataFrame, load: str, step: int) -> float:
    """Seconds at a number of tokens that was priced."""
    return float(rows.loc[(rows["load"] == load) & (rows["tokens"] == step), "seconds"].iloc[0])


def price_figure(found: HotPrice, here: Mapping[str, int]) -> Figure:
    """The price over the tokens of a step, marked at the scenario's own."""
    assert found.study is not None, "it was priced"
    key = repr((found.study, found.rows["factor"].tolist(), dict(here)))
    return _price_figure(key, found.rows, here, found.study.hardware.title)


@st.cache_resource(show_spinner=False, max_entries=128)
def _price_figure(key: str, _rows: pd.DataFrame, _here: Mapping[str, int], _device: str) -> Figure:
    return charts.price(_rows, _here, _device, EVEN)
