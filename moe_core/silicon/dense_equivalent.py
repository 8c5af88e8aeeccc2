"""The dense-equivalent curve on real hardware: measured where tables hold both sides, else modelled.

A dense network of width w is two products, [T, D] x [D, 2w] and [T, w] x [w, D] (one gate less where it has
none), and a kernel for the activation between them. A mixture layer is its router, its experts and its shared
network. Widths beyond the measured ones are drawn on in proportion: several networks of the widest one after
the other. Ignored: norms, what the next layer hides, and shared experts on a stream of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import exp, log
from typing import Literal, NamedTuple

import numpy as np

from moe_core.errors import ConfigError
from moe_core.formats import BITS
from moe_core.hardware import Hardware
from moe_core.perf.benchmark_load import benchmark_load
from moe_core.perf.dense_equivalent import CurvePoint, point
from moe_core.perf.device_model import Mixture
from moe_core.perf.moe_layer import LayerCase, seconds, work
from moe_core.perf.step_time import Product
from moe_core.silicon import constants, layer, systems, tables
from moe_core.silicon.kernels import product
from moe_core.silicon.layer import TABLED, Popularity
from moe_core.silicon.place import Place, dtype
from moe_core.silicon.tables import Curve, Where

TOKENS = tuple(2**i for i in range(15))
LAUNCH = 2e-6  # of a small kernel, until a framework's own is known
_SMALL = 2  # an MoE layer's scores and top-k: small kernels in no table
_MODEL_WIDTHS = tuple(2**i for i in range(6, 21))

Source = Literal["measured elsewhere", "modelled"]


class DenseTimes(NamedTuple):
    """Seconds of dense networks of `widths` at some tokens. `held`: this hidden size was timed."""

    widths: tuple[float, ...]
    seconds: tuple[float, ...]
    held: bool


class Series(NamedTuple):
    """One curve of the chart: where it comes from, under which load, in words."""

    points: tuple[CurvePoint, ...]
    source: Source
    note: str


def of(bank_layer: Mixture, tokens: int) -> LayerCase:
    """The experts of a layer, whole, on one device."""
    sizes = (bank_layer.hidden, bank_layer.width, bank_layer.experts, bank_layer.top_k)
    return LayerCase(tokens, *sizes, gated=bank_layer.gated)


# -- the dense side --------------------------------------------------------------------------------


def dense(
    hardware: Hardware, form: str, mixture: Mixture, tokens: int, framework: str = "vllm"
) -> DenseTimes:
    """Seconds over width: measured products between measured hidden sizes, else the products' model.

    Raises ConfigError for a format that is not one of ours.
    """
    if form not in BITS:
        raise ConfigError(f"dtype ({form}): must be one of {', '.join(BITS)}")
    place = _place(hardware, framework)
    small = constants.served(framework).get("small", LAUNCH)
    gates = 2 if mixture.gated else 1
    found = _measured(place, dtype(form), mixture.hidden, gates, tokens)
    widths, times = found or _modelled(place, form, mixture.hidden, gates, tokens)
    between = [small + 2 * (gates + 1) * width * tokens / hardware.bandwidth for width in widths]
    held = found is not None and mixture.hidden in tables.gemm_sizes(_tables(place, dtype(form)), "k")
    return DenseTimes(widths, tuple(a + b for a, b in zip(times, between, strict=True)), held)


def width_seconds(known: DenseTimes, width: float) -> float:
    """Seconds of one width; beyond the known ones in proportion."""
    if width <= known.widths[0]:
        return known.seconds[0]
    if width >= known.widths[-1]:
        return known.seconds[-1] * width / known.widths[-1]
    return float(exp(np.interp(log(width), np.log(known.widths), np.log(known.seconds))))


def _place(hardware: Hardware, framework: str) -> Place:
    system = systems.of(hardware)
    return Place(hardware, system.name, system.own, framework)


def _tables(place: Place, form: str) -> Where:
    """vLLM's block-scaled products were timed with the host's launches: SGLang's serve both."""
    name = "sglang" if form == "fp8_block" else place.frameworks[0]
    return Where(place.system, name, form)


