"""The fitted constants of `data/silicon/constants.json`, by kind of kernel, system, framework and format."""

from __future__ import annotations

import json
from functools import cache as once
from typing import Any, NamedTuple

from moe_core.errors import ConfigError
from moe_core.perf.comm import Line
from moe_core.perf.gemm import GemmConstants
from moe_core.silicon.systems import DATA

PATH = DATA / "constants.json"


class Fitted(NamedTuple):
    """Constants, and the 80 % quantile of their log error on shapes left out."""

    constants: GemmConstants
    spread: float


@once
def kernel(kind: str, system: str, framework: str, form: str) -> Fitted:
    """Constants of `kind` (gemm, decode, prefill, latent_decode, latent_prefill), the nearest fitted.

    Tried in turn: the framework and format asked for, the other framework, 16 bits.
    """
    other = "sglang" if framework == "vllm" else "vllm"
    table = _read()["kernels"]
    for place in (f"{system}/{framework}/{form}", f"{system}/{other}/{form}"):
        if f"{kind}/{place}" in table:
            return _fitted(table[f"{kind}/{place}"])
    for name in (framework, other):
        if f"{kind}/{system}/{name}/bf16" in table:
            return _fitted(table[f"{kind}/{system}/{name}/bf16"])
    return kernel(kind, "h100_sxm", "sglang", "bf16")  # latent attention was not measured on the A100


@once
def lines(system: str, library: str, op: str) -> tuple[Line, ...]:
    """Start and bandwidth of a collective by rank count; empty where the library has none."""
    rows = _read()["collectives"][system].get(f"{library}/{op}", ())
    return tuple(Line(int(row["ranks"]), row["start"], row["bandwidth"]) for row in rows)


@once
def exchange(system: str, mode: str, part: str) -> Line:
    """DeepEP's dispatch or combine among eight devices; an all-to-all's line where it was not measured."""
    found = _read()["exchanges"][system].get(f"{mode}/{part}")
    if found is None:
        return lines(system, "nccl", "alltoall")[-1]
    return Line(8, found["start"], found["bandwidth"])


FRAMEWORKS = ("vllm", "sglang", "trtllm")


@once
def served(framework: str) -> dict[str, float]:
    """Constants of serving, fitted to end-to-end samples (`silicon.endtoend`). Raises ConfigError."""
    table: dict[str, dict[str, float]] = _read()["served"]
    if framework not in table:
        raise ConfigError(f"framework ({framework}): must be one of {', '.join(FRAMEWORKS)}")
    return table[framework]


@once
def served_without(framework: str, name: str) -> dict[str, float]:
    """The same, fitted without one model: what its error is computed with."""
    found: dict[str, float] = _read()["served_without"][framework][name]
    return found


def left_out() -> dict[str, int]:
    """Served samples that no prediction was made for, by reason."""
    found: dict[str, int] = _read()["left_out"]
    return found


def forget() -> None:
    """Read the file again: it was written anew."""
    for one in (kernel, lines, exchange, served, served_without, _read):
        one.cache_clear()


def _fitted(row: dict[str, float]) -> Fitted:
    names = GemmConstants._fields
    return Fitted(GemmConstants(**{name: row[name] for name in names}), row["spread"])


@once
def _read() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return values
