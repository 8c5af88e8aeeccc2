"""The fitted constants of data/silicon/layer_constants.json, and which kernel would serve a new layer."""

from __future__ import annotations

import json
from functools import cache as once
from typing import Any, NamedTuple

from moe_core.errors import ConfigError
from moe_core.perf.moe_layer import Constants
from moe_core.silicon.systems import DATA

PATH = DATA / "layer_constants.json"


class Fitted(NamedTuple):
    """Constants of one kernel, a factor on its time, and the same without each architecture in turn."""

    constants: Constants
    scale: float
    folds: dict[str, tuple[Constants, float]]


def groups() -> tuple[tuple[str, str, str], ...]:
    """Every fitted system, framework and format."""
    return tuple(_split(name) for name in _read()["groups"])


def kernels(system: str, framework: str, dtype: str) -> dict[str, Fitted]:
    """The fits of one group by kernel. Raises ConfigError for a group that was never measured."""
    return _kernels(_found(system, framework, dtype))


def serving(system: str, framework: str, dtype: str, tp: int, ep: int) -> str:
    """The kernel most architectures get when split so."""
    serves: dict[str, str] = _read()["groups"][_found(system, framework, dtype)]["serves"]
    way = "expert" if ep > 1 else "tensor" if tp > 1 else "one"
    return serves.get(way) or next(iter(serves.values()))


@once
def _kernels(group: str) -> dict[str, Fitted]:
    table: dict[str, Any] = _read()["groups"][group]["kernels"]
    return {name: _fitted(row, table) for name, row in table.items()}


def _fitted(row: dict[str, Any], table: dict[str, Any]) -> Fitted:
    if "like" not in row:
        folds = {shape: (_constants(values), 1.0) for shape, values in row["folds"].items()}
        return Fitted(_constants(row["constants"]), 1.0, folds)
    main = table[row["like"]]
    whole = _constants(main["constants"])
    without = {shape: _constants(values) for shape, values in main["folds"].items()}
    scaled = {shape: (without.get(shape, whole), scale) for shape, scale in row["folds"].items()}
    return Fitted(whole, row["scale"], scaled)


def _constants(values: list[float]) -> Constants:
    return Constants(**dict(zip(_read()["constants"], values, strict=True)))


def _found(system: str, framework: str, dtype: str) -> str:
    name = f"{system}/{framework}/{dtype}"
    if name not in _read()["groups"]:
        raise ConfigError(f"dtype ({dtype}): {framework} was not measured with it on {system}")
    return name


def _split(name: str) -> tuple[str, str, str]:
    system, framework, dtype = name.split("/")
    return system, framework, dtype


@once
def _read() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return values
