"""Device probe: measures this device, a minute at most, so that layers it never ran can be predicted.

Every probe of `moe_core.perf.calibrate` in turn, several passes over all of them: what disturbs the
machine for a while disturbs few samples of each. None has the shape of a layer that is predicted.

Bounded by construction: the first pass takes the probes in the order of their work and foresees the time of
each from the same probe with fewer rows. What would not fit is left out, and drawn on from what was timed.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from moe_core import pressure
from moe_core.device import (
    DTYPES,
    Timer,
    cache_bytes,
    computing_with,
    dtype_name,
    grouped_mm_takes,
    synchronise,
)
from moe_core.labs import probes
from moe_core.labs.bank import Pool, pool_elements, random_routing
from moe_core.nn.experts import GATHER_BYTES_GROUPED, GATHER_BYTES_PADDED, KERNELS
from moe_core.nn.router import build
from moe_core.nn.routing import Routing
from moe_core.nn.tuning import NEUTRAL, Tuning
from moe_core.perf.calibrate import Calibration, Probe, assemble
from moe_core.runs import admission, allocator, answer
from moe_core.runs import question as questions
from moe_core.runs.context import RunContext
from moe_core.runs.tuning import known
from moe_core.specs import Experts, RunSpec
from moe_core.units import MIB

BUDGET_S = 42.0  # of filling the pool and all passes; starting the program takes some seconds more
BUSY_S = 65.0  # the same on a machine that has as much to do already as it can, and gives a share of itself
FIRST = 0.6  # of what is left of it once the pool is filled, for the first pass, which warms up
PASSES = 5  # at most
LONGEST_S = 0.5  # of one call; what would take longer is drawn on from what does not
CALL_S = 0.03  # short probes are called several times a pass, about so long
LONG_S = 0.05  # a probe that takes longer is not warmed up
SEEDS = 4  # routings that repeat: products of new sizes are compiled once, as in use

Samples = defaultdict[Probe, list[float]]


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle: the calibration of this device in its summary.

    Raises ConfigError, InfeasibleError (before anything is allocated), CancelledError, StoreError.
    """
    context.step("check", 0.0)
    question = questions.resolve(spec)
    wanted = need(question.device)
    admission.admit(wanted, question.device)
    with admission.memory_guarded(wanted):
        found, passes = calibrate(question.device, context)
    context.step("write", 0.98)
    summary = {"decisions": 0, "calibration": found.model_dump(mode="json"), "passes": passes}
    rules = {"cache_bytes": cache_bytes(question.device)}
    return answer.publish(question, context, {}, summary, rules, since="probe")


def need(device: torch.device) -> admission.Need:
    """Bytes of a calibration: the weights, and activations of the longest probe."""
    return admission.Need({"weights": _elements(device) * 2, "activations": 600 * MIB}, {})


def calibrate(device: torch.device, context: RunContext | None = None) -> tuple[Calibration, int]:
    """What the device does in every dtype it computes in, and how many passes that was measured over."""
    start, quiet = time.monotonic(), pressure.now().quiet
    probing = Probing(device, known(device))
    with torch.inference_mode():
        samples, passes = probing.run(context or RunContext(), start + (BUDGET_S if quiet else BUSY_S))
    return probing.assemble(samples), passes


