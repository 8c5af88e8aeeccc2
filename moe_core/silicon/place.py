"""Where a kernel runs, and what its time is made of: the data sheet's roof under every answer."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from moe_core.errors import ConfigError
from moe_core.hardware import Hardware
from moe_core.perf.gemm import DataSheet

MEASURED = 0.06  # log error of a look-up: repeats and neighbouring kernels differ by so much
BETWEEN = 0.12  # of a product between measured shapes
FAR = 0.25  # added where constants come from another device


class Place(NamedTuple):
    """Where a kernel runs: the device, the measured system it is or is nearest to, and the framework."""

    device: Hardware
    system: str
    own: bool
    framework: str

    @property
    def frameworks(self) -> tuple[str, str]:
        """Whose tables serve, in order: TensorRT-LLM has none here."""
        return ("sglang", "vllm") if self.framework == "sglang" else ("vllm", "sglang")


class KernelTime(NamedTuple):
    """Seconds of one run, what it multiplies and moves, the least time the data sheet allows for both."""

    seconds: float
    flops: float
    bytes: float
    compute_s: float
    memory_s: float
    measured: bool
    spread: float
    distinct: float | None = None
    network: bool = False

    def scaled(self, factor: float) -> KernelTime:
        """Another framework's kernel, never below the roof."""
        return KernelTime(max(self.seconds * factor, self.compute_s, self.memory_s), *self[1:])


def dtype(form: str) -> str:
    return {"fp16": "bf16", "fp32": "bf16"}.get(form, form)


@lru_cache(maxsize=1024)
def machine(place: Place, form: str) -> DataSheet:
    """The data sheet for products in `form`; a format it has no peak for is widened to 16 bits."""
    try:
        return DataSheet(place.device.peak(form), place.device.bandwidth)
    except ConfigError:
        return DataSheet(place.device.peak("bf16"), place.device.bandwidth)


def far(place: Place) -> float:
    """Log error that comes from using another device's constants."""
    return 0.0 if place.own else FAR


def timed(
    place: Place, form: str, seconds: float, flops: float, moved: float, measured: bool, spread: float
) -> KernelTime:
    """A kernel on the device's memory and multipliers, never below their roof."""
    sheet = machine(place, form)
    compute, memory = flops / sheet.peak, moved / sheet.bandwidth
    return KernelTime(max(seconds, compute, memory), flops, moved, compute, memory, measured, spread)


def sent(place: Place, seconds: float, nbytes: float, measured: bool, spread: float) -> KernelTime:
    """A collective: its bytes cross the link, inside a node never faster than the data sheet's."""
    least = nbytes / place.device.link if place.device.link else 0.0
    return KernelTime(max(seconds, least), 0.0, 0.0, 0.0, 0.0, measured, spread, network=True)
