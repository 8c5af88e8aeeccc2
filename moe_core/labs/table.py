"""The table of labs: what a worker can be asked, one row an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from moe_core.labs import device_probe, layer_sweep, topk_sweep
from moe_core.labs.training import table as experiments
from moe_core.runs import execute
from moe_core.runs.context import RunContext
from moe_core.specs import EXPERIMENTS, RunSpec

LABS: Mapping[str, Callable[[RunSpec, RunContext], Path]] = {
    "bench": execute.execute,
    "topk_sweep": topk_sweep.execute,
    "layer_sweep": layer_sweep.execute,
    "real_layers": layer_sweep.execute_real,
    "calibrate": device_probe.execute,
    **dict.fromkeys(EXPERIMENTS, experiments.perform),
}
