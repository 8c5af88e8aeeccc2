"""Experiments at a size that takes a second or two: what they publish, read back from the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from moe_core.labs.training.arms import TrainSize
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec, Training

TINY = TrainSize(32, layers=2, width=32, batch=4, seq=32, steps=8, seeds=2, heldout=64, windows=4)


class Published(NamedTuple):
    """Findings by name, and series by (arm, seed, metric, axis) as pairs of x and value."""

    findings: dict[str, Any]
    series: dict[tuple[str, int, str, str], list[tuple[float, float]]]
    manifest: dict[str, Any]

    def value(self, name: str) -> float:
        return float(self.findings[name]["value"])

    def last(self, arm: str, metric: str, axis: str = "step") -> list[float]:
        """One a seed."""
        return [self.series[arm, seed, metric, axis][-1][1] for seed in (0, 1)]


def published(lab: ModuleType, folder: Path, seeds: int | None = None, **constants: object) -> Published:
    """What the quick setting of `lab` publishes into `folder` with its constants changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_DATA_DIR", str(folder))
        patch.setattr(lab, "SIZES", {"quick": TINY})
        for name, value in constants.items():
            patch.setattr(lab, name, value)
        spec = RunSpec(lab=lab.__name__.rpartition(".")[2], training=Training(seeds=seeds))
        return read(lab.execute(spec, RunContext()))


def read(bundle: Path) -> Published:
    manifest = json.loads((bundle / "manifest.json").read_text())
    series: dict[tuple[str, int, str, str], list[tuple[float, float]]] = {}
    for row in pq.read_table(bundle / "series.parquet").to_pylist():
        key = (row["arm"], row["seed"], row["metric"], row["axis"])
        series.setdefault(key, []).append((row["x"], row["value"]))
    return Published(manifest["summary"]["findings"], series, manifest)


def of_seed(run: Published, seed: int) -> dict[tuple[str, int, str, str], list[tuple[float, float]]]:
    """The series of one seed."""
    return {key: curve for key, curve in run.series.items() if key[1] == seed}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
