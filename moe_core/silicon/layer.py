"""Seconds of the experts of one MoE layer: measured where a table holds the case, else modelled.

A table holds a case when shape, split and load were timed. For a load that no table has (even, or
recorded) on a shape that one has, the measured time is scaled by what the model says the other load costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from moe_core.errors import ConfigError
from moe_core.hardware import Hardware
from moe_core.perf.expert_load import Load, expected
from moe_core.perf.moe_layer import LayerCase, Machine, Work, overhead, roof, seconds, work
from moe_core.silicon import layer_accuracy, layer_constants, layer_tables, systems, tables
from moe_core.silicon.layer_constants import Fitted
from moe_core.silicon.systems import CACHES

TABLED = ("balanced", "power_law_1.01", "power_law_1.2")
DEFAULT = "power_law_1.01"  # the load whose measurement is scaled to loads that no table has
MEASURED = 0.03  # how far a repeat of a measured point may lie
SCALED = 0.06  # the same, scaled to another load
FAR = 1.3  # the interval of a device without tables is wider by this, on both sides
_NEAREST = {
    "fp32": "bf16",
    "fp16": "bf16",
    "int8": "bf16",  # one byte a weight, widened: the 8-bit kernels that were timed are of another kind
    "nvfp4": "mxfp4",
    "mxfp4": "int4",
    "fp8_block": "fp8",
}

Bound = Literal["memory", "compute", "overhead"]
Popularity = str | Sequence[float] | None


class LayerEstimate(NamedTuple):
    """Seconds with an 80 % interval; what the busiest rank moves and multiplies, `distinct` experts on it."""

    seconds: float
    lower: float
    upper: float
    distinct: float
    bytes: float
    flops: float
    bound: Bound
    source: Literal["measured elsewhere", "modelled"]
    note: str


class _Place(NamedTuple):
    """Whose constants serve: a group of the tables, on its own device or on another."""

    system: str
    framework: str
    dtype: str
    own: bool
    machine: Machine


class _Asked(NamedTuple):
    """A case on a machine under one load: its work and its modelled seconds."""

    load: Load
    work: Work
    modelled: float


def estimate(
    hardware: Hardware,
    dtype: str,
    case: LayerCase,
    *,
    framework: str = "vllm",
    load: Popularity = None,
) -> LayerEstimate:
    """Seconds of `case` on one rank of `hardware`. Raises ConfigError for an impossible case.

    `load`: None for independent even tokens, the name of a table's load, or relative popularity of experts.
    Never below the roof: a table's point that read weights from a cache is raised to it.
    """
    _check(case)
    place = _place(hardware, dtype, framework)
    fitted, asked = _fitted(place, case), _asked(place, case, load)
    tabled = load if isinstance(load, str) else DEFAULT
    measured = _measured(place, case, tabled) if place.own and place.dtype == dtype else None
    if measured is None:
        return _answer(asked, fitted, place, asked.modelled, _interval(place, case), _how(place, dtype))
    if tabled == load:
        answer = _answer(asked, fitted, place, measured, (1 - MEASURED, 1 + MEASURED), _where(place))
        return answer._replace(source="measured elsewhere")
    scaled = measured * asked.modelled / _asked(place, case, tabled).modelled
    if load is None:  # even tokens are spread less evenly than `balanced`, more evenly than a power law
        scaled = min(scaled, max(measured, _measured(place, case, "balanced") or measured))
    note = f"measured with load {tabled} ({_where(place)}), scaled to this load by the model"
    return _answer(asked, fitted, place, scaled, (1 - SCALED, 1 + SCALED), note)


def held(hardware: Hardware, dtype: str, case: LayerCase, framework: str = "vllm") -> bool:
    """Whether a table of this device and framework holds the case. Raises ConfigError as `estimate`."""
    place = _place(hardware, dtype, framework)
    return place.own and place.dtype == dtype and _measured(place, case, DEFAULT) is not None


def _check(case: LayerCase) -> None:
    experts, top_k, ep = int(case.experts), int(case.top_k), int(case.ep)
    if not 1 <= top_k <= experts:
        raise ConfigError(f"top_k ({top_k}): must be between 1 and experts ({experts})")
    if experts % ep:
        raise ConfigError(f"ep ({ep}): must divide experts ({experts})")
    for name in ("tokens", "hidden", "inter", "tp", "ep"):
        if getattr(case, name) < 1:
            raise ConfigError(f"{name} ({getattr(case, name)}): must be at least 1")
    if case.inter < case.tp:
        raise ConfigError(f"tp ({case.tp}): must be at most the expert width ({case.inter})")


@lru_cache(maxsize=1024)
def _place(hardware: Hardware, dtype: str, framework: str) -> _Place:
    """The group to take constants from: the format asked for, else the nearest that was fitted."""
    system = systems.of(hardware)
    form = _form(system.name, framework, dtype)
    peak = hardware.peak(layer_tables.multiplied(dtype))
    of = Machine(hardware.bandwidth, peak, CACHES[system.name], layer_tables.weight_bytes(dtype))
    return _Place(system.name, framework, form, system.own, of)


@lru_cache(maxsize=1024)
def _form(system: str, framework: str, dtype: str) -> str:
    """The fitted format nearest to `dtype`. Raises ConfigError."""
    fitted = set(layer_constants.groups())
    if framework not in {group[1] for group in fitted}:
        raise ConfigError(
            f"framework ({framework}): must be one of {', '.join(sorted({g[1] for g in fitted}))}"
        )
    form: str | None = dtype
    while form is not None and (system, framework, form) not in fitted:
        form = _NEAREST.get(form, "bf16" if form != "bf16" else None)
    if form is None:
        raise ConfigError(f"dtype ({dtype}): {framework} was not measured with it on {system}")
    return form


def _load(case: LayerCase, load: Popularity, place: _Place) -> Load:
    tokens, experts = int(case.tokens), int(case.experts)
    top_k, ranks = int(case.top_k), int(case.ep)
    if isinstance(load, str):
        if load not in TABLED:
            raise ConfigError(f"distribution ({load}): must be uniform or one of {', '.join(TABLED)}")
        mend = layer_tables.mend(place.system, place.framework)
        return layer_tables.timed_load(load, tokens, experts, top_k, ranks, mend)
    return expected(experts, top_k, tokens, ranks, load)


def _fitted(place: _Place, case: LayerCase) -> Fitted:
    group = (place.system, place.framework, place.dtype)
    return layer_constants.kernels(*group)[layer_constants.serving(*group, int(case.tp), int(case.ep))]


def _asked(place: _Place, case: LayerCase, load: Popularity) -> _Asked:
    """Modelled with weights in memory, as they are when other layers ran in between."""
    found = _load(case, load, place)
    of, fitted = work(case, found, place.machine), _fitted(place, case)
    return _Asked(found, of, max(float(seconds(of, fitted.constants)) * fitted.scale, float(roof(of))))


def _measured(place: _Place, case: LayerCase, load: str) -> float | None:
    """The table's seconds."""
    where = tables.Where(place.system, place.framework, place.dtype)
    shape = {name: int(getattr(case, name)) for name in ("hidden", "inter", "experts", "top_k", "tp", "ep")}
    return tables.moe(where, float(case.tokens), distribution=load, **shape)


