"""The measured MoE layers as arrays: what fits read, and what their errors are computed from.

The loads behind the tables are kept in data/silicon/loads.parquet, drawn once by
`moe_core.perf.benchmark_load`: a fit and its error need the same ones.
"""

from __future__ import annotations

from functools import cache as once
from typing import NamedTuple

import duckdb
import numpy as np
import pandas as pd

from moe_core.perf.expert_load import Load
from moe_core.perf.moe_layer import LayerCase, LayerWork, Machine, work
from moe_core.silicon import tables
from moe_core.silicon.constants import Array
from moe_core.silicon.layer import machine, mend
from moe_core.silicon.loads import LOAD_KEYS, drawn, load_of
from moe_core.silicon.systems import DATA

SHAPE = ["hidden", "inter", "experts", "top_k"]
# Nemotron: squared ReLU, two matrices an expert. The A100's older collector timed three for every shape.
UNGATED = {(2688, 1856, 128, 6), (2048, 5120, 512, 22), (8192, 5120, 512, 22)}


class LayerTable(NamedTuple):
    """Rows of one system, framework and format: identity, work asked, seconds measured."""

    system: str
    framework: str
    dtype: str
    rows: pd.DataFrame  # the columns of the table, and `shape`
    work: LayerWork
    seconds: Array
    machine: Machine

    def where(self, keep: Array) -> LayerTable:
        """The rows that `keep` marks."""
        picked = LayerWork(*(np.asarray(value)[keep] for value in self.work))
        return self._replace(rows=self.rows[keep], work=picked, seconds=self.seconds[keep])


def groups() -> list[tuple[str, str, str]]:
    """Every system, framework and format that was measured."""
    sql = f"SELECT DISTINCT system, framework, dtype FROM read_parquet('{DATA / 'moe.parquet'}') ORDER BY ALL"
    return [tuple(row) for row in duckdb.connect().execute(sql).fetchall()]


@once
def read(system: str, framework: str, dtype: str) -> LayerTable:
    """One group with the work of every row."""
    columns = ["kernel", *SHAPE, "tp", "ep", "distribution", "tokens", "seconds"]
    rows = pd.DataFrame(
        tables.measured("moe", columns, system=system, framework=framework, dtype=dtype)
    ).sort_values(columns[:-1], ignore_index=True)
    rows["mend"] = mend(system, framework)
    rows["shape"] = ["/".join(map(str, row)) for row in zip(*(rows[name] for name in SHAPE), strict=True)]
    of = machine(system, dtype)
    fields = {name: rows[name].to_numpy() for name in LayerCase._fields if name != "gated"}
    case = LayerCase(**fields, gated=gated(rows, system))
    return LayerTable(
        system, framework, dtype, rows, work(case, loads(rows), of), rows["seconds"].to_numpy(), of
    )


def gated(rows: pd.DataFrame, system: str) -> Array:
    """Whether an expert of each row has three matrices."""
    known = [tuple(row) for row in rows[SHAPE].itertuples(index=False)]
    return np.array([system == "a100_sxm" or shape not in UNGATED for shape in known])


def loads(rows: pd.DataFrame) -> Load:
    """The load behind each row. The columns are `LOAD_KEYS`."""
    found = rows[LOAD_KEYS].merge(drawn(), on=LOAD_KEYS, how="left", validate="many_to_one")
    assert not found["distinct"].isna().any(), "loads.parquet is older than moe.parquet: fit again"
    return Load(**{name: found[name].to_numpy() for name in Load._fields})


def draw() -> pd.DataFrame:
    """The loads of every row of every table, drawn anew; 30 s."""
    source = f"read_parquet('{DATA / 'moe.parquet'}')"
    names = "distribution, tokens, experts, top_k, ep, system, framework"
    rows = duckdb.connect().execute(f"SELECT DISTINCT {names} FROM {source}").df()
    rows["mend"] = [mend(*pair) for pair in zip(rows["system"], rows["framework"], strict=True)]
    rows = rows[LOAD_KEYS].drop_duplicates().sort_values(LOAD_KEYS, ignore_index=True)
    found = [load_of(*row) for row in rows.itertuples(index=False)]
    return pd.concat([rows, pd.DataFrame(found, columns=list(Load._fields))], axis=1)
