"""Loads: those behind the rows of the measured tables, as shipped in data/silicon/loads.parquet.

Drawn once by `moe_core.perf.benchmark_load`: a fit, its error and an answer need the same ones.
"""

from __future__ import annotations

from functools import cache as once

import pandas as pd

from moe_core.perf.benchmark_load import Mend, benchmark_load
from moe_core.perf.expert_load import Load
from moe_core.silicon.systems import DATA

LOADS = DATA / "loads.parquet"
LOAD_KEYS = ["distribution", "tokens", "experts", "top_k", "ep", "mend"]


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


def load_of(distribution: str, tokens: int, experts: int, top_k: int, ep: int, mend: Mend) -> Load:
    """The load of one row, its fields in the order of `LOAD_KEYS`, drawn anew."""
    return benchmark_load(distribution, int(tokens), int(experts), int(top_k), int(ep), mend)
