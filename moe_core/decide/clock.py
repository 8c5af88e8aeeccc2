"""Clock: seconds of a step at any batch and length, drawn through predictions at powers of two.

Predictions are taken at powers of two of batch, prompt and context (so at the values people choose they
are exact), and between them log seconds are linear in the logarithms. That makes a verdict continuous in
its inputs, gives root finding something to stand on, and a moved knob costs a few predictions, most of them
kept. Between the powers it is within an eighth of the predictor, which has steps of its own there; that is
inside the predictor's error.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, floor, log, log2
from typing import NamedTuple

from moe_core.formats import Format
from moe_core.hardware import Hardware
from moe_core.perf.shard import Parallel
from moe_core.perf.step_time import Step
from moe_core.silicon.predict import Prediction, Source, hop, predict
from moe_core.specs import Architecture, Precision

CHUNK = 8192  # tokens that prefill runs at once where prompts are short
LAST = 19  # a step takes at most 2^19 tokens or sequences
WAVER = 1.25  # so far tables may waver between neighbouring batches
LONG = 1024  # the past of a prefill is 0, 1024, 3072, 7168 ... tokens at the nodes


class Reading(NamedTuple):
    """Seconds, the log half-width of their 80 % interval, the share spent between devices, and the source."""

    seconds: float
    spread: float
    network: float
    distinct: float | None
    source: Source

    @property
    def lower(self) -> float:
        """Seconds at the faster end of the interval."""
        return self.seconds * exp(-self.spread)

    @property
    def upper(self) -> float:
        return self.seconds * exp(self.spread)


class Clock:
    """One architecture on one group of devices, equal by what decides its seconds; readings are kept.

    `hardware` as the data file has it: prices, memory and links of one's own are none of its business.
    """

    __slots__ = (
        *("architecture", "framework", "hardware", "hash", "key", "kv", "load", "name", "parallel"),
        "precision",
    )

    def __init__(
        self,
        architecture: Architecture,
        key: str,
        hardware: Hardware,
        precision: Precision,
        kv: Format,
        parallel: Parallel,
        framework: str,
        load: tuple[float, ...] | None = None,
    ) -> None:
        self.architecture, self.key, self.hardware = architecture, key, hardware
        self.precision, self.kv, self.parallel = precision, kv, parallel
        self.framework, self.load = framework, load
        ways = (parallel.tensor, parallel.expert)
        self.name = (key, load, _name(precision), kv, hardware.name, ways, framework)
        self.hash = hash(self.name)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Clock) and self.name == other.name)

    def decode(self, batch: float, past: float) -> Reading:
        """One token for each of `batch` sequences with `past` tokens behind them."""
        return _between(self, batch, past, _decode)

    def first(self, prompt: float, past: float) -> Reading:
        """One prompt alone: what its user waits for."""
        return _between(self, prompt, past, _first)

    def hop(self, tokens: float) -> float:
        """Seconds in which one stage hands what so many tokens have become to the next."""
        return hop(self.hardware, self.framework, max(tokens, 1.0) * self.architecture.hidden * 2)

    def prefill(self, prompt: float, past: float) -> Reading:
        """Seconds of one prompt among enough others to fill the devices."""
        return _between(self, prompt, past, _share)


@lru_cache(maxsize=100_000)
def _between(clock: Clock, many: float, past: float, kind: int) -> Reading:
    """Bilinear in the logarithms, drawn on beyond the last node; corners of weight zero are not read."""
    x, y = log2(max(many, 1.0)), log2(max(past, 1.0) if kind == _decode else 1 + past / LONG)
    x0, y0 = min(floor(x), LAST - 1), floor(y)
    corners = [
        (wx * wy, _node(clock, kind, x0 + dx, y0 + dy))
        for dx, wx in ((0, 1 - (x - x0)), (1, x - x0))
        for dy, wy in ((0, 1 - (y - y0)), (1, y - y0))
        if wx * wy
    ]
    if len(corners) == 1:
        return corners[0][1]
    main = max(corners, key=lambda corner: corner[0])[1]
    return Reading(
        exp(sum([w * log(r.seconds) for w, r in corners])),
        sum([w * r.spread for w, r in corners]),
        sum([w * r.network for w, r in corners]),
        None if main.distinct is None else sum([w * (r.distinct or 0.0) for w, r in corners]),
        main.source,
    )


@lru_cache(maxsize=1024)
def _name(precision: Precision) -> str:
    return precision.model_dump_json(exclude_none=True)


_decode, _first, _share = range(3)


@lru_cache(maxsize=50_000)
def _node(clock: Clock, kind: int, x: int, y: int) -> Reading:
    """The prediction at a node. Memory is judged elsewhere."""
    groups = clock.parallel.groups
    if kind == _decode:
        return _padded(clock, x, y)
    past, new = (2**y - 1) * LONG, 2**x
    if kind == _first:
        return _reading(_predicted(clock, Step(batch=1, new=new, past=past)), 1)
    many = groups * max(1, min(CHUNK, 2**LAST // groups) // new)
    return _reading(_predicted(clock, Step(batch=many, new=new, past=past)), many)


def _padded(clock: Clock, x: int, y: int) -> Reading:
    """A batch of 2^x, padded to a larger power where that was measured to be faster: fewer never take longer.

    They are looked at until one takes longer by more than tables waver.
    """
    found = _decoded(clock, x, y)
    for larger in (_decoded(clock, more, y) for more in range(x + 1, LAST + 1)):
        if larger.seconds > found.seconds * WAVER:
            break
        found = min(found, larger, key=lambda reading: reading.seconds)
    return found


@lru_cache(maxsize=50_000)
def _decoded(clock: Clock, x: int, y: int) -> Reading:
    return _reading(_predicted(clock, Step(batch=2**x, new=1, past=2**y)), 1)


def _predicted(clock: Clock, step: Step) -> Prediction:
    return predict(
        clock.architecture,
        clock.hardware,
        step,
        precision=clock.precision,
        kv=clock.kv,
        parallel=clock.parallel,
        framework=clock.framework,
        load=clock.load,
        check_memory=False,
    )


def _reading(found: Prediction, many: int) -> Reading:
    network = sum(part.seconds for part in found.parts if part.bound == "network") / found.seconds
    spread = log(found.upper / found.lower) / 2
    return Reading(found.seconds / many, spread, network, found.distinct_experts, found.source)
