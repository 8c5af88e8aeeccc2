"""Measured: the numbers of a run, read from its bundle. Times with their spread, memory, quality, findings.

A run made again never measures the same time: `slack` is by how much another measurement may differ
from the stored one, beside the spreads of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from moe_core.errors import ConfigError
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle

Every = Iterator[tuple[dict[str, str], "Measured"]]


class Measured(NamedTuple):
    """A value and the ends of its spread, None where it was measured once. `unit`: if the kind has none."""

    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""


class Fact(NamedTuple):
    """One kind of measurement: its unit, all there are in a bundle, and the slack of a repetition."""

    unit: str
    every: Callable[[Bundle], Every]
    slack: float


def find(run_id: str, runs_dir: Path, reference: Path) -> Bundle:
    """The bundle of a run made here or shipped. Raises ConfigError if there is none."""
    path = runs_dir / bundle.check_run_id(run_id)
    if path.is_dir():
        return bundle.read(path)
    for shipped in sorted(reference.iterdir()) if reference.is_dir() else ():
        if (shipped / "manifest.json").exists():
            found = bundle.read(shipped)
            if found.manifest.run_id == run_id:
                return found
    raise ConfigError(f"run_id ({run_id}): is no run of this installation")


def fact(how: str, found: Bundle, arguments: Mapping[str, str]) -> Measured | None:
    """One measurement of a bundle; None where it has none such."""
    return next((value for named, value in FACTS[how].every(found) if named == dict(arguments)), None)


def _timings(found: Bundle) -> Every:
    """Medians over the repeats, 10 % and 90 % quantiles as spread. Decode is per step."""
    keys = ["model", "phase", "component"]
    for names, seconds in _frame(found, "timings").groupby(keys, sort=False)["seconds"]:
        middle, low, high = map(float, seconds.quantile([0.5, 0.1, 0.9]))
        yield dict(zip(keys, map(str, names), strict=True)), Measured(middle, low, high)


def _memory(found: Bundle) -> Every:
    for row in _frame(found, "memory").dropna(subset=["measured_bytes"]).to_dict("records"):
        yield _named(row, "model", "component"), Measured(int(row["measured_bytes"]))


def _quality(found: Bundle) -> Every:
    for row in _frame(found, "quality").to_dict("records"):
        yield _named(row, "model", "top_k", "domain"), Measured(float(row["bits_per_byte"]))


def _load(found: Bundle) -> Every:
    """Routed pairs of the busiest expert of each layer."""
    counts = _frame(found, "decisions").groupby(["layer", "expert"], sort=True).size()
    for layer, pairs in counts.groupby(level="layer"):
        yield {"layer": str(layer)}, Measured(int(pairs.max()))


def _findings(found: Bundle) -> Every:
    """What an experiment found, with its 95 % interval over paired seeds."""
    for name, told in found.manifest.summary.get("findings", {}).items():
        if told["value"] is not None:
            yield {"finding": name}, Measured(told["value"], told["low"], told["high"], told["unit"])


FACTS: dict[str, Fact] = {
    "run.time": Fact("s", _timings, 0.25),
    "run.memory": Fact("B", _memory, 0.05),
    "run.bits": Fact("bit/B", _quality, 0.01),
    "run.busiest": Fact("pairs", _load, 0.01),
    "run.finding": Fact("", _findings, 0.25),
}


def _frame(found: Bundle, name: str) -> pd.DataFrame:
    table = found.table(name) if name in found.tables else None
    frame: pd.DataFrame = table.to_pandas() if table is not None else pd.DataFrame()
    return frame if len(frame) else pd.DataFrame(columns=_COLUMNS[name])


def _named(row: Mapping[Any, Any], *names: str) -> dict[str, str]:
    return {name: str(row[name]) for name in names}


_COLUMNS = {
    "timings": ["model", "phase", "component", "repeat", "seconds"],
    "memory": ["model", "component", "predicted_bytes", "measured_bytes"],
    "quality": ["model", "top_k", "domain", "bits_per_byte", "bytes"],
    "decisions": ["layer", "token", "slot", "expert", "weight"],
}
