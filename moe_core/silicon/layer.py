"""Seconds of the experts of one MoE layer: measured where a table holds the case, else modelled.

A table holds a case when shape, split and load were timed. For a load that no table has (even, or
recorded) on a shape that one has, the measured time is scaled by what the model says the other load costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from typing import Literal, NamedTuple

from moe_core import hardware as devices
from moe_core.errors import ConfigError
from moe_core.formats import kind, width
from moe_core.hardware import Hardware
from moe_core.perf.benchmark_load import Mend
from moe_core.perf.distinct import popular, uniform
from moe_core.perf.expert_load import Load, expected
from moe_core.perf.moe_layer import LayerCase, LayerWork, Machine, overhead, roof, seconds, work
from moe_core.perf.step_time import Bank
from moe_core.silicon import constants, systems, tables
from moe_core.silicon.constants import LayerFit
from moe_core.silicon.loads import timed_load
from moe_core.silicon.place import KernelTime, Place, timed
from moe_core.silicon.systems import CACHES, SYSTEMS

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
_MIXED = "mxfp4_a8"  # the weights of mxfp4, met by 8-bit activations
# Stages of formats that run the same weights; within a stage the fastest. vLLM's kernel for one 8-bit scale a
# tensor is four times slower than 16 bits on Hopper; 4-bit weights meet 8-bit activations where they can.
_ALTERNATIVES: dict[str, tuple[tuple[str, ...], ...]] = {
    "fp8": (("fp8", "fp8_block"),),
    "fp8_block": (("fp8_block",), ("fp8",)),
    "mxfp4": ((_MIXED,), ("mxfp4",)),
    "fp16": (("bf16",),),
    "fp32": (("bf16",),),
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


class _Group(NamedTuple):
    """Whose constants serve: a group of the tables, on its own device or on another."""

    system: str
    framework: str
    dtype: str
    own: bool
    machine: Machine


class _Modelled(NamedTuple):
    """A case on a machine under one load: its work and its modelled seconds."""

    load: Load
    work: LayerWork
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
def _place(hardware: Hardware, dtype: str, framework: str) -> _Group:
    """The group to take constants from: the format asked for, else the nearest that was fitted."""
    system = systems.of(hardware)
    form = _form(system.name, framework, dtype if dtype == _MIXED else kind(dtype))
    peak = hardware.peak(multiplied(dtype))
    of = Machine(hardware.bandwidth, peak, CACHES[system.name], weight_bytes(dtype))
    return _Group(system.name, framework, form, system.own, of)


@lru_cache(maxsize=1024)
def _form(system: str, framework: str, dtype: str) -> str:
    """The fitted format nearest to `dtype`. Raises ConfigError."""
    fitted = set(constants.layer_groups())
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


def _load(case: LayerCase, load: Popularity, place: _Group) -> Load:
    tokens, experts = int(case.tokens), int(case.experts)
    top_k, ranks = int(case.top_k), int(case.ep)
    if isinstance(load, str):
        if load not in TABLED:
            raise ConfigError(f"distribution ({load}): must be uniform or one of {', '.join(TABLED)}")
        return timed_load(load, tokens, experts, top_k, ranks, mend(place.system, place.framework))
    return expected(experts, top_k, tokens, ranks, load)


def _fitted(place: _Group, case: LayerCase) -> LayerFit:
    group = (place.system, place.framework, place.dtype)
    return constants.layer_kernels(*group)[constants.layer_serving(*group, int(case.tp), int(case.ep))]


def _asked(place: _Group, case: LayerCase, load: Popularity) -> _Modelled:
    """Modelled with weights in memory, as they are when other layers ran in between."""
    found = _load(case, load, place)
    of, fitted = work(case, found, place.machine), _fitted(place, case)
    return _Modelled(found, of, max(float(seconds(of, fitted.constants)) * fitted.scale, float(roof(of))))


def _measured(place: _Group, case: LayerCase, load: str) -> float | None:
    """The table's seconds."""
    where = tables.Where(place.system, place.framework, place.dtype)
    shape = {name: int(getattr(case, name)) for name in ("hidden", "inter", "experts", "top_k", "tp", "ep")}
    return tables.moe(where, float(case.tokens), distribution=load, **shape)


def _interval(place: _Group, case: LayerCase) -> tuple[float, float]:
    held = constants.layer_intervals(place.system, place.framework, place.dtype)
    low, high = held[int(constants.bucket(case.tokens, case.tp, case.ep))]
    return (min(low, 1.0), max(high, 1.0)) if place.own else (min(low, 1.0) / FAR, max(high, 1.0) * FAR)


