"""The measured MoE layers as arrays: what fits read, and what their errors are computed from.

The loads behind the tables are kept in data/silicon/loads.parquet, drawn once by
`moe_core.perf.benchmark_load`: a fit and its error need the same ones.
"""

from __future__ import annotations

from functools import cache as once
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd

from moe_core import hardware
from moe_core.perf.benchmark_load import Mend, benchmark_load
from moe_core.perf.expert_load import Load
from moe_core.perf.moe_layer import LayerCase, Machine, Work, work
from moe_core.perf.precision import BITS
from moe_core.silicon import tables
from moe_core.silicon.systems import CACHES, DATA, SYSTEMS

LOADS = DATA / "loads.parquet"
LOAD_KEYS = ["distribution", "tokens", "experts", "top_k", "ep", "mend"]
SHAPE = ["hidden", "inter", "experts", "top_k"]
# Nemotron: squared ReLU, two matrices an expert. The A100's older collector timed three for every shape.
UNGATED = {(2688, 1856, 128, 6), (2048, 5120, 512, 22), (8192, 5120, 512, 22)}

_WIDTHS = {str(form): float(bits) / 8 for form, bits in BITS.items()}

Array = np.ndarray[Any, np.dtype[Any]]


class Table(NamedTuple):
    """Rows of one system, framework and format: identity, work asked, seconds measured."""

    system: str
    framework: str
    dtype: str
    rows: pd.DataFrame  # the columns of the table, and `shape`
    work: Work
    seconds: Array
    machine: Machine

    def where(self, keep: Array) -> Table:
        """The rows that `keep` marks."""
        picked = Work(*(np.asarray(value)[keep] for value in self.work))
        return self._replace(rows=self.rows[keep], work=picked, seconds=self.seconds[keep])


def machine(system: str, dtype: str) -> Machine:
    """Data sheet of a measured system for weights stored in `dtype`."""
    device = hardware.get(SYSTEMS[system])
    return Machine(device.bandwidth, device.peak(multiplied(dtype)), CACHES[system], weight_bytes(dtype))


def weight_bytes(dtype: str) -> float:
    """Bytes of a stored weight, scales included."""
    stored = {"mxfp4_a8": "mxfp4"}.get(dtype, dtype)  # 8-bit activations, the same weights
    return _WIDTHS[stored]


def multiplied(dtype: str) -> str:
    """The format of the products: 4-bit weights alone are widened to 16 bits first."""
    return {"mxfp4": "bf16", "int4": "bf16", "mxfp4_a8": "fp8"}.get(dtype, dtype)


def mend(system: str, framework: str) -> Mend:
    """How the collector of a table mended its random loads: only vLLM on the A100 is of the older kind."""
    return "index" if (system, framework) == ("a100_sxm", "vllm") else "rank"


def groups() -> list[tuple[str, str, str]]:
    """Every system, framework and format that was measured."""
    sql = f"SELECT DISTINCT system, framework, dtype FROM read_parquet('{DATA / 'moe.parquet'}') ORDER BY ALL"
    return [tuple(row) for row in duckdb.connect().execute(sql).fetchall()]


@once
def read(system: str, framework: str, dtype: str) -> Table:
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
    return Table(system, framework, dtype, rows, work(case, loads(rows), of), rows["seconds"].to_numpy(), of)


def gated(rows: pd.DataFrame, system: str) -> Array:
    """Whether an expert of each row has three matrices."""
    known = [tuple(row) for row in rows[SHAPE].itertuples(index=False)]
    return np.array([system == "a100_sxm" or shape not in UNGATED for shape in known])


def loads(rows: pd.DataFrame) -> Load:
    """The load behind each row. The columns are `LOAD_KEYS`."""
    found = rows[LOAD_KEYS].merge(drawn(), on=LOAD_KEYS, how="left", validate="many_to_one")
    assert not found["distinct"].isna().any(), "loads.parquet is older than moe.parquet: fit again"
    return Load(**{name: found[name].to_numpy() for name in Load._fields})


@once
def drawn() -> pd.DataFrame:
    """The shipped loads."""
    return pd.read_parquet(LOADS)


def timed_load(distribution: str, tokens: int, experts: int, top_k: int, ep: int, mend: Mend) -> Load:
    """The load behind a table's row: as shipped, else drawn, which takes milliseconds."""
    key = (distribution, tokens, experts, top_k, ep, mend)
    return _known().get(key) or load_of(*key)


@once
def _known() -> dict[tuple[str, int, int, int, int, Mend], Load]:
    """The shipped loads by key."""
    keys, values = (
        zip(*(drawn()[name].tolist() for name in of), strict=True) for of in (LOAD_KEYS, Load._fields)
    )
    return {key: Load(*value) for key, value in zip(keys, values, strict=True)}


def draw() -> pd.DataFrame:
    """The loads of every row of every table, drawn anew; 30 s."""
    source = f"read_parquet('{DATA / 'moe.parquet'}')"
    names = "distribution, tokens, experts, top_k, ep, system, framework"
    rows = duckdb.connect().execute(f"SELECT DISTINCT {names} FROM {source}").df()
    rows["mend"] = [mend(*pair) for pair in zip(rows["system"], rows["framework"], strict=True)]
    rows = rows[LOAD_KEYS].drop_duplicates().sort_values(LOAD_KEYS, ignore_index=True)
    found = [load_of(*row) for row in rows.itertuples(index=False)]
    return pd.concat([rows, pd.DataFrame(found, columns=list(Load._fields))], axis=1)


def load_of(distribution: str, tokens: int, experts: int, top_k: int, ep: int, mend: Mend) -> Load:
    """The load of one row, its fields in the order of `LOAD_KEYS`, drawn anew."""
    return benchmark_load(distribution, int(tokens), int(experts), int(top_k), int(ep), mend)
