"""The error of the MoE layer model, computed from what ships: every measured point against a prediction
by constants that never saw its architecture.

Intervals are conformal: the quantiles of the log errors of the *other* architectures in the same bucket of
tokens and split. So their coverage is a measurement too. `python -m moe_core.silicon.workshop.layer_accuracy`
writes the quantiles of all architectures together, which answers need at once, to layer_intervals.json.
"""

from __future__ import annotations

import json
from functools import cache as once

import numpy as np
import pandas as pd

from moe_core.perf.moe_layer import seconds
from moe_core.silicon import constants
from moe_core.silicon.constants import BUCKETS, INTERVALS, Array, Interval, bucket
from moe_core.silicon.workshop import layer_tables
from moe_core.silicon.workshop.layer_tables import LayerTable

CLAIM = 0.8  # what the interval claims to hold
_FEW = 30  # errors a quantile needs


@once
def errors(system: str, framework: str, dtype: str) -> pd.DataFrame:
    """Every point of a group: what was timed, and in seconds measured, predicted, lower and upper."""
    table = layer_tables.read(system, framework, dtype)
    columns = ["shape", "kernel", "tp", "ep", "distribution", "tokens"]
    frame = table.rows[columns].copy()
    frame["measured"], frame["predicted"] = table.seconds, held_out(table)
    frame["bucket"] = bucket(frame["tokens"].to_numpy(), frame["tp"].to_numpy(), frame["ep"].to_numpy())
    low, high = _conformal(frame)
    return frame.assign(lower=frame["predicted"] * low, upper=frame["predicted"] * high)


def held_out(table: LayerTable) -> Array:
    """Predictions of every row by the fold that left its architecture out."""
    found = np.full(len(table.seconds), np.nan)
    shape, kernel = table.rows["shape"].to_numpy(), table.rows["kernel"].to_numpy()
    for name, fitted in constants.layer_kernels(table.system, table.framework, table.dtype).items():
        for left_out, (own, scale) in fitted.folds.items():
            rows = (kernel == name) & (shape == left_out)
            found[rows] = scale * np.asarray(seconds(table.where(rows).work, own, cached=True))
    assert not np.isnan(found).any(), "layer_constants.json is older than moe.parquet: fit again"
    return found


def measure(system: str, framework: str, dtype: str) -> tuple[Interval, ...]:
    """The intervals of one group, from all its errors."""
    frame = errors(system, framework, dtype)
    ratios = (frame["measured"] / frame["predicted"]).to_numpy()
    buckets = frame["bucket"].to_numpy()
    return tuple(_quantiles(ratios, buckets == which) for which in range(3 * (len(BUCKETS) - 1)))


def _conformal(frame: pd.DataFrame) -> tuple[Array, Array]:
    ratios = (frame["measured"] / frame["predicted"]).to_numpy()
    shape, buckets = pd.factorize(frame["shape"])[0], frame["bucket"].to_numpy()  # numbers compare fast
    low, high = np.empty(len(frame)), np.empty(len(frame))
    for which in np.unique(buckets):
        inside = buckets == which
        for one in np.unique(shape[inside]):
            mine = shape == one
            rows = inside & mine
            low[rows], high[rows] = _quantiles(ratios, inside & ~mine)
    return low, high


def _quantiles(ratios: Array, rows: Array) -> Interval:
    """Of the rows marked, or of all where they are too few."""
    tail = (1 - CLAIM) / 2
    low, high = np.quantile(ratios[rows] if rows.sum() >= _FEW else ratios, [tail, 1 - tail])
    return Interval(float(low), float(high))


def summary() -> pd.DataFrame:
    """One row a group, with the fields of `score`. A group of one architecture has no other to learn from."""
    rows = [
        {**dict(zip(_NAMES, group, strict=True)), **score(errors(*group))}
        for group in constants.layer_groups()
    ]
    return pd.DataFrame(rows)


_NAMES = ("system", "framework", "dtype")


def score(frame: pd.DataFrame) -> dict[str, float]:
    """Of any selection of `errors`; errors are fractions of the measurement, `coverage` of the rows."""
    off = (frame["predicted"] / frame["measured"] - 1).to_numpy()
    inside = frame["measured"].between(frame["lower"], frame["upper"])
    return {
        "rows": len(frame),
        "architectures": int(frame["shape"].nunique()),
        "mape": float(np.abs(off).mean()),
        "median": float(np.median(np.abs(off))),
        "p90": float(np.quantile(np.abs(off), 0.9)),
        "bias": float(off.mean()),
        "coverage": float(inside.mean()),
    }


def main() -> None:
    """Write the intervals of every group."""
    found = {
        "/".join(group): [[round(x, 4) for x in pair] for pair in measure(*group)]
        for group in constants.layer_groups()
    }
    INTERVALS.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
