"""Frames: which runs of an experiment there are, and its figures, each made once for the same runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from app import data
from app.experiments import charts, series
from app.figure import Figure
from moe_core.labs.training.picks import words
from moe_core.labs.training.table import TABLE
from moe_core.specs import Experiment, Strategy
from moe_core.store.queries import Run

EXPERIMENTS = tuple(TABLE)  # their names, in order


class Results(NamedTuple):
    """What there is of one experiment: the shipped run, and the newest made here. None: there is none."""

    lab: Experiment
    reference: Run | None
    own: Run | None

    @property
    def runs(self) -> tuple[Run, ...]:
        """Both, the shipped one first."""
        return tuple(run for run in (self.reference, self.own) if run is not None)

    @property
    def best(self) -> Run | None:
        """The one to be answered with: with most seeds, then the shipped one; None if there is none."""
        return max(self.runs, key=lambda run: seeds(run), default=None)


def results(lab: Experiment) -> Results:
    """The runs of an experiment: full ones ship before quick ones, the newest counts of those made here."""
    table = data.experiments_run()
    mine = table[table["lab"] == lab]
    shipped = mine[mine["reference"].notna()].sort_values("setting")  # full before quick
    own = mine[mine["reference"].isna()].sort_values("created", ascending=False)
    first = [data.run(str(part["run_id"].iloc[0])) if len(part) else None for part in (shipped, own)]
    return Results(lab, *first)


def setting(run: Run) -> str:
    """quick or full."""
    return str(run.spec["training"]["setting"])


def seeds(run: Run) -> int:
    """How many seeds its findings rest on."""
    found = run.summary.get("findings", {})
    return max((int(one.get("seeds", 1)) for one in found.values()), default=0)


def rows(runs: Sequence[Run]) -> pd.DataFrame:
    """Everything that these runs measured, one below the other."""
    found = [series.named(series.of_run(run, data.frame("series", run)), arm_words(run.spec)) for run in runs]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(series.COLUMNS))


def arm_words(spec: Mapping[str, Any]) -> list[str]:
    """The strategies that a question names, in words: its arms are numbered in their order."""
    training = spec.get("training") or {}
    return [words(Strategy.parse(one)) for one in training.get("strategies", ())]


def findings(run: Run) -> dict[str, dict[str, Any]]:
    """name -> value, low, high, seeds, unit."""
    found: dict[str, dict[str, Any]] = run.summary.get("findings", {})
    return found


def all_findings(unit: str, begins: str) -> pd.DataFrame:
    """code, name, origin, value, low, high, seeds of findings in this unit whose name begins so."""
    found = []
    for lab, row in TABLE.items():
        for run in results(lab).runs if row.code else ():
            origin = "measured elsewhere" if run.reference else "measured here"
            found += [
                {
                    "code": row.code,
                    "name": name.removeprefix(begins).strip("._").replace("_", " "),
                    "origin": origin,
                }
                | {key: told.get(key) for key in ("value", "low", "high", "seeds")}
                for name, told in findings(run).items()
                if told.get("unit") == unit and name.startswith(begins)
            ]
    found = [row for row in found if row["low"] is not None] or found  # one seed tells little beside several
    frame = pd.DataFrame(found, columns=["code", "name", "origin", "value", "low", "high", "seeds"])
    return frame.astype({name: "float64" for name in ("value", "low", "high")})


def loads(run: Run, seed: int | None = None) -> pd.DataFrame:
    """The load of the experts of one seed, the first by default; empty where none was written down."""
    found = series.named(data.frame("loads", run), arm_words(run.spec))
    return found[found["seed"] == (found["seed"].min() if seed is None else seed)]


# -- figures ---------------------------------------------------------------------------------------


def _curves(runs: tuple[Run, ...], metric: str, axis: str, part: str) -> Figure:
    every = rows(runs)
    mine = series.without_floor(series.chosen(every, metric, axis, part))
    floor = series.floor(every, metric, part) if axis in ("step", series.SHARE) else None
    return charts.curves(mine, metric, axis, floor=floor)


def _so_far(runs: tuple[Run, ...], metric: str, part: str, step: int) -> Figure:
    """The curves of one run up to a step."""
    every = rows(runs)
    whole = series.without_floor(series.chosen(every, metric, "step", part))
    mine = whole[whole["x"] <= step]
    return charts.curves(
        mine, metric, "step", floor=series.floor(every, metric, part), whole=whole, height=300
    )


def _differences(runs: tuple[Run, ...], metric: str, part: str, base: str) -> Figure:
    mine = series.beside_each_other(series.chosen(rows(runs), metric, "step", part))
    return charts.differences(series.differences(mine, base), metric, base)


def _failures(runs: tuple[Run, ...]) -> Figure:
    return charts.failures(series.failures(rows(runs)))


def _heatmap(runs: tuple[Run, ...], step: int, seed: int, part: str) -> Figure:
    every = loads(runs[0], seed)
    mine = every[[series.part(str(arm)) == part for arm in every["arm"]]]
    return charts.heatmap(mine if part and len(mine) else every, step)


_FIGURES: dict[str, Callable[..., Figure]] = {
    "curves": _curves,
    "so_far": _so_far,
    "differences": _differences,
    "failures": _failures,
    "heatmap": _heatmap,
}


def figure(name: str, runs: Sequence[Run], **options: Any) -> Figure:
    """A figure of `_FIGURES` of these runs, compiled once."""
    identity = tuple((run.run_id, run.created.isoformat()) for run in runs)
    return _figure(name, identity, tuple(sorted(options.items())), tuple(runs))


@st.cache_resource(show_spinner=False, max_entries=256)
def _figure(name: str, key: tuple[Any, ...], options: tuple[Any, ...], _runs: tuple[Run, ...]) -> Figure:
    return _FIGURES[name](_runs, **dict(options))
