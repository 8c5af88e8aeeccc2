"""Time of one step of any architecture on any device: the public entry.

Every kernel the busiest device runs (`perf.step_time`) is looked up in a measured table or modelled
(`silicon.kernels`), and a framework's constants for what no table holds are added: small kernels a
layer, the host a step. Both were fitted to served models end to end (`silicon.workshop.served`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from math import exp
from typing import Literal, NamedTuple

from moe_core.formats import Format
from moe_core.hardware import Hardware
from moe_core.perf import fit
from moe_core.perf.memory import Workload, model
from moe_core.perf.shard import Parallel
from moe_core.perf.step_time import Op, Reduce, Step, block_products, ops, small_kernels
from moe_core.silicon import constants, systems
from moe_core.silicon.kernels import time
from moe_core.silicon.place import KernelTime, Place
from moe_core.specs import Architecture, Precision

Bound = Literal["memory", "compute", "overhead", "network"]
Source = Literal["measured elsewhere", "modelled"]

MAIN = 0.05  # a part of less than this share need not be measured for the whole to count as measured


class Part(NamedTuple):
    """One kind of work, summed over the layers that do it, on the busiest device."""

    name: str
    component: str
    seconds: float
    flops: int
    bytes: int
    bound: Bound
    source: Source


class Prediction(NamedTuple):
    """Seconds of one step with an 80 % interval. Decode: a token for each sequence; prefill: whole prompts.

    Bytes and FLOPs are those of the busiest device; `distinct_experts` is per MoE layer, all ranks
    together, None for a dense model. `source` is measured only if every main part is.
    """

    seconds: float
    lower: float
    upper: float
    bytes: int
    flops: int
    bound: Bound
    distinct_experts: float | None
    source: Source
    parts: tuple[Part, ...]


class _Sum(NamedTuple):
    """A part, its log error, and the experts it hits."""

    part: Part
    spread: float
    distinct: float | None


def predict(
    arch: Architecture,
    hardware: Hardware,
    step: Step,
    *,
    precision: Precision = Precision(),
    kv: Format = "bf16",
    parallel: Parallel = Parallel(),
    framework: str = "vllm",
    load: Sequence[float] | None = None,
    check_memory: bool = True,
) -> Prediction:
    """Seconds of `step` (batch of all devices together). Raises InfeasibleError when it does not fit.

    `load`: relative load of each expert, any number of them, resampled to the architecture's; None is even.
    """
    if check_memory:
        setting = fit.Setting(model(arch), precision, kv)
        context = step.past + step.new
        fit.require(setting, Workload(batch=step.batch, context=context), hardware.capacity, parallel)
    system = systems.of(hardware)
    place = Place(hardware, system.name, system.own, framework)
    shares = None if load is None or arch.experts is None else resampled(load, arch.experts.count)
    listed = ops(arch, step, precision, kv, parallel)
    factor = constants.served(framework)["kernels"]
    found = [(op, time(op.kernel, place, shares).scaled(factor)) for op in listed]
    sums = [*_parts(found), _host(arch, listed, framework)]
    return _prediction(sums, constants.served(framework)["spread"], system.own)


def hop(hardware: Hardware, framework: str, nbytes: float) -> float:
    """Seconds in which a device hands `nbytes` to another: an all-reduce of two, which sends as much."""
    return _hop(hardware, framework, round(nbytes))


@lru_cache(maxsize=4096)
def _hop(hardware: Hardware, framework: str, nbytes: int) -> float:
    system = systems.of(hardware)
    return time(Reduce(2, nbytes), Place(hardware, system.name, system.own, framework)).seconds


def resampled(load: Sequence[float], experts: int) -> tuple[float, ...]:
    """A recorded load stretched or squeezed to `experts`: the same curve of ranks, sorted by popularity.

    Each new expert takes the mean of the old curve over its slice.
    """
    return _resampled(tuple(load), experts)


@lru_cache(maxsize=256)
def _resampled(load: tuple[float, ...], experts: int) -> tuple[float, ...]:
    ranked = sorted((float(x) for x in load), reverse=True)
    edges = [i * len(ranked) / experts for i in range(experts + 1)]
    means = [_mean(ranked, low, high) for low, high in pairwise(edges)]
    total = sum(means) or 1.0
    return tuple(x / total for x in means)


def _mean(values: Sequence[float], low: float, high: float) -> float:
    """Mean of a step function over [low, high)."""
    total, at = 0.0, low
    while at < high - 1e-9:
        index = min(int(at + 1e-9), len(values) - 1)
        end = min(high, index + 1.0)
        total += values[index] * (end - at)
        at = end
    return total / (high - low)


def _parts(found: Iterable[tuple[Op, KernelTime]]) -> list[_Sum]:
    """Ops of one name together."""
    groups: dict[str, list[tuple[Op, KernelTime]]] = {}
    for op, timed in found:
        groups.setdefault(op.name, []).append((op, timed))
    return [_together(name, group) for name, group in groups.items()]


def _together(name: str, group: list[tuple[Op, KernelTime]]) -> _Sum:
    seconds = moved = flops = spread = measured = 0.0
    for op, timed in group:
        spent = op.times * timed.seconds
        seconds += spent
        flops += op.times * timed.flops
        moved += op.times * timed.bytes
        spread += spent * timed.spread
        measured += spent if timed.measured else 0.0
    source: Source = "measured elsewhere" if measured > (1 - MAIN) * seconds else "modelled"
    part = Part(name, group[0][0].component, seconds, round(flops), round(moved), _bound(group), source)
    return _Sum(part, spread / seconds, next((t.distinct for _, t in group if t.distinct is not None), None))


def _bound(group: list[tuple[Op, KernelTime]]) -> Bound:
    """Where the time goes: overhead if the roof explains less than half of it."""
    if group[0][1].network:
        return "network"
    total = compute = memory = 0.0
    for op, timed in group:
        total += op.times * timed.seconds
        compute += op.times * timed.compute_s
        memory += op.times * timed.memory_s
    if max(compute, memory) < 0.4 * total:
        return "overhead"
    return "compute" if compute > memory else "memory"


def _host(arch: Architecture, listed: list[Op], framework: str) -> _Sum:
    """Small kernels (norms, rotary, gates, top-k, scaling of blocks) and the host between two steps."""
    served = constants.served(framework)
    small = served["small"] * small_kernels(arch) + served["block"] * block_products(listed)
    part = Part("framework", "framework", small + served["step"], 0, 0, "overhead", "modelled")
    return _Sum(part, 0.4, None)


def _prediction(sums: list[_Sum], served: float, own: bool) -> Prediction:
    parts = tuple(one.part for one in sums)
    seconds = sum(part.seconds for part in parts)
    spread = sum(one.spread * one.part.seconds for one in sums) / seconds
    wide = max(served, spread) if own else served + spread
    classes: dict[Bound, float] = {}
    for part in parts:
        classes[part.bound] = classes.get(part.bound, 0.0) + part.seconds
    main = [part for part in parts if part.seconds > MAIN * seconds and part.component != "framework"]
    every = bool(main) and all(part.source == "measured elsewhere" for part in main)
    moved, flops = sum(part.bytes for part in parts), sum(part.flops for part in parts)
    return Prediction(
        seconds,
        seconds * exp(-wide),
        seconds * exp(wide),
        moved,
        flops,
        max(classes, key=lambda name: classes[name]),
        next((one.distinct for one in sums if one.distinct is not None), None),
        "measured elsewhere" if every else "modelled",
        parts,
    )
