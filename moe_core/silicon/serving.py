"""A served model in steady state: time to first token and time per output token.

One pool of devices prefills and decodes. While `n` sequences each produce `osl` tokens, `n` prompts are
prefilled in between, so every token carries its share of that:

    TPOT = decode(n) + interference x n x prefill / osl
    TTFT = start + first x prefill + token + queue x prefill x busy / (1 - busy) + burst x (n - 1) x prefill

decode(n) is kernels + small kernels + host (`silicon.predict`); n is what the memory holds, if that is less
than what was asked: the rest waits. Few constants per framework, fitted to served benchmarks
(`silicon.workshop.served`). Benchmarks whose prompts run in step meet and wait differently; the others begin
with a burst too, whose share of the mean is `burst`. `busy` is the share of time spent on prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from moe_core.formats import Format
from moe_core.hardware import Hardware
from moe_core.perf import fit
from moe_core.perf.memory import Workload, model
from moe_core.perf.shard import Parallel
from moe_core.perf.step_time import Step, block_products, ops, small_kernels
from moe_core.silicon import systems
from moe_core.silicon.kernels import time
from moe_core.silicon.place import Place
from moe_core.specs import Architecture, Precision

# Scaling the input of a block product: measured, vLLM 0.24.0 on H100, scale_matrix, median of up to 64 rows.
BLOCK = 2.1e-6

# Where a fit starts, and what it leaves: a kernel's launch inside a graph, nothing hidden behind anything.
DEFAULT: dict[str, float] = {
    **{"kernels": 1.0, "small": 2e-6, "block": BLOCK, "step": 5e-4},
    **{"interference": 1.0, "interference_in_step": 1.0},
    **{"start": 0.02, "first": 1.0, "queue": 0.5, "burst": 0.05, "burst_in_step": 0.5},
}


class Served(NamedTuple):
    """Seconds of one decode step's kernels and of one prompt's, and the counts that constants multiply."""

    decode: float
    prefill: float
    small: int
    blocks: int
    prefill_blocks: int
    asked: int  # sequences
    running: int  # sequences that fit at once
    groups: int  # of devices that serve different sequences
    osl: int
    in_step: bool

    @property
    def prompts_per_token(self) -> float:
        """Prompts that a group prefills while each of its sequences produces one token."""
        return self.running / self.groups / self.osl


def served(
    arch: Architecture,
    hardware: Hardware,
    *,
    sequences: int,
    isl: int,
    osl: int,
    precision: Precision = Precision(),
    kv: Format = "bf16",
    parallel: Parallel = Parallel(),
    framework: str = "vllm",
    in_step: bool = False,
) -> Served:
    """What the kernels of one configuration take. Raises InfeasibleError when not one sequence fits."""
    setting = fit.Setting(model(arch), precision, kv)
    half = Workload(context=isl + osl // 2, chunk=2048)
    running = min(sequences, fit.largest_batch(setting, half, hardware.capacity, parallel))
    system = systems.of(hardware)
    place = Place(hardware, system.name, system.own, framework)
    how = (precision, kv, parallel)
    decode, blocks = _kernels(arch, Step(batch=running, new=1, past=isl + osl // 2), *how, place)
    prefill, more = _kernels(arch, Step(batch=parallel.groups, new=isl), *how, place)
    counts = (small_kernels(arch), blocks, more, sequences, running, parallel.groups, osl, in_step)
    return Served(decode, prefill, *counts)


def tpot(case: Served, c: Mapping[str, float]) -> float:
    """Seconds per output token after the first."""
    share = c["interference_in_step"] if case.in_step else c["interference"]
    return decode(case, c) + share * case.prompts_per_token * prefill(case, c)


def ttft(case: Served, c: Mapping[str, float]) -> float:
    """Seconds to the first token: its own prefill, the step it interrupts, and those in front of it."""
    own = prefill(case, c)
    token = tpot(case, c)
    busy = min(0.95, case.prompts_per_token * own / token)
    queue = c["queue"] * own * busy / (1 - busy)
    others = max(0.0, case.running / case.groups - 1)
    burst = c["burst_in_step"] if case.in_step else c["burst"]
    late = (case.asked - case.running) / case.running * case.osl * token
    return c["start"] + c["first"] * own + token + queue + burst * others * own + late


def decode(case: Served, c: Mapping[str, float]) -> float:
    """Seconds of one decode step alone."""
    return c["kernels"] * case.decode + c["small"] * case.small + c["block"] * case.blocks + c["step"]


def prefill(case: Served, c: Mapping[str, float]) -> float:
    """Seconds of one prompt alone."""
    return c["kernels"] * case.prefill + c["small"] * case.small + c["block"] * case.prefill_blocks


def _kernels(
    arch: Architecture, step: Step, precision: Precision, kv: Format, parallel: Parallel, place: Place
) -> tuple[float, int]:
    """Seconds of all kernels of a step, and its products that scale by blocks."""
    found = ops(arch, step, precision, kv, parallel)
    return sum(op.times * time(op.kernel, place).seconds for op in found), block_products(found)
