"""Experiments: which runs of experiments there are, and what each measured. All of their SQL.

Every function returns a DataFrame, unrounded; parameters always. A run id that is not in the store raises
ConfigError.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from moe_core.store import queries
from moe_core.store.db import Store

FINDING = ("name", "value", "low", "high", "seeds", "unit")


def newest(store: Store) -> pd.DataFrame:
    """lab, setting, reference (NaN: made here), run_id, created, seeds: the newest complete run of each.

    One row for each (lab, setting) that was run here, and one for each that ships.
    """
    sql = """
        SELECT lab, spec->>'$.training.setting' AS setting, reference, run_id, created,
            (spec->>'$.training.seeds')::INTEGER AS seeds
        FROM runs WHERE complete AND (spec->'$.training') IS NOT NULL
        QUALIFY row_number() OVER (
            PARTITION BY lab, spec->>'$.training.setting', reference IS NULL
            ORDER BY created DESC, run DESC) = 1
        ORDER BY lab, setting, reference IS NULL"""
    return store.frame(sql)


def series(store: Store, run_id: str, metric: str | None = None) -> pd.DataFrame:
    """arm, seed, metric, axis, x, value, in the order in which arms were measured; of one metric, or all."""
    sql = """
        SELECT arm, seed, metric, axis, x, value FROM series
        WHERE run = $run AND ($metric IS NULL OR metric = $metric)
        ORDER BY min(rowid) OVER (PARTITION BY arm), seed, metric, axis, rowid"""
    return queries.for_run(store, sql, run_id, metric=metric)


def loads(store: Store, run_id: str) -> pd.DataFrame:
    """arm, seed, step, layer, expert, load (pairs since the row before), ratio (over the layer's fair share).

    A layer that got nothing at all in a window has ratio 0.
    """
    sql = """
        SELECT arm, seed, step, layer, expert, load,
            coalesce(load * count(*) OVER layers / nullif(sum(load) OVER layers, 0), 0)::DOUBLE AS ratio
        FROM loads WHERE run = $run
        WINDOW layers AS (PARTITION BY arm, seed, step, layer)
        ORDER BY min(rowid) OVER (PARTITION BY arm), seed, step, layer, expert"""
    return queries.for_run(store, sql, run_id)


def findings(store: Store, run_id: str) -> pd.DataFrame:
    """name, value, low, high (NaN for a single seed), seeds, unit: what an experiment found."""
    found: dict[str, dict[str, Any]] = queries.run(store, run_id).summary.get("findings", {})
    frame = pd.DataFrame([{"name": name, **values} for name, values in found.items()], columns=list(FINDING))
    return frame.astype({name: "float64" for name in ("value", "low", "high")})


def diff(store: Store, run_id_a: str, run_id_b: str) -> pd.DataFrame:
    """Findings of two runs side by side, as `queries.diff` gives measurements: section is "findings"."""
    both = [findings(store, run_id)[["name", "value", "unit"]] for run_id in (run_id_a, run_id_b)]
    rows = both[0].merge(both[1], on=["name", "unit"], how="outer", suffixes=("_a", "_b"))
    rows = rows.rename(columns={"name": "item", "value_a": "a", "value_b": "b"})
    rows = rows.assign(section="findings", model="mixture", ratio=rows["b"] / rows["a"].where(rows["a"] != 0))
    return rows[["section", "model", "item", "unit", "a", "b", "ratio"]]
