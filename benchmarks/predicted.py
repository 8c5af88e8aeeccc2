"""Predicted against measured on this machine: mixture and dense layers, from a calibration of its own.

    python -m benchmarks.predicted [--device auto] [--rounds 4] [--quick] [--shapes ...] [--tokens ...]

The grid of `benchmarks.kernels`: every point predicted by `moe_core.perf.device_model` from probes of
other shapes. Rounds alternate: all probes once, then every point of the grid; so what disturbs the
machine for a while disturbs both. A time is the least over the rounds, for a mixture the median over
routings of that. Writes benchmarks/results/predicted-<device kind>-<date>.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from statistics import mean, median
from typing import Any, NamedTuple

import torch

from benchmarks.kernels import SHAPES, TOKENS, Shape
from benchmarks.machine import environment, settle, store
from moe_core import device as dev
from moe_core.labs.bank import random_routing
from moe_core.labs.device_probe import Probing, Samples
from moe_core.nn.experts import auto
from moe_core.perf import device_model
from moe_core.perf.calibrate import Calibration, Probe
from moe_core.units import TERA

SERIES = ("mixture", "dense_active", "dense_total")
ROUTINGS = 4
LONG_S = 0.15  # a call that takes longer is made once a round, with one routing
LIMIT = 0.15  # the error that is promised


class Point(NamedTuple):
    """One layer at one number of tokens."""

    shape: str
    dtype: str
    tokens: int
    series: str

    @property
    def sizes(self) -> Shape:
        return SHAPES[self.shape]

    @property
    def width(self) -> int:
        """Of the dense network."""
        shape = self.sizes
        return shape.width * (shape.top_k if self.series == "dense_active" else shape.experts)

    @property
    def flops(self) -> float:
        return 6.0 * self.tokens * self.sizes.hidden * self.width


Times = dict[Point, dict[int, list[float]]]  # point -> routing -> seconds


def points(options: argparse.Namespace, device: torch.device) -> list[Point]:
    """The grid, but dense networks that would take longer than everything else together."""
    most = 2 * TERA if device.type == "cpu" else 2000 * TERA
    found = [
        Point(shape, dtype, tokens, series)
        for dtype in options.dtypes
        for shape in options.shapes
        for tokens in options.tokens
        for series in SERIES
    ]
    return [point for point in found if point.series != "dense_total" or point.flops <= most]


def measure(probing: Probing, point: Point, times: dict[int, list[float]]) -> None:
    """One round of one point: every routing once, a call to warm up before the first."""
    call = _call(probing, point)
    if not times:
        _timed(probing.device, call(0))
    for seed in range(ROUTINGS):
        seconds = _timed(probing.device, call(seed))
        times.setdefault(seed, []).append(seconds)
        if seconds > LONG_S:
            return


def _call(probing: Probing, point: Point) -> Callable[[int], Callable[[], object]]:
    """Routing number -> what is timed, on the next weights."""
    shape, dtype = point.sizes, dev.DTYPES[point.dtype]
    x_TD, pool = probing.input(point.tokens, shape.hidden, dtype), probing.pool(dtype)
    if point.series != "mixture":
        return lambda seed: lambda network=pool.dense(shape.hidden, point.width): network(x_TD)  # type: ignore[misc]

    def mixture(seed: int) -> Callable[[], object]:
        routing = random_routing(point.tokens, shape.experts, shape.top_k, seed, probing.device)
        weights = pool.experts(shape.hidden, shape.width, shape.experts)
        return lambda: auto(x_TD, routing, weights)

    return mixture


def _timed(device: torch.device, call: Callable[[], object]) -> float:
    dev.synchronise(device)
    with dev.Timer(device) as timer:
        call()
    return timer.seconds


def predict(calibration: Calibration, point: Point) -> device_model.Estimate:
    shape = point.sizes
    if point.series != "mixture":
        return device_model.dense(calibration, point.dtype, shape.hidden, point.width, point.tokens)
    layer = device_model.Mixture(shape.hidden, shape.width, shape.experts, shape.top_k)
    return device_model.mixture(calibration, point.dtype, layer, point.tokens, scored="kernel")


def rows(calibration: Calibration, times: Times) -> Iterator[dict[str, Any]]:
    """One row a point: predicted, measured, error."""
    for point, found in times.items():
        measured = median(min(seconds) for seconds in found.values())
        guess = predict(calibration, point)
        yield {
            **point._asdict(), "predicted_s": guess.seconds, "measured_s": measured,
            "error": guess.seconds / measured - 1, "roof_s": guess.roof_s, "bound": guess.bound,
            "calls": sum(map(len, found.values())), "parts": guess.parts,
        }  # fmt: skip


def errors(found: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Mean, median and worst absolute relative error."""
    sizes = [abs(row["error"]) for row in found]
    return {"mape": mean(sizes), "median": median(sizes), "worst": max(sizes), "points": len(sizes)}


def summarise(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors of everything, and by each of series, dtype, shape and tokens."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        for name in ("series", "dtype", "shape", "tokens"):
            groups[f"{name} {row[name]}"].append(row)
    return {"all": errors(found), **{name: errors(group) for name, group in groups.items()}}


def run(options: argparse.Namespace, device: torch.device) -> tuple[Samples, Probing, Times]:
    """Rounds of probes and points, in turn."""
    grid = points(options, device)
    largest = max(3 * p.sizes.hidden * p.sizes.width * p.sizes.experts for p in grid)
    probing = Probing(device, least=4 * largest)
    samples, times = defaultdict[Probe, list[float]](list), {point: {} for point in grid}
    for number in range(options.rounds):
        start = time.monotonic()
        probing.sweep(samples, number == 0, lambda share: settle())
        between = time.monotonic()
        for point in grid:
            settle()
            measure(probing, point, times[point])
        ended = time.monotonic()
        print(f"round {number + 1}: probes {between - start:.0f} s, grid {ended - between:.0f} s", flush=True)
    return samples, probing, times


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", default=list(reversed(dev.DTYPES)), choices=list(dev.DTYPES))
    parser.add_argument("--tokens", nargs="+", type=int, default=list(TOKENS))
    parser.add_argument("--quick", action="store_true", help="a smoke run: one shape, two sizes, no file")
    options = parser.parse_args()
    if options.quick:
        options.shapes, options.tokens, options.rounds = ["fine"], [1, 64], 1
    return options


def main() -> None:
    options = parse()
    device = dev.pick(options.device)
    facts = environment(device)
    with torch.inference_mode():
        samples, probing, times = run(options, device)
    calibration = probing.assemble(samples, statistic=min)
    found = list(rows(calibration, times))
    for row in found:
        print(
            f"{row['shape']:8}{row['dtype']:5}{row['tokens']:5} {row['series']:13}"
            f"{row['measured_s'] * 1e3:10.3f} ms, predicted {row['predicted_s'] * 1e3:10.3f} ms"
            f" {row['error']:+5.0%}"
        )
    summary = summarise(found)
    print(json.dumps(summary, indent=1))
    print(f"mean error {summary['all']['mape']:.1%}, promised {LIMIT:.0%}")
    if not options.quick:
        store(
            "predicted",
            {
                "benchmark": "predicted", "environment": facts, "rounds": options.rounds, "limit": LIMIT,
                "summary": summary, "calibration": calibration.model_dump(mode="json"), "points": found,
            },
        )  # fmt: skip


if __name__ == "__main__":
    main()