def _interval(place: _Place, case: LayerCase) -> tuple[float, float]:
    held = layer_accuracy.intervals(place.system, place.framework, place.dtype)
    low, high = held[int(layer_accuracy.bucket(case.tokens, case.tp, case.ep))]
    return (min(low, 1.0), max(high, 1.0)) if place.own else (min(low, 1.0) / FAR, max(high, 1.0) * FAR)


def _answer(
    asked: _Asked, fitted: Fitted, place: _Place, found: float, interval: tuple[float, float], note: str
) -> LayerEstimate:
    memory, compute = float(asked.work.memory), float(asked.work.flops)
    least = max(memory, compute)
    spent = float(overhead(asked.work, fitted.constants)) * fitted.scale
    bound: Bound = "compute" if compute > memory else "memory"
    value = max(found, least)
    return LayerEstimate(
        seconds=value,
        lower=max(value * interval[0], least),
        upper=value * interval[1],
        distinct=float(asked.load.distinct),
        bytes=memory * place.machine.bandwidth,
        flops=compute * place.machine.peak,
        bound="overhead" if spent > value / 2 else bound,
        source="modelled",
        note=note if found >= least else f"{note}; raised to the roof: it was read from a cache",
    )


def _where(place: _Place) -> str:
    return f"{place.framework} on {place.system}, {place.dtype}"


def _how(place: _Place, dtype: str) -> str:
    how = f"constants fitted to {_where(place)}"
    if place.dtype != dtype:
        how += f", the nearest format measured to {dtype}"
    return how if place.own else how + ", scaled by the data sheets to this device"
