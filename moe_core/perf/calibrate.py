"""Calibration: what one device was measured to do, as plain values, and how samples become it.

The probes are primitive: matrix products, small feed-forward networks, small banks of experts with known
loads, reading memory, starting an operation. `device_model` predicts other layers from them. Seconds,
bytes, elements; no torch here, so that the web process can read and use it too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple

from moe_core.perf.distinct import uniform
from moe_core.specs import Device, RunSpec, Spec

Kind = Literal[
    "launch", "read", "product", "ffn", "experts", "gather", "layer", "each", "pairs", "router", "ragged"
]
PATIENCE_S = 600.0
Statistic = Callable[[Sequence[float]], float]


class Probe(NamedTuple):
    """One thing that is timed. What does not apply is 0.

    launch   one operation on a handful of numbers.
    read     `rows` bytes summed up, again and again.
    product  [rows, hidden] x [hidden, width].
    ffn      a gated feed-forward network on `rows` tokens.
    experts  `rows` tokens, top-k of `experts` at random.
    gather   the same by the kernel that copies weights, on GPUs.
    layer    one token to one of many tiny experts.
    each     one pair to each of them.
    pairs    many tokens to tiny experts: moving rows, hardly multiplying.
    router   scores, choice and weights for `rows` tokens.
    ragged   like experts, or without experts like ffn, of a width that vectors do not divide.
    """

    kind: Kind
    dtype: str = ""
    rows: int = 0
    hidden: int = 0
    width: int = 0
    experts: int = 0
    top_k: int = 0

    @property
    def elements(self) -> int:
        """Weights of the product, of the network, or of one expert."""
        return self.hidden * self.width * (1 if self.kind == "product" else 3)

    @property
    def weights(self) -> int:
        """All weights that it multiplies with: what it takes from a pool."""
        return self.elements * max(self.experts, 1)

    @property
    def pairs(self) -> int:
        return self.rows * self.top_k

    @property
    def busy(self) -> float:
        """Experts that are hit, as expected."""
        if self.kind == "each":
            return float(self.experts)
        return uniform(self.experts, self.top_k, self.rows)

    @property
    def flops(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.elements * (self.pairs if self.experts else self.rows)

    @property
    def ladder(self) -> Probe:
        """What it shares with the probes that differ from it in nothing but rows."""
        return self._replace(rows=0)

    @property
    def work(self) -> float:
        """How long it takes beside others, roughly: its multiplications, or the weights it reads."""
        return max(self.flops, 8.0 * self.elements * (self.busy if self.top_k else 1))


class RateCurve(Spec):
    """Seconds against rows, for weights of `size` elements. Rows ascend."""

    size: float
    rows: tuple[float, ...]
    seconds: tuple[float, ...]

    def at(self, rows: float) -> float:
        """Linear between measurements and on beyond the last; the first one holds below it."""
        if rows <= self.rows[0] or len(self.rows) == 1:
            return self.seconds[0]
        right = min(bisect_right(self.rows, rows), len(self.rows) - 1)
        return _line(rows, self.rows[right - 1 : right + 1], self.seconds[right - 1 : right + 1])


Surface = tuple[RateCurve, ...]


class TimedProduct(Spec):
    """One matrix product: [m, k] x [k, n]."""

    m: int
    n: int
    k: int
    seconds: float


class MemoryReading(Spec):
    """Memory read over and over within a working set."""

    working_set: int
    bytes_per_s: float


class Rates(Spec):
    """What the device does in one dtype.

    layer_s      a mixture layer's fixed time.   pair_s  moving one element of one routed pair.
    experts      seconds a busy expert, pair movement taken out, against pairs an expert, idle ones
                 included: with it go both the share of experts that is busy and their load.
    ragged       how many times longer experts and networks take whose width vectors do not divide, by rows.
    gather       seconds a pair, where a kernel copies weights; used up to `gather_bytes` of copies.
    """

    itemsize: int
    layer_s: float
    pair_s: float
    ffn: Surface
    experts: Surface
    router: Surface
    ragged_experts: RateCurve | None = None
    ragged_ffn: RateCurve | None = None
    gather: Surface = ()
    gather_bytes: float = 0.0
    products: tuple[TimedProduct, ...] = ()
    peak_flops: float
    peak_bytes: float


class Calibration(Spec):
    """Everything measured on one device. `launch_s`: one small operation, start to end."""

    launch_s: float
    readings: tuple[MemoryReading, ...]
    rates: dict[str, Rates]

    def bandwidth(self, working_set: float | None = None) -> float:
        """Bytes a second read from a working set; None: from memory, past every cache."""
        sets = [float(reading.working_set) for reading in self.readings]
        speeds = [reading.bytes_per_s for reading in self.readings]
        if working_set is None or working_set >= sets[-1]:
            return speeds[-1]
        if working_set <= sets[0]:
            return speeds[0]
        right = bisect_right(sets, working_set)
        return _line(working_set, sets[right - 1 : right + 1], speeds[right - 1 : right + 1])


def question(device: Device = "auto") -> RunSpec:
    """What is asked to calibrate a device: a minute where it is idle, two where it is not, and patience."""
    return RunSpec(lab="calibrate", device=device, time_limit_s=PATIENCE_S)


def interpolate(surface: Surface, size: float, rows: float) -> float:
    """Seconds at weights of `size` elements and `rows` rows: linear in both, which is exact for any sum of a
    fixed part, a part by weights, one by rows and one by both. Beyond the largest size in proportion.
    """
    sizes = [curve.size for curve in surface]
    if size >= sizes[-1]:
        return surface[-1].at(rows) * size / sizes[-1]
    if size <= sizes[0]:
        return surface[0].at(rows)
    right = bisect_right(sizes, size)
    low, high = surface[right - 1], surface[right]
    return _line(size, (low.size, high.size), (low.at(rows), high.at(rows)))


def assemble(
    samples: Mapping[Probe, Sequence[float]],
    itemsizes: Mapping[str, int],
    gather_bytes: Mapping[str, float],
    statistic: Statistic = median,
) -> Calibration:
    """The calibration that samples of seconds amount to."""
    seconds = {probe: statistic(values) for probe, values in samples.items()}
    launch = next(value for probe, value in seconds.items() if probe.kind == "launch")
    reads = sorted((probe.rows, value) for probe, value in seconds.items() if probe.kind == "read")
    readings = tuple(
        MemoryReading(working_set=size, bytes_per_s=size / max(value - launch, 0.05 * value))
        for size, value in reads
    )
    rates = {
        dtype: _rates(
            {probe: value for probe, value in seconds.items() if probe.dtype == dtype},
            itemsize,
            gather_bytes[dtype],
            readings[-1].bytes_per_s,
        )
        for dtype, itemsize in itemsizes.items()
    }
    return Calibration(launch_s=launch, readings=readings, rates=rates)


class _Fixed(NamedTuple):
    """Seconds that do not depend on weights: of a layer, of moving one element of a pair, of one expert."""

    layer: float
    pair: float
    each: float

    def per_expert(self, probe: Probe, value: float) -> float:
        """Seconds of one busy expert: what a probe took without layer and moving."""
        rest = value - self.layer - self.pair * probe.pairs * probe.hidden
        return max(rest, 0.05 * value) / probe.busy

    def gathered(self, probe: Probe, value: float) -> float:
        """Seconds of gathered products alone."""
        return max(value - self.layer, 0.05 * value)


def _fixed(seconds: Mapping[Probe, float]) -> _Fixed:
    one = next(value for probe, value in seconds.items() if probe.kind == "layer")
    moved, taken = max((probe, value) for probe, value in seconds.items() if probe.kind == "pairs")
    tiny, many = _tiny(seconds)
    each = max(many - one, 0.0) / max(tiny.busy - 1, 1)
    layer = max(one - each, 0.0)
    pair = max(taken - layer - each * moved.experts, 0.0) / (moved.pairs * moved.hidden)
    return _Fixed(layer, pair, each)


def _tiny(seconds: Mapping[Probe, float]) -> tuple[Probe, float]:
    """The probe of many experts so small that only their number takes time."""
    return next((probe, value) for probe, value in seconds.items() if probe.kind == "each")


def _rates(seconds: Mapping[Probe, float], itemsize: int, gather_bytes: float, read: float) -> Rates:
    fixed, smallest = _fixed(seconds), float(_tiny(seconds)[0].elements)
    ffn = _surface(seconds, "ffn", lambda probe, value: value)
    experts = _surface(seconds, "experts", fixed.per_expert)
    odd = {probe: value for probe, value in seconds.items() if probe.kind == "ragged"}
    timed = [item for item in seconds.items() if item[0].kind in ("product", "ffn", "experts")]
    return Rates(
        itemsize=itemsize,
        layer_s=fixed.layer,
        pair_s=fixed.pair,
        ffn=ffn,
        experts=(RateCurve(size=smallest, rows=(1.0,), seconds=(fixed.each,)), *experts),
        ragged_experts=_ratios(
            {
                probe: fixed.per_expert(probe, value)
                / interpolate(experts, probe.elements, probe.pairs / probe.experts)
                for probe, value in odd.items()
                if probe.experts
            }
        ),
        ragged_ffn=_ratios(
            {
                probe: value / interpolate(ffn, probe.elements, probe.rows)
                for probe, value in odd.items()
                if not probe.experts
            }
        ),
        router=_surface(seconds, "router", lambda probe, value: value),
        gather=_surface(seconds, "gather", fixed.gathered),
        gather_bytes=gather_bytes,
        products=_products(seconds),
        peak_flops=max(probe.flops / value for probe, value in timed),
        peak_bytes=max(read, *(_weights_read(probe) * itemsize / value for probe, value in timed)),
    )


def _products(seconds: Mapping[Probe, float]) -> tuple[TimedProduct, ...]:
    return tuple(
        TimedProduct(m=probe.rows, n=probe.width, k=probe.hidden, seconds=value)
        for probe, value in sorted(seconds.items())
        if probe.kind == "product"
    )


def _ratios(ratios: Mapping[Probe, float]) -> RateCurve | None:
    """Ratios against pairs an expert, or rows; None where none was measured. Never below one."""
    if not ratios:
        return None
    points = sorted(
        (probe.pairs / probe.experts if probe.experts else float(probe.rows), max(ratio, 1.0))
        for probe, ratio in ratios.items()
    )
    size = float(next(iter(ratios)).elements)
    return RateCurve(
        size=size, rows=tuple(row for row, _ in points), seconds=tuple(ratio for _, ratio in points)
    )


def _weights_read(probe: Probe) -> float:
    return probe.elements * (probe.busy if probe.experts else 1)


def _surface(seconds: Mapping[Probe, float], kind: Kind, value: Callable[[Probe, float], float]) -> Surface:
    """Curves by size, over rows; for experts over pairs an expert, idle ones included."""
    curves: dict[float, list[tuple[float, float]]] = {}
    for probe, taken in seconds.items():
        if probe.kind != kind:
            continue
        size = float(probe.hidden * probe.experts if kind == "router" else probe.elements)
        rows = float(probe.rows)
        if kind == "experts":
            rows = probe.pairs / probe.experts
        elif kind == "gather":
            rows = float(probe.pairs)
        curves.setdefault(size, []).append((rows, value(probe, taken)))
    return tuple(
        RateCurve(size=size, rows=tuple(row for row, _ in points), seconds=tuple(time for _, time in points))
        for size, points in sorted((size, sorted(found)) for size, found in curves.items())
    )


def _line(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """The line through two points, at x; drawn on beyond the second, where it never falls."""
    slope = (ys[1] - ys[0]) / (xs[1] - xs[0])
    return ys[0] + slope * (x - xs[0]) if x <= xs[1] else ys[1] + max(slope, 0.0) * (x - xs[1])
