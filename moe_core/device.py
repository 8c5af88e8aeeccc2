"""Device: the one place for code that differs between CUDA, Apple (MPS) and CPU devices.

Nothing else in the project calls `torch.cuda` or `torch.mps`. Bytes and seconds throughout.
"""

from __future__ import annotations

import platform
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import NamedTuple, Self

import psutil
import torch
from torch.nn import functional

from moe_core.errors import ConfigError
from moe_core.units import GIB, KIB, MIB

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
AMPERE = (8, 0)  # the first CUDA capability with bf16 tensor cores
# Hopper and data-centre Blackwell: the majors for which torch has a grouped product. On others (8.x, 12.x)
# `grouped_mm` copies the offsets to the host and multiplies group by group, as its source says
# (ATen/native/cuda/GroupedBlas.cpp of torch 2.10): not tried on such a card.
GROUPED_MM_MAJORS = (9, 10)
PLAUSIBLE_CACHE = (256 * KIB, 2 * GIB)  # of a last cache, in bytes
ASSUMED_CACHE = 32 * MIB
_CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_CGROUP = Path("/sys/fs/cgroup")


class DeviceInfo(NamedTuple):
    """What a number was measured on. Plain values only: it is written as JSON."""

    kind: str  # cpu, cuda, mps
    name: str
    key: str  # the same for equal devices, part of a run's identity
    threads: int  # that torch computes with on the host
    memory_bytes: int
    capability: str | None  # CUDA compute capability, or the widest CPU instruction set in use
    driver: str | None
    cuda: str | None


