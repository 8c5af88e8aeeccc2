"""Findings: what experiments found, by lab and name, and which run speaks where several have found the same.

A run keeps `findings` in its summary: name -> value, low, high (95 % over paired seeds), seeds, unit. Numbers
only: a verdict is made of them in `ledger`, each time anew. Whoever has runs (store, bundles) hands them in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from math import isfinite
from typing import Any, NamedTuple


class RunFinding(NamedTuple):
    """One number of one run. low, high: its 95 % interval over paired seeds, None with fewer than two.

    seeds: 0 where nothing is left to chance. here: made on this installation, else shipped. where: device,
    versions and date in words.
    """

    value: float
    low: float | None
    high: float | None
    seeds: int
    unit: str
    run_id: str
    here: bool = True
    where: str = ""


Findings = Mapping[str, Mapping[str, RunFinding]]


class LabRun(NamedTuple):
    """A complete run of an experiment, as far as findings go. `findings` as its summary holds them."""

    lab: str
    run_id: str
    created: datetime
    here: bool
    where: str
    findings: Mapping[str, Any]


def best(runs: Iterable[LabRun]) -> Findings:
    """Of every finding the one that rests on most seeds, the newest of those: a quick look changes no law."""
    chosen: dict[str, dict[str, RunFinding]] = {}
    for run in sorted(runs, key=lambda one: (one.created, one.run_id), reverse=True):
        known = chosen.setdefault(run.lab, {})
        for name, values in run.findings.items():
            found = _finding(run, values)
            if found is not None and (name not in known or known[name].seeds < found.seeds):
                known[name] = found
    return {lab: found for lab, found in chosen.items() if found}


def _finding(run: LabRun, values: Any) -> RunFinding | None:
    """What a summary holds as a finding; None for what is none, such as a number that never came about."""
    if not isinstance(values, Mapping) or not _number(values.get("value")):
        return None
    ends = [values.get(name) for name in ("low", "high")]
    low, high = (float(end) for end in ends) if all(map(_number, ends)) else (None, None)  # type: ignore[arg-type]
    seeds = values.get("seeds")
    many = seeds if isinstance(seeds, int) and not isinstance(seeds, bool) else 1
    unit = str(values.get("unit") or "")
    return RunFinding(float(values["value"]), low, high, max(many, 0), unit, run.run_id, run.here, run.where)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
