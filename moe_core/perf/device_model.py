"""Device model: seconds of a mixture layer and of a dense network on a calibrated device.

    mixture = layer + experts hit x (time of one, at its pairs) + pairs x hidden x (moving one element)

The time of one expert is interpolated between small banks that were measured with the kernel that runs
(`auto`), at random loads: padding, batching of neighbours and the switch between products are in it.
Where a GPU gathers, copies of weights are charged instead. Weights are taken to come from memory;
for a smaller working set the difference in reading time is taken off. Widths that vectors do not divide
take longer by a measured factor. Never faster than the calibrated roof. Ignored: heat, and skew of the
load beyond what `distinct` says; with it the test model's layer, on real text, takes up to twice as long.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from moe_core.errors import ConfigError
from moe_core.perf.calibrate import Calibration, RateCurve, Rates, interpolate
from moe_core.perf.distinct import uniform
from moe_core.perf.roofline import Bound, Roof

Scored = Literal["kernel", "layer"]


class Mixture(NamedTuple):
    """Dimensions of one mixture layer. `shared_width` is the width of all shared experts together."""

    hidden: int
    width: int
    experts: int
    top_k: int
    shared_width: int = 0
    gated: bool = True

    @property
    def expert_elements(self) -> int:
        return (3 if self.gated else 2) * self.hidden * self.width

    @property
    def active_width(self) -> int:
        """Width of the dense network that multiplies as much for every token."""
        return self.top_k * self.width + self.shared_width

    @property
    def total_width(self) -> int:
        """Width of the dense network that holds as many weights."""
        return self.experts * self.width + self.shared_width


class Estimate(NamedTuple):
    """Seconds; what they are made of; the roof they stay above; work and traffic."""

    seconds: float
    parts: dict[str, float]
    roof_s: float
    bound: Bound
    flops: float
    bytes: float
    distinct: float | None


def mixture(
    calibration: Calibration,
    dtype: str,
    layer: Mixture,
    tokens: int,
    *,
    distinct: float | None = None,
    working_set: float | None = None,
    scored: Scored = "layer",
) -> Estimate:
    """One mixture layer. `scored` "kernel" leaves router and shared experts out: given x and its routing.

    distinct     experts hit, where it is known; None: `tokens` independent tokens, all experts alike.
    working_set  bytes of weights that are read in turn; None: more than any cache holds.
    """
    rates = _rates(calibration, dtype)
    hit = uniform(layer.experts, layer.top_k, tokens) if distinct is None else distinct
    pairs = tokens * layer.top_k
    read = hit * layer.expert_elements * rates.itemsize
    parts = {
        "layer": rates.layer_s,
        "experts": _cached(_experts(rates, layer, pairs, hit), read, calibration, working_set),
        "moving": rates.pair_s * pairs * layer.hidden,
    }
    flops = 2.0 * layer.expert_elements * pairs
    moved = read + 2 * tokens * layer.hidden * rates.itemsize
    if scored == "layer":
        parts["router"] = interpolate(rates.router, layer.hidden * layer.experts, tokens)
        flops += 2.0 * tokens * layer.hidden * layer.experts
        moved += layer.hidden * layer.experts * rates.itemsize
        if layer.shared_width:
            shared = dense(
                calibration, dtype, layer.hidden, layer.shared_width, tokens, layer.gated, working_set
            )
            parts["shared"] = shared.seconds
            flops, moved = flops + shared.flops, moved + shared.bytes
    return _estimate(roof(calibration, dtype, working_set), parts, flops, moved, hit)


def dense(
    calibration: Calibration,
    dtype: str,
    hidden: int,
    width: int,
    tokens: int,
    gated: bool = True,
    working_set: float | None = None,
) -> Estimate:
    """One dense feed-forward network."""
    rates = _rates(calibration, dtype)
    elements = (3 if gated else 2) * hidden * width
    read = float(elements * rates.itemsize)
    seconds = _cached(
        interpolate(rates.ffn, elements, tokens) * _ragged(rates.ragged_ffn, width, rates.itemsize, tokens),
        read,
        calibration,
        working_set,
    )
    moved = read + 2 * tokens * hidden * rates.itemsize
    limits = roof(calibration, dtype, working_set)
    return _estimate(limits, {"products": seconds}, 2.0 * elements * tokens, moved, None)


def roof(calibration: Calibration, dtype: str, working_set: float | None = None) -> Roof:
    """The device's limits in a dtype: the best that any probe reached, or a cache's speed where it holds."""
    rates = _rates(calibration, dtype)
    speed = rates.peak_bytes
    if working_set is not None:
        speed = max(speed, calibration.bandwidth(working_set))
    return Roof(rates.peak_flops, speed)


def _experts(rates: Rates, layer: Mixture, pairs: int, hit: float) -> float:
    """Products of the experts, by the kernel that `auto` takes."""
    copied = pairs * layer.expert_elements * rates.itemsize
    if rates.gather and copied <= rates.gather_bytes:
        return interpolate(rates.gather, layer.expert_elements, pairs)
    each = interpolate(rates.experts, layer.expert_elements, pairs / layer.experts)
    return hit * each * _ragged(rates.ragged_experts, layer.width, rates.itemsize, pairs / layer.experts)


def _ragged(ratios: RateCurve | None, width: int, itemsize: int, rows: float) -> float:
    """How many times longer a width takes that vectors of 16 bytes do not divide; constant past the ends."""
    if ratios is None or width * itemsize % 16 == 0:
        return 1.0
    return ratios.at(min(rows, ratios.rows[-1]))


def _cached(seconds: float, read: float, calibration: Calibration, working_set: float | None) -> float:
    """`seconds` with the weights from a cache, if the working set fits one."""
    if working_set is None:
        return seconds
    saved = read / calibration.bandwidth() - read / calibration.bandwidth(working_set)
    return max(seconds - max(saved, 0.0), 0.1 * seconds)


def _estimate(
    limits: Roof, parts: dict[str, float], flops: float, moved: float, distinct: float | None
) -> Estimate:
    least = limits.seconds(flops, moved)
    seconds = max(sum(parts.values()), least)
    return Estimate(seconds, parts, least, limits.bound(flops, moved), flops, moved, distinct)


def _rates(calibration: Calibration, dtype: str) -> Rates:
    if dtype not in calibration.rates:
        raise ConfigError(f"dtype ({dtype}): must be one of {', '.join(calibration.rates)}")
    return calibration.rates[dtype]
