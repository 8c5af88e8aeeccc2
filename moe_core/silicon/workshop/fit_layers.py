"""Fit the MoE layer model to the measured tables: `python -m moe_core.silicon.workshop.fit_layers`.

For each system, framework, format and kernel: the constants on all rows, and again with each
architecture (hidden, inter, experts, top-k) left out. The constants of every fold are kept, so that the
published error can be computed again from what ships (`layer_accuracy`). A kernel timed on fewer than four
architectures takes the constants of its group's main kernel times one scale. About ten minutes on two cores.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from moe_core.perf.moe_layer import Constants, seconds
from moe_core.silicon.constants import LAYERS, Array
from moe_core.silicon.loads import LOADS
from moe_core.silicon.workshop import layer_tables
from moe_core.silicon.workshop.layer_tables import LayerTable

MIN_SHAPES = 4  # architectures a kernel needs for constants of its own
_MOST, _MOST_FOLD = 9_000, 6_000  # rows a fit sees, drawn evenly over tokens and splits
_START = np.log(Constants())
_LIMIT = 25.0  # of the logarithms: a constant may vanish, not overflow
_BOUNDS = {
    "misaligned": (-_LIMIT, np.log(8)),
    "overlap": (0.0, np.log(8)),
    "cached_gain": (-_LIMIT, np.log(100)),
}
_PULL = 0.3  # towards the start: what the rows do not tell stays where it began, in a fold as in the whole


def fit(table: LayerTable, start: Array = _START, most: int = _MOST, steps: int = 60) -> Array:
    """Logarithms of the constants, [28]: least squares of log errors, outliers softened."""
    seen = _thinned(table, most)
    target = np.log(seen.seconds)

    def residuals(logs: Array) -> Array:
        errors = np.log(seconds(seen.work, constants(logs), cached=True)) - target
        return np.concatenate((errors, _PULL * (logs - _START)))

    sides = np.array([_BOUNDS.get(name, (-_LIMIT, _LIMIT)) for name in Constants._fields]).T
    inside = np.clip(start, sides[0] + 1e-6, sides[1] - 1e-6)
    found = least_squares(residuals, inside, bounds=sides, loss="soft_l1", f_scale=0.1, max_nfev=steps)
    return np.asarray(found.x)


def constants(logs: Array) -> Constants:
    """Constants from their logarithms."""
    return Constants(*(float(value) for value in np.exp(np.clip(logs, -_LIMIT, _LIMIT))))


def _thinned(table: LayerTable, most: int) -> LayerTable:
    """About `most` rows, the same for the same table."""
    count = len(table.seconds)
    if count <= most:
        return table
    keep = np.zeros(count, dtype=bool)
    keep[np.random.default_rng(0).choice(count, most, replace=False)] = True
    return table.where(keep)


def fit_group(table: LayerTable) -> dict[str, Any]:
    """Constants of every kernel of one group, each with its folds."""
    kernels = table.rows["kernel"].to_numpy()
    names = table.rows["kernel"].value_counts().index  # the most measured first
    found: dict[str, Any] = {}
    for name in names:
        part = table.where(kernels == name)
        shapes = sorted(set(part.rows["shape"]))
        found[name] = _own(part, shapes) if len(shapes) >= MIN_SHAPES or not found else {}
    main = next(iter(found))
    for name in names:
        if not found[name]:
            found[name] = _scaled(table.where(kernels == name), found[main], main)
    return {"kernels": found, "serves": _serves(table)}


def _own(table: LayerTable, shapes: list[str]) -> dict[str, Any]:
    logs = fit(table)
    shape = table.rows["shape"].to_numpy()
    folds = {name: fit(table.where(shape != name), logs, _MOST_FOLD, 25) for name in shapes}
    return {
        "constants": _rounded(logs),
        "folds": {name: _rounded(fold) for name, fold in folds.items()},
        "rows": len(table.seconds),
    }


def _scaled(table: LayerTable, main: dict[str, Any], like: str) -> dict[str, Any]:
    """One factor on the main kernel's time: the geometric mean, 1 where no other architecture tells it."""
    modelled = seconds(table.work, Constants(*main["constants"]), cached=True)
    ratios, shape = np.log(table.seconds / modelled), table.rows["shape"].to_numpy()
    factor = {
        name: float(np.exp(ratios[shape != name].mean())) if (shape != name).any() else 1.0
        for name in sorted(set(shape))
    }
    return {"like": like, "scale": float(np.exp(ratios.mean())), "folds": factor, "rows": len(ratios)}


def _serves(table: LayerTable) -> dict[str, str]:
    """The kernel a new architecture would get: the most used one, by the way the layer is split."""
    rows = table.rows
    way = np.where(rows["ep"] > 1, "expert", np.where(rows["tp"] > 1, "tensor", "one"))
    return {name: str(rows["kernel"][way == name].mode()[0]) for name in sorted(set(way))}


def _rounded(logs: Array) -> list[float]:
    return [float(f"{value:.6g}") for value in constants(logs)]


def main(only: list[str]) -> None:
    """Fit every group, or those named `system/framework/dtype`; what is fitted is saved as it comes."""
    if not only:
        layer_tables.draw().to_parquet(LOADS, compression="zstd", index=False)
    saved = json.loads(LAYERS.read_text(encoding="utf-8")) if LAYERS.exists() else {"groups": {}}
    for group in layer_tables.groups():
        name = "/".join(group)
        if only and name not in only:
            continue
        saved["groups"][name] = fit_group(layer_tables.read(*group))
        saved["groups"] = dict(sorted(saved["groups"].items()))
        saved["constants"] = list(Constants._fields)
        LAYERS.write_text(json.dumps(saved, separators=(",", ":")) + "\n", encoding="utf-8")
        print(name, flush=True)
    _lend(saved["groups"])
    LAYERS.write_text(json.dumps(saved, separators=(",", ":")) + "\n", encoding="utf-8")


def _lend(groups: dict[str, Any]) -> None:
    """A format timed on one architecture has no other to learn from: its fold takes the 16-bit constants."""
    for name, group in groups.items():
        system, framework, _ = name.split("/")
        sixteen = groups[f"{system}/{framework}/bf16"]
        for kernel in group["kernels"].values():
            if len(kernel["folds"]) == 1 and "constants" in kernel:
                lent = sixteen["kernels"][sixteen["serves"]["one"]]["constants"]
                kernel["folds"] = dict.fromkeys(kernel["folds"], lent)


if __name__ == "__main__":
    main(sys.argv[1:])
