"""Catalogue: the models a session can look at, and what is kept of them between reruns.

Published models are the same for everybody; imported and edited ones belong to the session. What is
drawn of a model is kept by its content, so a figure is compiled once whoever looks at it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app import data
from app.architectures import anatomy, charts, tables
from app.figure import Figure
from app.models import mine
from moe_core.errors import ConfigError, MoEScopeError
from moe_core.hf import apart
from moe_core.perf import twins as dense
from moe_core.perf.twins import Twin
from moe_core.scenario import subjects
from moe_core.scenario.subjects import CONVENTIONS, Subject

PATIENCE_S = 60.0  # for another session's model, which is counted first


@st.cache_resource(show_spinner=False)
def table(rumours: bool = False) -> pd.DataFrame:
    """All published models, one a row; rumours only where asked for. Shared, so not to be changed."""
    return tables.table([subjects.published(name) for name in subjects.names(rumours)])


def _key(*models: Subject) -> str:
    """What a figure of `models` depends on."""
    return repr([(one.name, one.standing, one.parameters, one.architecture) for one in models])


# -- figures ---------------------------------------------------------------------------------------


def scatter(shown: Subject, convention: str, rumours: bool) -> Figure:
    """Total against active of everything published, with the session's own models among them."""
    own = {**mine(), shown.name: shown}.values()
    ours = [one for one in own if one.standing in ("imported", "edited")]
    return _scatter(_key(*ours), shown.name, convention, rumours, ours)


@st.cache_resource(show_spinner=False, max_entries=256)
def _scatter(key: str, shown: str, convention: str, rumours: bool, _ours: list[Subject]) -> Figure:
    rows = table(rumours)
    if _ours:
        rows = pd.concat([rows, tables.table(_ours)], ignore_index=True)
    rows = rows.assign(active=rows[convention])
    return charts.scatter(rows, shown, CONVENTIONS[convention])


@st.cache_resource(show_spinner=False)
def over_years(field: str) -> Figure:
    """Experts or top-k of published mixtures by year."""
    return charts.over_years(table(), field)


def parameters(*models: Subject) -> Figure:
    """Parameters by component: of one model in detail, of several side by side."""
    return _parameters(_key(*models), models)


@st.cache_resource(show_spinner=False, max_entries=256)
def _parameters(key: str, _models: tuple[Subject, ...]) -> Figure:
    rows = tables.parts(list(_models))
    return charts.one(rows) if len(_models) == 1 else charts.several(rows)


def diagram(model: Subject) -> Figure | None:
    """The block diagram; None where only sizes are known."""
    return _diagram(_key(model), model) if model.architecture is not None else None


@st.cache_resource(show_spinner=False, max_entries=256)
def _diagram(key: str, _model: Subject) -> Figure:
    assert _model.architecture is not None, "the caller checks"
    arch, parts = _model.architecture, _model.parameters.breakdown
    return charts.block(*anatomy.boxes(arch, parts), anatomy.title(arch, parts))


def dense_twins(model: Subject) -> list[Twin]:
    """Every dense twin that exists; none of a dense model or of one that only a record describes."""
    if model.architecture is None or model.architecture.experts is None:
        return []
    return dense.twins(model.architecture)


def twin_figure(model: Subject) -> Figure:
    """The mixture beside its dense twins."""
    return _twins(_key(model), model)


@st.cache_resource(show_spinner=False, max_entries=128)
def _twins(key: str, _model: Subject) -> Figure:
    found = [subjects.twin(one) for one in dense_twins(_model)]
    return charts.twins(tables.parts([_model, *found]), _model.name)


# -- counting apart --------------------------------------------------------------------------------


@st.cache_resource(show_spinner=False)
def _counting() -> threading.Semaphore:
    """One model at a time: transformers takes a gigabyte and a core for ten seconds."""
    return threading.Semaphore(1)


def count_apart(config: Mapping[str, Any], name: str) -> Subject:
    """Counted by transformers in a process of its own, kept by content. Raises ConfigError, one sentence."""
    turn = _counting()
    if not turn.acquire(timeout=PATIENCE_S):
        raise ConfigError(f"{name}: another model has been counted for {PATIENCE_S:.0f} s; try again soon")
    try:
        folder = data.door().settings.data_dir / "counts"
        return subjects.exactly(name, apart.built_apart(config, folder, name))
    except OSError as error:
        raise ConfigError(f"{name}: the answer could not be kept ({error.strerror})") from error
    finally:
        turn.release()


def problem_of(error: MoEScopeError) -> str:
    """One sentence, cut where a config put a novel into a field."""
    text = str(error)
    return text if len(text) <= 300 else text[:297] + "..."
