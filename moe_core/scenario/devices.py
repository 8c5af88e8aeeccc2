"""Machines: what the full size is judged on. This machine, measured; others from `data/hardware.toml`."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil

from moe_core import hardware
from moe_core.errors import ConfigError
from moe_core.scenario.spec import HARDWARE
from moe_core.units import quantity

HERE = "this machine"
_CGROUP = Path("/sys/fs/cgroup/memory.max")  # a container may have less than its machine


class Device(NamedTuple):
    """One device and the memory it has, in bytes. `kind` is the provenance of that number."""

    name: str
    capacity: float
    kind: str
    source: str


@cache
def devices() -> tuple[Device, ...]:
    """The default first, then this machine, then every other device in the data file."""
    known = [Device(one.name, one.capacity, "published", _source(one)) for one in hardware.devices()]
    first = [one for one in known if one.name == HARDWARE]
    return (*first, _here(), *(one for one in known if one not in first))


def _source(one: hardware.Hardware) -> str:
    return f"{one.name}, {quantity(one.capacity, 'B')}: {one.source}"


def get(name: str) -> Device:
    """A device by name; the default where the name is not known."""
    known = next((device for device in devices() if device.name == name), devices()[0])
    return known if known.name == name else _own(name) or known


def _own(name: str) -> Device | None:
    """A device of one's own, by its line."""
    with suppress(ConfigError):
        found = hardware.get(name)
        if found.grade == "own":
            return Device(found.name, found.capacity, "modelled", found.source)
    return None


def _here() -> Device:
    """The memory a run can use: that of the first NVIDIA device, else what this process may take."""
    gpu = _nvidia()
    if gpu:
        return Device(HERE, gpu[1], "measured here", f"{gpu[0]}, from the driver")
    limit = _CGROUP.read_text().strip() if _CGROUP.exists() else "max"
    total = psutil.virtual_memory().total
    capacity = min(total, int(limit)) if limit.isdigit() else total
    return Device(HERE, float(capacity), "measured here", "memory of this machine, or of its container")


def _nvidia() -> tuple[str, float] | None:
    """Name and memory of the first NVIDIA device, without loading CUDA; None if there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    return str(pynvml.nvmlDeviceGetName(handle)), float(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