class Probing:
    """The probes of a device, ready to run: weights allocated once, whatever the dtype."""

    def __init__(self, device: torch.device, tuning: Tuning = NEUTRAL, least: int = 0) -> None:
        """`tuning`: how `auto` chooses.   `least`: bytes the pool must have, for whoever borrows it."""
        allocator.keep_pages()  # as in every run
        self.device, self.tuning = device, tuning
        self.dtypes = [DTYPES[name] for name in probes.dtypes(device)]
        self._planned = probes.planned(device, tuning)
        half = Pool.filled(max(_elements(device), least // 2), torch.bfloat16, device)
        self._pools = {torch.bfloat16: half, torch.float32: half.viewed(torch.float32)}
        self._inputs: dict[tuple[torch.dtype, int], Tensor] = {}
        self._calls: dict[Probe, Callable[[int], TimedCall]] = {}
        self._turn = count()

    def probes(self) -> list[Probe]:
        """Everything that may be timed, the device's own limits first, then by work."""
        largest = self._pools[torch.float32].nbytes
        found = [Probe("launch")]
        found += [Probe("read", rows=size) for size in (*probes.READS, largest) if size <= largest]
        return found + self._planned

    def run(self, context: RunContext, deadline: float) -> tuple[Samples, int]:
        """Samples of the probes that fit before the deadline (monotonic), and how many whole passes."""
        samples, start = defaultdict[Probe, list[float]](list), time.monotonic()

        def step(_share: float) -> None:
            spent = (time.monotonic() - start) / max(deadline - start, 0.01)
            context.step("probe", min(0.97, 0.02 + 0.95 * spent))

        self.sweep(samples, True, step, start + FIRST * (deadline - start))
        for number in range(1, PASSES):
            if not self.sweep(samples, False, step, deadline):
                return samples, number
        return samples, PASSES

    def sweep(
        self,
        samples: Samples,
        warm: bool,
        step: Callable[[float], None] = lambda share: None,
        until: float = math.inf,
    ) -> bool:
        """One pass: times are added to `samples`. Probes that would not end by then are left out.

        False when the time ran out. `warm`: the first pass, which warms up and decides what is timed at all.
        The first rung of every ladder is timed in any case: there is nothing to foresee it from.
        """
        found = self.probes() if warm else list(samples)
        in_time, rungs = True, dict[Probe, Probe]()
        for place, probe in enumerate(found):
            step(place / len(found))
            lower, seconds = rungs.get(probe.ladder) if warm else probe, 0.0
            if lower is not None:
                seconds = probes.foreseen(probe, lower, min(samples[lower]))
                calls = 1 + SEEDS if warm and seconds <= LONG_S else 1
                if time.monotonic() + max(calls * seconds, CALL_S) > until:
                    in_time = False
                    continue
                if warm and seconds > LONGEST_S:
                    continue
            samples[probe] += self._time(probe, warm and seconds <= LONG_S)
            rungs[probe.ladder] = probe
        return in_time

    def assemble(self, samples: Samples, **options: Callable[..., float]) -> Calibration:
        """The calibration these samples amount to."""
        names = {dtype_name(dtype): dtype for dtype in self.dtypes}
        limits = {name: self._gather_bytes(dtype) for name, dtype in names.items()}
        return assemble(samples, {name: dtype.itemsize for name, dtype in names.items()}, limits, **options)

    def _gather_bytes(self, dtype: torch.dtype) -> float:
        if self.device.type == "cpu":
            return 0.0
        groups = grouped_mm_takes(self.device, dtype, 1024)
        return float(GATHER_BYTES_GROUPED if groups else GATHER_BYTES_PADDED)

    # -- timing ------------------------------------------------------------------------------------

    def _time(self, probe: Probe, warm: bool) -> list[float]:
        """Seconds of one call, in later passes of several short ones."""
        call = self._calls.setdefault(probe, MAKE[probe.kind](self, probe))
        for seed in range((SEEDS if probe.top_k else 1) if warm else 0):
            if self._once(call(seed), probe) > LONG_S:
                break
        first = self._once(call(next(self._turn)), probe)
        more = 0 if warm else min(12, int(CALL_S / first))
        return [first, *(self._once(call(next(self._turn)), probe) for _ in range(more))]

    def _once(self, timed: TimedCall, probe: Probe) -> float:
        synchronise(self.device)
        with computing_with(self._team(probe)), Timer(self.device) as timer:
            for _ in range(timed.times):
                timed.call()
        return timer.seconds / timed.times

    def _team(self, probe: Probe) -> int | None:
        """Threads for a probe, as in a run: by its multiplications. None for as many as there are."""
        if not probe.flops:
            return None
        return self.tuning.threads(probe.dtype, int(probe.flops / 2 / probe.rows), probe.rows)

    def input(self, rows: int, hidden: int, dtype: torch.dtype) -> Tensor:
        """[rows, hidden] random numbers, the same ones every time."""
        made = self._inputs.get((dtype, hidden))
        if made is None or made.shape[0] < rows:
            made = torch.randn(rows, hidden, device=self.device).to(dtype)
            self._inputs[dtype, hidden] = made
        return made[:rows]

    def pool(self, dtype: torch.dtype) -> Pool:
        return self._pools[dtype]


class TimedCall(NamedTuple):
    """What is timed, `times` times in a row where one is too short."""

    call: Callable[[], object]
    times: int = 1


def _elements(device: torch.device) -> int:
    """Elements of the pool in bf16: room for the probe with the most weights in fp32 too."""
    largest = max(probe.weights for probe in probes.planned(device))
    return pool_elements(2 * largest, 2, device)


def _launch(self: Probing, probe: Probe) -> Callable[[int], TimedCall]:
    small = torch.zeros(8, device=self.device)
    return lambda turn: TimedCall(lambda: small.add_(1.0), 100)


def _read(self: Probing, probe: Probe) -> Callable[[int], TimedCall]:
    words = self.pool(torch.float32).first(probe.rows // 4)
    return lambda turn: TimedCall(words.sum, max(1, min(50, 16 * MIB // probe.rows)))


def _product(self: Probing, probe: Probe) -> Callable[[int], TimedCall]:
    dtype = DTYPES[probe.dtype]
    x_TD = self.input(probe.rows, probe.hidden, dtype)

    def call(turn: int) -> TimedCall:
        weight_FD = self.pool(dtype).take(probe.width, probe.hidden)
        return TimedCall(lambda: torch.nn.functional.linear(x_TD, weight_FD))

    return call


def _ffn(self: Probing, probe: Probe) -> Callable[[int], TimedCall]:
    dtype = DTYPES[probe.dtype]
    x_TD = self.input(probe.rows, probe.hidden, dtype)

    def call(turn: int) -> TimedCall:
        network = self.pool(dtype).dense(probe.hidden, probe.width)
        return TimedCall(lambda: network(x_TD))

    return call


def _experts(self: Probing, probe: Probe) -> Callable[[int], TimedCall]:
    dtype = DTYPES[probe.dtype]
    x_TD = self.input(probe.rows, probe.hidden, dtype)
    routings = _typical(probe, self.device)
    kernel = KERNELS[_kernel(self, probe)]

    def call(turn: int) -> TimedCall:
        bank = self.pool(dtype).experts(probe.hidden, probe.width, probe.experts)
        weights = bank._replace(tuning=self.tuning)
        return TimedCall(lambda: kernel(x_TD, routings[turn % SEEDS], weights))

    return call


def _typical(probe: Probe, device: torch.device) -> list[Routing]:
    """Routings that hit as many experts as is expected: with few tokens, that decides the time."""
    sizes, tries = (probe.rows, probe.experts, probe.top_k), SEEDS if probe.rows > 64 else 48
    made = [random_routing(*sizes, seed, device, each=probe.kind == "each") for seed in range(tries)]
    made.sort(key=lambda routing: abs(int((routing.load_E() > 0).sum()) - probe.busy))
    return made[:SEEDS]


def _kernel(self: Probing, probe: Probe) -> str:
    """On a CPU what `auto` takes. On a GPU the kernel for many pairs, and the gathering one, apart."""
    if self.device.type == "cpu":
        moves = probe.kind == "pairs" and not self.tuning.emulates(probe.dtype)
        return "sorted" if moves else "auto"
    if probe.kind == "gather":
        return "gather"
    return "grouped" if grouped_mm_takes(self.device, DTYPES[probe.dtype], probe.hidden) else "padded"


def _router(self: Probing, probe: Probe) -> Callable[[int], TimedCall]:
    dtype = DTYPES[probe.dtype]
    router = build(Experts(count=probe.experts, top_k=4, width=1), probe.hidden).to(self.device, dtype)
    x_TD = self.input(probe.rows, probe.hidden, dtype)
    return lambda turn: TimedCall(lambda: router(x_TD))


def _ragged(self: Probing, probe: Probe) -> Callable[[int], TimedCall]:
    return _experts(self, probe) if probe.experts else _ffn(self, probe)


MAKE: dict[str, Callable[[Probing, Probe], Callable[[int], TimedCall]]] = {
    "launch": _launch,
    "read": _read,
    "product": _product,
    "ffn": _ffn,
    "router": _router,
    "ragged": _ragged,
    **dict.fromkeys(("layer", "each", "pairs", "experts", "gather"), _experts),
}
