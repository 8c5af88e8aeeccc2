"""Board: what an experiment writes down while it runs. Series and loads in, a live picture and a bundle out.

A series is what was measured of an arm along an axis. Findings are numbers that the experiment takes from its
own series by a rule of its file; what they mean for a claim is never decided here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from moe_core.device import describe
from moe_core.labs.training.statistics import Finding
from moe_core.runs import bundle, provenance
from moe_core.runs.context import RunContext
from moe_core.runs.layout import BundleManifest
from moe_core.settings import Settings
from moe_core.specs import Architecture, RunSpec
from moe_core.version import question_id, run_id

SHOW_S = 0.4  # between two live pictures
SHOWN = 160  # points of a series in a live picture: thinned evenly


HOST = torch.device("cpu")


class Points(NamedTuple):
    """One series: x and value, in the order they were measured."""

    x: list[float]
    value: list[float]


class Board:
    """`put` points and `load`s, `step` between two pieces of work, `publish` at the end.

    rules: what was fixed before the run, written into its provenance as it stands; `device`: what computes.
    """

    def __init__(
        self, spec: RunSpec, context: RunContext, rules: Mapping[str, Any], device: torch.device = HOST
    ) -> None:
        self.spec, self.context, self.rules, self.device = spec, context, rules, device
        self.asked = datetime.now(UTC)
        self._curves: dict[tuple[str, int, str, str], Points] = {}
        self._loads: list[tuple[str, int, int, int, list[int]]] = []
        self._shown = -1e9
        context.step("prepare", 0.0)

    def put(self, arm: str, seed: int, metric: str, x: float, value: float, axis: str = "step") -> None:
        """One point. Raises AssertionError for what is not a number: an experiment that diverged says so."""
        assert np.isfinite(value), f"{arm}, seed {seed}: {metric} is {value} at {axis} {x}"
        curve = self._curves.setdefault((arm, seed, metric, axis), Points([], []))
        curve.x.append(float(x))
        curve.value.append(float(value))

    def load(self, arm: str, seed: int, step: int, loads_LE: Sequence[Sequence[int]]) -> None:
        """Pairs that every expert of every layer got since the last time."""
        for layer, load_E in enumerate(loads_LE):
            self._loads.append((arm, seed, step, layer, [int(load) for load in load_E]))

    def curve(self, arm: str, seed: int, metric: str, axis: str = "step") -> Points:
        """What was put of one series."""
        return self._curves[arm, seed, metric, axis]

    def seeds(self, arm: str) -> list[int]:
        """The seeds of an arm, in order."""
        return sorted({seed for name, seed, _, _ in self._curves if name == arm})

    def last(self, arm: str, metric: str, axis: str = "step") -> list[float]:
        """The last value of a metric of an arm, one a seed, in the order of the seeds."""
        return [self.curve(arm, seed, metric, axis).value[-1] for seed in self.seeds(arm)]

    def step(self, share: float, stage: str = "train") -> None:
        """`share` (0 to 1) of the experiment is done. Raises CancelledError when it shall stop."""
        self.context.step(stage, min(0.97, 0.02 + 0.95 * share))
        now = time.monotonic()
        if now - self._shown >= SHOW_S:
            self._shown = now
            self.context.show(self.picture())

    def picture(self) -> dict[str, Any]:
        """Everything so far as plain values: thinned series, and the last load of every arm."""
        series = [
            {"arm": arm, "seed": seed, "metric": metric, "axis": axis, **_thinned(curve)}
            for (arm, seed, metric, axis), curve in self._curves.items()
        ]
        latest: dict[tuple[str, int], dict[str, Any]] = {}
        for arm, seed, step, _, load_E in self._loads:
            row = latest.get((arm, seed))
            if row is None or row["step"] != step:
                latest[arm, seed] = {"arm": arm, "seed": seed, "step": step, "load": [load_E]}
            else:
                row["load"].append(load_E)
        return {"lab": self.spec.lab, "series": series, "loads": list(latest.values())}

    def publish(self, findings: Mapping[str, Finding], architectures: Mapping[str, Architecture]) -> Path:
        """The published bundle. `architectures`: name -> what was trained; "moe" is the mixture, if any."""
        self.context.step("write", 0.98)
        info, identity = describe(self.device), question_id(self.spec)
        manifest = BundleManifest(
            run_id=run_id(identity, info.key),
            question_id=identity,
            spec=self.spec.model_dump(mode="json"),
            created=self.asked,
            duration_s=self.context.elapsed_s,
            stages=self.context.stages,
            provenance=provenance.of_any(info, self.asked, self.spec.seed)
            | {
                "threads": torch.get_num_threads(),
                "dtype": self.rules.get("dtype", "fp32"),
                "kernel": "auto",
                "busy": self.context.busy("prepare").model_dump(mode="json"),
                "waiting": self.context.waiting,
                "rules": dict(self.rules),
            },
            architectures={name: arch.model_dump(mode="json") for name, arch in architectures.items()},
            summary={"findings": {name: found._asdict() for name, found in findings.items()}},
        )
        return bundle.publish(Settings.load().runs_dir, manifest, self.tables())

    def tables(self) -> dict[str, dict[str, Any]]:
        """The tables of the bundle."""
        tables = {"series": self._series()}
        if self._loads:
            tables["loads"] = self._load_rows()
        return tables

    def _series(self) -> dict[str, Any]:
        sizes = [len(curve.x) for curve in self._curves.values()]
        names = zip(*self._curves, strict=True)
        arm, seed, metric, axis = (np.repeat(np.array(part, dtype=object), sizes) for part in names)
        curves = self._curves.values()
        return {
            "arm": arm,
            "seed": seed.astype(np.int32),
            "metric": metric,
            "axis": axis,
            "x": np.concatenate([curve.x for curve in curves]),
            "value": np.concatenate([curve.value for curve in curves]),
        }

    def _load_rows(self) -> dict[str, Any]:
        sizes = [len(row[4]) for row in self._loads]
        arm, seed, step, layer, loads = zip(*self._loads, strict=True)
        return {
            "arm": np.repeat(np.array(arm, dtype=object), sizes),
            "seed": np.repeat(np.array(seed, np.int32), sizes),
            "step": np.repeat(np.array(step, np.int32), sizes),
            "layer": np.repeat(np.array(layer, np.int16), sizes),
            "expert": np.concatenate([np.arange(size, dtype=np.int16) for size in sizes]),
            "load": np.concatenate([np.array(load, np.int64) for load in loads]),
        }


def _thinned(curve: Points) -> dict[str, list[float]]:
    every = max(1, len(curve.x) // SHOWN)
    return {
        "x": [round(x, 6) for x in curve.x[::every]],
        "value": [float(f"{value:.5g}") for value in curve.value[::every]],
    }
