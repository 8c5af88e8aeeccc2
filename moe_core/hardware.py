"""Accelerators: `data/hardware.toml`, strictly read. SI units come out."""

from __future__ import annotations

import tomllib
from functools import cache as once
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from moe_core.errors import ConfigError
from moe_core.lookup import find
from moe_core.specs import Spec
from moe_core.units import GIGA, MIB, TERA

DATA = Path(__file__).parent.parent / "data" / "hardware.toml"

Number = Annotated[float, Field(gt=0, le=1e7, strict=False)]
Peak = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]

# What multiplies operands of a format; 4-bit integers are expanded to 16 bits first.
_COMPUTES: dict[str, tuple[Peak, ...]] = {
    "fp32": ("fp32",),
    "bf16": ("bf16",),
    "fp16": ("fp16",),
    "fp8": ("fp8", "bf16"),
    "fp8_block": ("fp8", "bf16"),
    "int8": ("int8", "bf16"),
    "int4": ("bf16",),
    "mxfp4": ("fp4", "fp8", "bf16"),
    "nvfp4": ("fp4", "fp8", "bf16"),
}


class Hardware(Spec):
    """One device. Peaks are dense. `grade`: P the makers' own statement read, S another's, named in `source`.

    No price (0, left out in the file) where nobody's list was read; `price_source` says whose, and when.
    """

    name: str
    vendor: str
    year: int
    capacity_gb: Number
    reported_mib: Annotated[int, Field(gt=0, le=10**9)] | None = None
    reported_source: str = ""
    watts: Number | None = None
    watts_source: str = ""
    bandwidth_gbs: Number
    link_gbs: Annotated[float, Field(ge=0, le=1e6, strict=False)]
    host_gbs: Number
    unified: bool = False
    peak_tflops: dict[Peak, Number]
    usd_per_hour: Annotated[float, Field(ge=0, le=1e6, strict=False)] = 0.0
    price_source: str = ""
    source: str
    grade: Literal["P", "S"]

    def __hash__(self) -> int:
        """Peaks are a table, which has no hash of its own; equal devices have equal names and figures."""
        return hash((self.name, self.capacity, self.bandwidth_gbs, self.link_gbs, self.usd_per_hour))

    @property
    def capacity(self) -> int:
        """Bytes of memory as the driver reports them; the data sheet's GB of 10^9 where nobody was read."""
        return self.reported_mib * MIB if self.reported_mib else round(self.capacity_gb * GIGA)

    @property
    def bandwidth(self) -> float:
        """Peak memory bandwidth, bytes a second."""
        return self.bandwidth_gbs * GIGA

    @property
    def link(self) -> float:
        """To the other devices, bytes a second in one direction."""
        return self.link_gbs * GIGA / 2

    @property
    def host(self) -> float:
        """To the host's memory, bytes a second in one direction."""
        return self.host_gbs * GIGA

    def peak(self, form: str = "bf16") -> float:
        """Dense peak in FLOP a second for operands in `form`; a format it lacks runs in the next wider."""
        for kind in _COMPUTES.get(form, ()):
            if kind in self.peak_tflops:
                return self.peak_tflops[kind] * TERA
        raise ConfigError(f"dtype ({form}): {self.name} has no peak for it")

    def ridge(self, form: str = "bf16") -> float:
        """FLOP a byte at which compute and memory bandwidth are equally binding."""
        return self.peak(form) / self.bandwidth


class _File(Spec):
    device: tuple[Hardware, ...]


def devices() -> tuple[Hardware, ...]:
    """Every device, in the order of the file."""
    return _read()


def names() -> tuple[str, ...]:
    return tuple(device.name for device in _read())


def get(name: str) -> Hardware:
    """The device called `name`, any case and spelling. Raises ConfigError with close matches."""
    return find("hardware", name, {device.name: device for device in _read()})


@once
def _read() -> tuple[Hardware, ...]:
    values = tomllib.loads(DATA.read_text(encoding="utf-8"))
    values["device"] = tuple(values.get("device", ()))
    return _File.parse(values).device
