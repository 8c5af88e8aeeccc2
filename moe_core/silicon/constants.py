"""The fitted constants that ship: of single kernels, of MoE layers and of serving, and their intervals.

`data/silicon/constants.json` by kind of kernel, system, framework and format; `layer_constants.json` by
system, framework and format, with the kernel that would serve a new layer; `layer_intervals.json` beside it.
The workshop writes all three.
"""

from __future__ import annotations

import json
from functools import cache as once
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from moe_core.errors import ConfigError
from moe_core.perf.comm import Link
from moe_core.perf.expert_load import Values
from moe_core.perf.gemm import GemmConstants
from moe_core.perf.moe_layer import Constants
from moe_core.silicon.systems import DATA

PATH = DATA / "constants.json"
LAYERS = DATA / "layer_constants.json"
INTERVALS = DATA / "layer_intervals.json"
FRAMEWORKS = ("vllm", "sglang", "trtllm")
BUCKETS = (0, 8, 64, 512, 1 << 40)  # tokens
_EDGES = np.array(BUCKETS)

Array = np.ndarray[Any, np.dtype[Any]]


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
def lines(system: str, library: str, op: str) -> tuple[Link, ...]:
    """Start and bandwidth of a collective by rank count; empty where the library has none."""
    rows = _read()["collectives"][system].get(f"{library}/{op}", ())
    return tuple(Link(int(row["ranks"]), row["start"], row["bandwidth"]) for row in rows)


@once
def exchange(system: str, mode: str, part: str) -> Link:
    """DeepEP's dispatch or combine among eight devices; an all-to-all's line where it was not measured."""
    found = _read()["exchanges"][system].get(f"{mode}/{part}")
    if found is None:
        return lines(system, "nccl", "alltoall")[-1]
    return Link(8, found["start"], found["bandwidth"])


@once
def served(framework: str) -> dict[str, float]:
    """Constants of serving, fitted to end-to-end samples (`silicon.workshop.served`). Raises ConfigError."""
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


def _fitted(row: dict[str, float]) -> Fitted:
    names = GemmConstants._fields
    return Fitted(GemmConstants(**{name: row[name] for name in names}), row["spread"])


# -- MoE layers ------------------------------------------------------------------------------------


class LayerFit(NamedTuple):
    """Constants of one kernel, a factor on its time, and the same without each architecture in turn."""

    constants: Constants
    scale: float
    folds: dict[str, tuple[Constants, float]]


def layer_groups() -> tuple[tuple[str, str, str], ...]:
    """Every fitted system, framework and format."""
    return tuple(_split(name) for name in _layers()["groups"])


def layer_kernels(system: str, framework: str, dtype: str) -> dict[str, LayerFit]:
    """The fits of one group by kernel. Raises ConfigError for a group that was never measured."""
    return _layer_fits(_group(system, framework, dtype))


def layer_serving(system: str, framework: str, dtype: str, tp: int, ep: int) -> str:
    """The kernel most architectures get when split so."""
    serves: dict[str, str] = _layers()["groups"][_group(system, framework, dtype)]["serves"]
    way = "expert" if ep > 1 else "tensor" if tp > 1 else "one"
    return serves.get(way) or next(iter(serves.values()))


@once
def _layer_fits(group: str) -> dict[str, LayerFit]:
    table: dict[str, Any] = _layers()["groups"][group]["kernels"]
    return {name: _layer_fit(row, table) for name, row in table.items()}


def _layer_fit(row: dict[str, Any], table: dict[str, Any]) -> LayerFit:
    if "like" not in row:
        folds = {shape: (_constants(values), 1.0) for shape, values in row["folds"].items()}
        return LayerFit(_constants(row["constants"]), 1.0, folds)
    main = table[row["like"]]
    whole = _constants(main["constants"])
    without = {shape: _constants(values) for shape, values in main["folds"].items()}
    scaled = {shape: (without.get(shape, whole), scale) for shape, scale in row["folds"].items()}
    return LayerFit(whole, row["scale"], scaled)


def _constants(values: list[float]) -> Constants:
    return Constants(**dict(zip(_layers()["constants"], values, strict=True)))


def _group(system: str, framework: str, dtype: str) -> str:
    name = f"{system}/{framework}/{dtype}"
    if name not in _layers()["groups"]:
        raise ConfigError(f"dtype ({dtype}): {framework} was not measured with it on {system}")
    return name


def _split(name: str) -> tuple[str, str, str]:
    system, framework, dtype = name.split("/")
    return system, framework, dtype


class Interval(NamedTuple):
    """Quantiles of measured over predicted."""

    low: float
    high: float


@once
def layer_intervals(system: str, framework: str, dtype: str) -> tuple[Interval, ...]:
    """What to multiply a prediction with for its 80 % interval, by bucket; as shipped."""
    return tuple(Interval(*pair) for pair in _intervals()[f"{system}/{framework}/{dtype}"])


def bucket(tokens: Values, tp: Values, ep: Values) -> Array:
    """0 to 11: four ranges of tokens, and one rank, sliced experts or dealt experts. Numbers or arrays."""
    by_tokens = np.searchsorted(_EDGES, tokens, side="left") - 1
    return np.asarray(3 * by_tokens + np.where(ep > 1, 2, np.where(tp > 1, 1, 0)))


# -- the files -------------------------------------------------------------------------------------


def forget() -> None:
    """Read the constants of kernels and of serving again: they were written anew."""
    for one in (kernel, lines, exchange, served, served_without, _read):
        one.cache_clear()


@once
def _read() -> dict[str, Any]:
    return _json(PATH)


@once
def _layers() -> dict[str, Any]:
    return _json(LAYERS)


@once
def _intervals() -> dict[str, Any]:
    return _json(INTERVALS)


def _json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