def _measured(
    place: Place, form: str, hidden: int, gates: int, tokens: int
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Both products over every width that one of them was timed at; the other between its neighbours."""
    if not place.own:
        return None
    where = _tables(place, form)
    first, second = (_side(where, axis, hidden, tokens) for axis in ("k", "n"))
    if len(first) < 2 or len(second) < 2:
        return None
    up = {size / gates: time for size, time in first.items()}
    low, high = max(min(up), min(second)), min(max(up), max(second))
    widths = tuple(sorted(w for w in {*up, *map(float, second)} if low <= w <= high))
    return widths, tuple(_between(up, w) + _between(second, w) for w in widths)


def _between(known: dict[float, float], width: float) -> float:
    xs = sorted(known)
    return float(exp(np.interp(log(width), np.log(xs), np.log([known[x] for x in xs]))))


def _side(where: Where, axis: str, hidden: int, tokens: int) -> dict[float, float]:
    """Seconds over the free size, with `axis` (k or n) at the hidden size: exact or between two measured."""
    sizes = tables.gemm_sizes(where, axis)
    if not sizes or not sizes[0] <= hidden <= sizes[-1]:
        return {}
    above = next(size for size in sizes if size >= hidden)
    below = hidden if above == hidden else sizes[sizes.index(above) - 1]
    near, far = (
        {size: curve.at(tokens) for size, curve in _curves(where, axis, s).items()} for s in (below, above)
    )
    share = 0.0 if above == below else log(hidden / below) / log(above / below)
    both = {size: (near[size], far[size]) for size in near.keys() & far.keys()}
    return {float(size): exp(log(a) + share * (log(b) - log(a))) for size, (a, b) in both.items() if a and b}


@lru_cache(maxsize=256)
def _curves(where: Where, axis: str, size: int) -> dict[int, Curve]:
    """Time over tokens for every free size."""
    fixed, free = (1, 0) if axis == "k" else (0, 1)
    return {shape[free]: curve for shape, curve in tables.gemms(where).items() if shape[fixed] == size}


def _modelled(
    place: Place, form: str, hidden: int, gates: int, tokens: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    times = [
        product(Product(tokens, gates * w, hidden, form), place).seconds
        + product(Product(tokens, hidden, w, form), place).seconds
        for w in _MODEL_WIDTHS
    ]
    return tuple(map(float, _MODEL_WIDTHS)), tuple(times)


# -- the curve -------------------------------------------------------------------------------------


def measured(
    hardware: Hardware,
    form: str,
    mixture: Mixture,
    load: Popularity = layer.DEFAULT,
    framework: str = "vllm",
    tokens: Sequence[int] = TOKENS,
) -> Series | None:
    """The curve from tables alone; None where one of them does not hold the shape, or not under this load."""
    points = []
    for many in tokens:
        known = dense(hardware, form, mixture, many, framework)
        if not known.held:
            return None
        found = layer.estimate(hardware, form, of(mixture, many), framework=framework, load=load)
        if found.source == "measured elsewhere":
            beside = _beside(hardware, form, mixture, many, framework, known)
            points.append(_point(many, found.seconds, found.lower, found.upper, beside, known))
    place = _place(hardware, framework)
    note = f"layer and products: {place.frameworks[0]} on {place.system}, {form}, load {load}"
    return Series(tuple(points), "measured elsewhere", note) if points else None


def predicted(
    hardware: Hardware,
    form: str,
    mixture: Mixture,
    load: Popularity = layer.DEFAULT,
    framework: str = "vllm",
    tokens: Sequence[int] = TOKENS,
) -> Series:
    """The curve from the layer's model with its 80 % interval; dense products from tables where they can be.

    Where the tables hold the layer, the constants are those that never saw it: the error one would get on a
    new architecture. Raises ConfigError for a format or device that no constants serve.
    """
    points, note = [], ""
    for many in tokens:
        known = dense(hardware, form, mixture, many, framework)
        beside = _beside(hardware, form, mixture, many, framework, known)
        held = _held_out(hardware, form, mixture, many, load, framework)
        if held is None:
            found = layer.estimate(hardware, form, of(mixture, many), framework=framework, load=load)
            held, note = (found.seconds, found.lower, found.upper), found.note
        else:
            note = f"constants of {framework} that never saw this architecture"
        points.append(_point(many, *held, beside, known))
    return Series(tuple(points), "modelled", note)


def _point(
    tokens: int, time: float, lower: float, upper: float, beside: float, known: DenseTimes
) -> CurvePoint:
    interval = (lower + beside, upper + beside)
    return point(tokens, time + beside, known.widths, known.seconds, interval)


def _beside(
    hardware: Hardware, form: str, mixture: Mixture, tokens: int, framework: str, known: DenseTimes
) -> float:
    """Router, scores and top-k, and the shared experts as the dense network they are."""
    router = product(Product(tokens, mixture.experts, mixture.hidden, "bf16"), _place(hardware, framework))
    shared = width_seconds(known, mixture.shared_width) if mixture.shared_width else 0.0
    return router.seconds + _SMALL * constants.served(framework).get("small", LAUNCH) + shared


def _held_out(
    hardware: Hardware, form: str, mixture: Mixture, tokens: int, load: Popularity, framework: str
) -> tuple[float, float, float] | None:
    """Seconds and interval by the fold without this architecture; None where there is no such fold."""
    system = systems.of(hardware)
    group = (system.name, framework, form)
    if not system.own or load not in TABLED or group not in constants.layer_groups():
        return None
    shape = "/".join(str(n) for n in (mixture.hidden, mixture.width, mixture.experts, mixture.top_k))
    fitted = constants.layer_kernels(*group)[constants.layer_serving(*group, 1, 1)]
    if shape not in fitted.folds:
        return None
    own, scale = fitted.folds[shape]
    assert isinstance(load, str), "a table's load has a name"
    mend = layer.mend(system.name, framework)
    drawn = benchmark_load(load, tokens, mixture.experts, mixture.top_k, 1, mend)
    asked = work(of(mixture, tokens), drawn, layer.machine(system.name, form))
    guess = float(seconds(asked, own, cached=True)) * scale
    which = int(constants.bucket(*(np.asarray([n]) for n in (tokens, 1, 1)))[0])
    low, high = constants.layer_intervals(*group)[which]
    return guess, guess * low, guess * high