def pick(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes CUDA, then Apple's, then the CPU. Raises ConfigError."""
    available: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there()))
    if name not in available:
        raise ConfigError(f"device ({name}) must be one of auto, {', '.join(available)}")
    if not available[name]():
        raise ConfigError(f"device ({name}) is not available: torch {torch.__version__} finds none here")
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name` (fp32, bf16). "auto" is bf16 where that is faster by definition.

    On a CPU the faster one depends on the question: `moe_core.runs.question` resolves "auto" itself.
    """
    if name == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"dtype ({name}) must be one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def dtype_name(dtype: torch.dtype) -> str:
    """`torch.bfloat16` -> "bf16": the inverse of `resolve_dtype`."""
    return next(name for name, known in DTYPES.items() if known == dtype)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 products are faster than fp32 ones by definition: CUDA from Ampere on.

    Of a CPU its flags do not tell: some that multiply bf16 are slower at it with few rows. There it is
    measured (`moe_core.nn.tuning`).
    """
    return device.type == "cuda" and capability(device) >= AMPERE


def capability(device: torch.device) -> tuple[int, int]:
    """CUDA compute capability; (0, 0) for any other device."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)


def supports_grouped_mm(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `functional.grouped_mm` is one kernel here. Elsewhere it is a loop that waits, or missing."""
    known = hasattr(functional, "grouped_mm") and device.type == "cuda" and dtype == torch.bfloat16
    return known and capability(device)[0] in GROUPED_MM_MAJORS


def grouped_mm_takes(device: torch.device, dtype: torch.dtype, *sizes: int) -> bool:
    """Whether `functional.grouped_mm`, as a kernel or a loop, takes weights with rows of these sizes here."""
    aligned = all(size * dtype.itemsize % 16 == 0 for size in sizes)
    loops = device.type == "cpu" and dtype in DTYPES.values() and hasattr(functional, "grouped_mm")
    return aligned and (loops or supports_grouped_mm(device, dtype))


def synchronise(device: torch.device) -> None:
    """Waits until everything asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def threads() -> int:
    """Threads that torch computes with on the host."""
    return torch.get_num_threads()


@contextmanager
def computing_with(wanted: int | None) -> Iterator[None]:
    """Inside the block torch computes with so many threads of the host; None leaves their number as it is."""
    before = threads()
    if wanted in (None, before):
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def waits_forbidden(device: torch.device) -> Iterator[None]:
    """Inside the block CUDA raises RuntimeError when the host waits for the device. Others cannot tell."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class Timer:
    """`with Timer(device) as timer: ...` and then `timer.seconds`.

    On CUDA two events in the stream, so timing does not stall the work; reading waits for the
    second. On Apple devices the device is synchronised at both ends. On CPU a wall clock.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events = [torch.cuda.Event(enable_timing=True) for _ in "ab"] if device.type == "cuda" else []
        self._start = self._stop = 0.0

    def __enter__(self) -> Self:
        self._start = self._mark(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = self._mark(1)

    def _mark(self, end: int) -> float:
        if self._events:
            self._events[end].record(torch.cuda.current_stream(self._device))
            return 0.0
        synchronise(self._device)
        return perf_counter()

    @property
    def seconds(self) -> float:
        """Between entry and exit of the block."""
        if not self._events:
            return self._stop - self._start
        self._events[1].synchronize()
        return float(self._events[0].elapsed_time(self._events[1])) / 1e3


class PeakMemory:
    """`with PeakMemory(device) as peak: ...` and then `peak.bytes`, `peak.increase`, `peak.what`.

    CUDA: bytes in torch's own tensors at the worst moment (cache and context not counted).
    Apple: torch keeps no maximum, so what its driver holds at the end, a lower bound.
    CPU: the process's resident memory at the worst moment: Python, libraries, and pages the
    allocator keeps count too. Where the kernel cannot restart that maximum (outside Linux) an
    earlier and higher moment hides the block: `increase` is then a lower bound.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.bytes = self.increase = 0
        measures = {"cuda": "tensors on the device", "mps": "memory held by the driver"}
        self.what = measures.get(device.type, "resident memory of the process")

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        elif self._device.type == "cpu":
            _restart_peak_rss()
        self._before = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bytes = self._read()
        self.increase = max(0, self.bytes - self._before)

    def _read(self) -> int:
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        if self._device.type == "mps":
            return int(torch.mps.driver_allocated_memory())
        return _peak_rss()


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated now. On a CPU the smaller of the machine's and the container's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory())
    return min(psutil.virtual_memory().available, _cgroup_limit() - _cgroup_used())


def total_memory(device: torch.device) -> int:
    """Bytes the device has. On a CPU the smaller of the machine's and the container's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return min(psutil.virtual_memory().total, _cgroup_limit())


def cache_bytes(device: torch.device) -> int:
    """The last cache before memory, which a benchmark must overflow.

    On a CPU the largest that Linux or macOS names within `PLAUSIBLE_CACHE`; virtual machines on Arm name
    none, some name nonsense: `ASSUMED_CACHE` then.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    least, most = PLAUSIBLE_CACHE
    return max((size for size in _named_caches() if least <= size <= most), default=ASSUMED_CACHE)


def _named_caches() -> Iterator[int]:
    """Bytes of every cache the system tells of."""
    if sys.platform == "darwin":
        yield from (
            _sysctl(f"hw.{name}") for name in ("l3cachesize", "perflevel0.l2cachesize", "l2cachesize")
        )
    for path in _CPU_CACHES.glob("index*/size"):
        try:
            yield _size(path.read_text())
        except (OSError, ValueError, IndexError):  # named, and no number in it
            continue


def _sysctl(name: str) -> int:
    """A number macOS knows under this name; 0 when it does not."""
    command = ["/usr/sbin/sysctl", "-n", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return int(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


def describe(device: torch.device) -> DeviceInfo:
    """Name, size and versions of a device, as a run's provenance records them."""
    name, level, driver = _cpu_name(), torch.backends.cpu.get_cpu_capability(), None
    if device.type == "cuda":
        name, driver = torch.cuda.get_device_name(device), _cuda_driver()
        level = ".".join(str(part) for part in capability(device))
    team = threads()
    parts = [device.type, name] + ([f"{team} threads"] if device.type == "cpu" else [])
    key = re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")
    cuda = torch.version.cuda if device.type == "cuda" else None
    return DeviceInfo(device.type, name, key, team, total_memory(device), level, driver, cuda)


def _cpu_name() -> str:
    if sys.platform == "linux":
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def _cuda_driver() -> str | None:
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:  # not Linux, or a driver that is not a module
        return None


def _restart_peak_rss() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: resets VmHWM
    except OSError:
        return


def _peak_rss() -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * KIB
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * KIB if found else 0


def _cgroup_limit() -> int:
    try:
        text = (_CGROUP / "memory.max").read_text().strip()
    except OSError:  # no container, or its old layout
        return sys.maxsize
    return sys.maxsize if text == "max" else int(text)


def _cgroup_used() -> int:
    """Bytes the container holds and cannot give up: file pages not in use do not count."""
    try:
        held = int((_CGROUP / "memory.current").read_text())
        idle = re.search(r"^inactive_file (\d+)$", (_CGROUP / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return held - (int(idle[1]) if idle else 0)


def _size(text: str) -> int:
    """`491520K` -> bytes."""
    scale = {"K": KIB, "M": MIB, "G": GIB}
    digits, unit = text.strip()[:-1], text.strip()[-1]
    return int(digits) * scale[unit] if unit in scale else int(text)
