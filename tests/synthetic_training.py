"""Synthetic experiments: the tables and findings of a training run in milliseconds, no torch.

Arms are none, auxiliary and bias, at k = 1 and 2, with the sampling floor beside them. Without balancing the
load is uneven by far; losses differ by less than seeds do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from moe_core.labs.training.statistics import over_seeds, paired
from moe_core.specs import RunSpec

STEPS = tuple(range(10, 101, 10))
VIOLATION = {"none": 4.0, "auxiliary": 1.0, "bias": 1.5}
EXPERTS, LAYERS = 8, 2
FLOOR = 0.13


def tables(spec: RunSpec) -> dict[str, Any]:
    """`series` and `loads` of one experiment."""
    series = list(_series(spec))
    loads = list(_loads(spec))
    names = ("arm", "seed", "metric", "axis", "x", "value")
    columns = dict(zip(names, map(list, zip(*series, strict=True)), strict=True))
    if spec.lab == "gates":  # the one without loads
        return {"series": columns}
    names = ("arm", "seed", "step", "layer", "expert", "load")
    return {"series": columns, "loads": dict(zip(names, map(list, zip(*loads, strict=True)), strict=True))}


def seeds(spec: RunSpec) -> range:
    """As many as are asked for, else one quick or three full ones."""
    assert spec.training is not None
    count = spec.training.seeds or (1 if spec.training.setting == "quick" else 3)
    return range(spec.seed, spec.seed + count)


def arms() -> Iterator[tuple[str, str]]:
    """(strategy, arm)."""
    for k in (1, 2):
        for name in VIOLATION:
            yield name, f"{name}, k={k}"


def loss(name: str, seed: int) -> float:
    """At the end, on held-out text."""
    return 2.6 + 0.05 * np.sin(7 * seed + len(name))


def _series(spec: RunSpec) -> Iterator[tuple[Any, ...]]:
    for k in (1, 2):
        for step in (1, STEPS[-1]):
            yield f"uniform, k={k}", spec.seed, "maxvio_step", "step", float(step), FLOOR
            yield f"uniform, k={k}", spec.seed, "maxvio_step_p95", "step", float(step), FLOOR * 1.5
    for seed in seeds(spec):
        for name, arm in arms():
            for step in STEPS:
                spread = 1 + 0.05 * np.sin(seed + step)
                yield arm, seed, "loss", "step", float(step), 5.5 - 2.5 * step / STEPS[-1] + 0.01 * seed
                yield arm, seed, "maxvio_step", "step", float(step), VIOLATION[name] * spread
                yield arm, seed, "effective", "step", float(step), 0.4 if name == "none" else 0.95
                yield arm, seed, "router_effective", "step", float(step), 0.8
            yield arm, seed, "heldout", "step", float(STEPS[-1]), loss(name, seed)
            yield arm, seed, "heldout", "flops", 2.0e9, loss(name, seed)
        if spec.lab == "bias":  # the dual of fixed scores, which rules climb
            for name, height in (("sign", 0.9), ("quantile", 1.0)):
                for step in STEPS:
                    yield f"dual, {name}", seed, "dual", "step", float(step), height * step / STEPS[-1]
                    yield (
                        f"dual, {name}",
                        seed,
                        "dual_violation",
                        "step",
                        float(step),
                        0.5 - height * step / 250,
                    )


def _loads(spec: RunSpec) -> Iterator[tuple[Any, ...]]:
    for seed in seeds(spec):
        for name, arm in arms():
            for step in STEPS:
                for layer in range(LAYERS):
                    for expert in range(EXPERTS):
                        hot = 100 * VIOLATION[name] if expert == (step + layer) % EXPERTS else 0.0
                        yield arm, seed, step, layer, expert, int(100 + hot)


def summary(spec: RunSpec) -> dict[str, Any]:
    """Findings, under the names of the collapse experiment."""
    found = {}
    for k in (1, 2):
        for name, value in VIOLATION.items():
            found[f"maxvio_step.{name}.k{k}"] = over_seeds([value + 0.1 * seed for seed in seeds(spec)])
        pairs = ([loss(name, seed) for seed in seeds(spec)] for name in ("none", "bias"))
        found[f"loss_difference.k{k}"] = paired(*pairs, "nats")
    return {"findings": {name: value._asdict() for name, value in found.items()}}
