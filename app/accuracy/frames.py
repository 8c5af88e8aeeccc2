"""Accuracy, cached: the error tables, computed once from what ships, in a process of its own.

They take half a minute, which no session should wait for inside the web server: a child computes them into
the installation's data directory, and the page follows its progress.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from app import data
from app.accuracy import charts
from app.figure import Figure
from moe_core.settings import ROOT
from moe_core.silicon import systems
from moe_core.silicon.workshop import errors
from moe_core.silicon.workshop.errors import GROUP, PROGRESS
from moe_core.silicon.workshop.served import score

FEW = 5  # samples a group of served models needs to be judged
FRAMEWORKS = {"vllm": "vLLM", "sglang": "SGLang"}
MEASURES = {"tpot": "time per output token", "ttft": "time to the first token"}


class State(NamedTuple):
    """How far the tables are: `share` 1 is done; `problem` says why there are none."""

    share: float
    words: str
    problem: str | None


def folder() -> Path:
    """Where this installation keeps them."""
    return data.door().settings.data_dir / "accuracy"


def state() -> State:
    """Start the computation if nobody has, and say how far it is."""
    if (folder() / errors.fingerprint()).exists():
        return State(1.0, "done", None)
    child = _child(str(folder()), errors.fingerprint())
    code = child.poll()
    if code == 0:
        return State(0.0, "", "The files changed while their errors were computed: start the app again")
    if code is not None:
        return State(
            0.0, "", f"The computation ended with code {code}; its words are in {folder() / 'log.txt'}"
        )
    with suppress(OSError, ValueError):
        told = json.loads((folder() / PROGRESS).read_text(encoding="utf-8"))
        return State(float(told["share"]), str(told["words"]), None)
    return State(0.0, "starting", None)


@st.cache_resource(show_spinner=False, on_release=lambda child: child.terminate())
def _child(place: str, _fingerprint: str) -> subprocess.Popen[bytes]:
    """One computation a data directory and content."""
    path = Path(place)
    path.mkdir(parents=True, exist_ok=True)
    with (path / "log.txt").open("wb") as log:
        command = [sys.executable, "-m", "moe_core.silicon.workshop.errors", place]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def again() -> None:
    """Forget a failed computation, so that it starts anew."""
    _child.clear()


def tables() -> dict[str, pd.DataFrame]:
    """Every error table; they are there once `state` says done. Shared, so not to be changed."""
    return _tables(str(folder()), errors.fingerprint())


@st.cache_resource(show_spinner=False, max_entries=2)
def _tables(place: str, _fingerprint: str) -> dict[str, pd.DataFrame]:
    found = errors.read(Path(place))
    assert found is not None, "the caller looked"
    return found


def groups() -> list[tuple[str, str, str]]:
    """Every system, framework and format with errors."""
    return [tuple(row) for row in tables()["groups"][GROUP].itertuples(index=False)]


def of(name: str, group: tuple[str, str, str]) -> pd.DataFrame:
    """The rows of one group in one table."""
    frame = tables()[name]
    keep = (frame[GROUP] == list(group)).all(axis=1)
    return frame[keep].reset_index(drop=True)


def served(kind: str) -> pd.DataFrame:
    """Served samples of one kind: dense, mixture or both."""
    frame = tables()["served"]
    return frame if kind == "both" else frame[frame["kind"] == kind]


def served_score(kind: str, measure: str) -> dict[str, float]:
    """mape, median, bias, within_20 and spearman of models left out."""
    return _served_score(kind, measure, errors.fingerprint())


@st.cache_resource(show_spinner=False, max_entries=32)
def _served_score(kind: str, measure: str, _fingerprint: str) -> dict[str, float]:
    rows = served(kind)
    keys = rows["configuration"].tolist()
    return score(rows[f"{measure}_predicted"].tolist(), rows[measure].tolist(), keys)._asdict()


# -- figures ---------------------------------------------------------------------------------------


def words(group: tuple[str, str, str]) -> str:
    """`H100, vLLM, bf16`."""
    system, framework, form = group
    return f"{systems.SYSTEMS[system]}, {FRAMEWORKS[framework]}, {form}"


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(group=[words(one) for one in rows[GROUP].itertuples(index=False)])


def _scatter(group: tuple[str, str, str]) -> Figure:
    top = of("groups", group).to_dict("records")[0]
    return charts.scatter(
        of("scatter", group), words(group), {str(k): top[k] for k in ("mape", "median", "rows")}
    )


def _hardware() -> Figure:
    return charts.ranges(_named(tables()["groups"]), "group", "hardware and format")


def _coverage() -> Figure:
    return charts.coverage(_named(tables()["groups"]), "group")


def _cut(group: tuple[str, str, str], cut: str) -> Figure:
    rows = of("cuts", group)
    rows = rows[rows["cut"] == cut]
    order = sorted(rows["value"], key=_first) if cut == "tokens" else None
    return charts.ranges(rows, "value", cut, order)


def _first(words: str) -> int:
    """The first number of `65 to 512` or `above 512`."""
    number = next(word for word in words.replace(",", "").split() if word.isdigit())
    return int(number) + ("above" in words)


def _spread(group: tuple[str, str, str]) -> Figure:
    return charts.spread(of("bins", group), words(group))


def _served(kind: str, measure: str) -> Figure:
    rows = served(kind)
    keys = ["configuration", "kind", "model", "framework", "device", "sequences", "isl", "osl"]
    middle = rows.groupby(keys)[[measure, f"{measure}_predicted"]].median().reset_index()
    middle = middle.drop(columns="configuration")
    middle = middle.rename(columns={measure: "measured", f"{measure}_predicted": "predicted"})
    said = MEASURES[measure]
    return charts.served(middle, said.capitalize(), said, served_score(kind, measure))


def _by_model(kind: str, measure: str) -> Figure:
    rows = served(kind)
    off = (rows[f"{measure}_predicted"] / rows[measure] - 1).abs()
    keys = charts.groups_of(rows, ["model", "framework", "device"])
    found = [
        {
            "group": name,
            "rows": len(part),
            "mape": part.mean(),
            "median": part.median(),
            "p90": part.quantile(0.9),
        }
        for name, part in off.groupby(keys)
        if len(part) >= FEW
    ]
    return charts.ranges(pd.DataFrame(found), "group", "served model")


FIGURES: dict[str, Callable[..., Figure]] = {
    "scatter": _scatter,
    "hardware": _hardware,
    "coverage": _coverage,
    "cut": _cut,
    "spread": _spread,
    "served": _served,
    "by_model": _by_model,
}


def figure(name: str, **options: Any) -> Figure:
    """A figure of `FIGURES`, compiled once for the tables that ship."""
    return _figure(name, tuple(sorted(options.items())), errors.fingerprint())


@st.cache_resource(show_spinner=False, max_entries=256)
def _figure(name: str, options: tuple[Any, ...], _fingerprint: str) -> Figure:
    return FIGURES[name](**dict(options))
