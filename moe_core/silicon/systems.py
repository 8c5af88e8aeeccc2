"""Which measured system a device is, and whose constants serve a device that was never measured."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from math import hypot, log
from pathlib import Path
from typing import NamedTuple

from moe_core import hardware
from moe_core.errors import ConfigError
from moe_core.hardware import Hardware
from moe_core.lookup import plain
from moe_core.units import MEGA

DATA = Path(__file__).parent.parent.parent / "data" / "silicon"


class System(NamedTuple):
    """A measured system, and whether it is the device itself or only the nearest one measured."""

    name: str
    own: bool


_TABLE = tomllib.loads((DATA / "systems.toml").read_text(encoding="utf-8"))
SYSTEMS: dict[str, str] = _TABLE["systems"]
SCALED: dict[str, str] = _TABLE["scaled"]
SAMPLES: dict[str, str] = _TABLE["samples"]
CACHES: dict[str, float] = {name: mb * MEGA for name, mb in _TABLE["cache_mb"].items()}  # bytes


@lru_cache(maxsize=1024)
def of(device: Hardware) -> System:
    """The measured system of `device`, or the nearest. Raises ConfigError for one of neither list."""
    for system, name in SYSTEMS.items():
        if name == device.name:
            return System(system, True)
    if device.name in SCALED:
        return System(SCALED[device.name], False)
    if device.grade == "own":
        return System(_nearest(device), False)
    raise ConfigError(
        f"hardware ({device.name}): no measured system stands for it in data/silicon/systems.toml"
    )


def _nearest(device: Hardware) -> str:
    """The measured system most like a device of one's own: by bandwidth and 16-bit peak, as ratios."""

    def far(system: str) -> float:
        other = hardware.get(SYSTEMS[system])
        moved, multiplied = other.bandwidth / device.bandwidth, other.peak() / device.peak()
        return hypot(log(moved), log(multiplied))

    return min(SYSTEMS, key=far)


def device(name: str) -> Hardware:
    """The device by either spelling: `h100_sxm` or `H100`. Raises ConfigError with close matches."""
    known = {plain(system): title for system, title in (SYSTEMS | SAMPLES).items()}
    return hardware.get(known.get(plain(name), name))