def _answer(
    asked: _Modelled, fitted: LayerFit, place: _Group, found: float, interval: tuple[float, float], note: str
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


def _where(place: _Group) -> str:
    return f"{place.framework} on {place.system}, {place.dtype}"


def _how(place: _Group, dtype: str) -> str:
    how = f"constants fitted to {_where(place)}"
    if place.dtype != dtype:
        how += f", the nearest format measured to {dtype}"
    return how if place.own else how + ", scaled by the data sheets to this device"


# -- the data sheet --------------------------------------------------------------------------------


def machine(system: str, dtype: str) -> Machine:
    """Data sheet of a measured system for weights stored in `dtype`."""
    device = devices.get(SYSTEMS[system])
    return Machine(device.bandwidth, device.peak(multiplied(dtype)), CACHES[system], weight_bytes(dtype))


def weight_bytes(dtype: str) -> float:
    """Bytes of a stored weight, scales included."""
    return width("mxfp4" if dtype == _MIXED else dtype)


def multiplied(dtype: str) -> str:
    """The format of the products: 4-bit weights alone are widened to 16 bits first."""
    return "fp8" if dtype == _MIXED else {"mxfp4": "bf16", "int4": "bf16"}.get(kind(dtype), kind(dtype))


def mend(system: str, framework: str) -> Mend:
    """How the collector of a table mended its random loads: only vLLM on the A100 is of the older kind."""
    return "index" if (system, framework) == ("a100_sxm", "vllm") else "rank"


# -- one bank of a step ----------------------------------------------------------------------------


def bank(kernel: Bank, place: Place, load: tuple[float, ...] | None) -> KernelTime:
    """One layer's experts; `distinct` are those hit on all ranks, bytes those of the busiest rank's."""
    asked, popularity = _local(kernel, load) if kernel.exchanged and kernel.ep > 1 else (kernel, load)
    found = _best(asked, place, popularity)
    hit = uniform(kernel.experts, kernel.top_k, kernel.tokens)
    if load is not None:
        hit = popular(load, kernel.top_k, kernel.tokens)
    measured = _is_measured(found)
    spread = max(found.upper / found.seconds, found.seconds / found.lower) - 1
    answer = timed(place, kernel.form, found.seconds, found.flops, found.bytes, measured, spread)
    return answer._replace(distinct=hit)


def _local(kernel: Bank, load: tuple[float, ...] | None) -> tuple[Bank, tuple[float, ...] | None]:
    """What the busiest rank runs after a dispatch: its own experts, each row sent to one of them."""
    held, share, own = ceil(kernel.experts / kernel.ep), 1 / kernel.ep, None
    if load is not None:
        slices = [load[at : at + held] for at in range(0, len(load), held)]
        own = max(slices, key=sum)
        share = sum(own) / sum(load)
    rows = max(1, round(kernel.tokens * kernel.top_k * share))
    return kernel._replace(tokens=rows, experts=held, top_k=1, ep=1), own


def _best(kernel: Bank, place: Place, load: tuple[float, ...] | None) -> LayerEstimate:
    """Measured in this framework or another, in the order of formats; else this framework's fastest model."""
    modelled: LayerEstimate | None = None
    for forms in _ALTERNATIVES.get(kernel.form, ((kernel.form,),)):
        for name in place.frameworks:
            tried = forms if modelled is None else [f for f in forms if _tabled(kernel, place, name, f)]
            found = [one for form in tried if (one := _estimate(kernel, place, name, form, load))]
            known = [one for one in found if _is_measured(one)]
            if known:
                return min(known, key=lambda one: one.seconds)
            modelled = modelled or min(found, key=lambda one: one.seconds, default=None)
    if modelled is None:
        raise ConfigError(f"experts ({kernel.form}): no kernel was measured for it on {place.system}")
    return modelled


def _estimate(
    kernel: Bank, place: Place, framework: str, form: str, load: tuple[float, ...] | None
) -> LayerEstimate | None:
    """None where this framework was not measured with this format."""
    case = _case(kernel)
    if load is not None:
        load = (*load, *(0.0,) * (int(case.experts) - kernel.experts))
    try:
        return estimate(place.device, form, case, framework=framework, load=load)
    except ConfigError:
        return None


def _tabled(kernel: Bank, place: Place, framework: str, form: str) -> bool:
    """Whether a table of this framework holds the shape: its model is not asked once another has answered."""
    try:
        return held(place.device, form, _case(kernel), framework)
    except ConfigError:
        return False


def _case(kernel: Bank) -> LayerCase:
    experts = ceil(kernel.experts / kernel.ep) * kernel.ep  # ranks hold whole experts: the last may have room
    sizes = (kernel.tokens, kernel.hidden, kernel.inter, experts, kernel.top_k)
    return LayerCase(*sizes, tp=kernel.tp, ep=kernel.ep, gated=kernel.gated)


def _is_measured(found: LayerEstimate) -> bool:
    """A table holds the shape; its load may have been scaled to ours."""
    return found.source == "measured elsewhere" or found.note.startswith("measured")
