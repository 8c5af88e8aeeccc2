"""Accelerators: `data/hardware.toml`, strictly read. SI units come out."""

from __future__ import annotations

import tomllib
from functools import cache as once
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from moe_core.errors import ConfigError
from moe_core.lookup import card, find
from moe_core.specs import LEAST, Spec
from moe_core.units import GIGA, MIB, TERA

DATA = Path(__file__).parent.parent / "data" / "hardware.toml"


def _or_none(value: float) -> float:
    """Nothing, or enough to be computed with. Raises ValueError."""
    if 0 < value < LEAST:
        raise ValueError(f"must be 0 or at least {LEAST:g}")
    return value


Amount = Annotated[float, Field(ge=0, le=1e6, strict=False), AfterValidator(_or_none)]
Number = Annotated[float, Field(ge=LEAST, le=1e7, strict=False)]
Peak = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]

# What multiplies operands of a format; 4-bit integers are expanded to 16 bits first. Where one of the two
# 16-bit formats is missing (Volta, TPU), engines serve in the other.
_HALF: tuple[Peak, ...] = ("bf16", "fp16")
_COMPUTES: dict[str, tuple[Peak, ...]] = {
    "fp32": ("fp32",),
    "bf16": _HALF,
    "fp16": ("fp16", "bf16"),
    "fp8": ("fp8", *_HALF),
    "fp8_block": ("fp8", *_HALF),
    "int8": ("int8", *_HALF),
    "int4": _HALF,
    "mxfp4": ("fp4", "fp8", *_HALF),
    "nvfp4": ("fp4", "fp8", *_HALF),
}


class Hardware(Spec):
    """One device. Peaks are dense. `grade`: P the makers' own statement read, S another's, named in `source`.

    No price and no watts (0, left out in the file) where nobody's figure was read; `price_source` and
    `watts_source` say whose, and when. watts: the board's power limit. `grade` own: typed in by its user.
    """

    name: str
    vendor: str
    year: int
    capacity_gb: Number
    reported_mib: Annotated[int, Field(gt=0, le=10**9)] | None = None
    reported_source: str = ""
    bandwidth_gbs: Number
    link_gbs: Amount
    host_gbs: Number
    unified: bool = False
    peak_tflops: dict[Peak, Number]
    usd_per_hour: Amount = 0.0
    price_source: str = ""
    watts: Amount = 0.0
    watts_source: str = ""
    source: str
    grade: Literal["P", "S", "own"]
    aliases: Annotated[tuple[str, ...], Field(strict=False)] = ()

    def __hash__(self) -> int:
        """Peaks are a table, which has no hash of its own; equal devices have equal names and figures."""
        return hash((self.name, self.capacity, self.bandwidth_gbs, self.link_gbs, self.usd_per_hour))

    @property
    def title(self) -> str:
        """What people call it: a listed device by its name, one's own without its figures."""
        return title(self.name)

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


class OwnDevice(Spec):
    """A device as its user types it in, or a small TOML holds it: fields and units of data/hardware.toml.

    Written whole on one line it is the name of its record, so that links, reviews and manifests carry it:
    `My card: memory=32 bandwidth=1000 host=32 bf16=100 watts=300`.
    """

    name: str
    capacity_gb: Number
    bandwidth_gbs: Number
    host_gbs: Number
    link_gbs: Amount = 0.0
    usd_per_hour: Amount = 0.0
    watts: Amount = 0.0
    peak_tflops: dict[Peak, Number]

    @model_validator(mode="after")
    def _sayable(self) -> Self:
        plain = self.name.strip() == self.name and self.name.isprintable() and not set(":=") & set(self.name)
        if not plain or not 1 <= len(self.name) <= 40:
            raise ValueError(f"name ({self.name[:40]}) must be 1 to 40 characters without : and =")
        if not set(_HALF) & set(self.peak_tflops):
            raise ValueError("peak_tflops must hold bf16 or fp16: dense TFLOP/s by format")
        return self

    @property
    def line(self) -> str:
        """All of it on one line."""
        said = {short: getattr(self, field) for short, field in _SHORT.items()} | self.peak_tflops
        return " ".join((f"{self.name}:", *(f"{key}={value:.12g}" for key, value in said.items() if value)))

    @property
    def record(self) -> Hardware:
        """The same as a device that everything can be asked of."""
        said = {"vendor": "", "year": 0, "source": "your own device, as typed in", "grade": "own"}
        return Hardware.parse({**self.model_dump(), **said, "name": self.line})


_SHORT = {
    **{"memory": "capacity_gb", "bandwidth": "bandwidth_gbs", "host": "host_gbs"},
    **{"link": "link_gbs", "price": "usd_per_hour", "watts": "watts"},
}
_OWN = ": memory="
LONGEST = 400  # characters of a device's line


def title(name: str) -> str:
    """What people call a device by this name: `H100`, `My card (your own device)`."""
    return f"{name.partition(_OWN)[0]} (your own device)" if _OWN in name else name


def from_toml(text: str) -> Hardware:
    """A device of one's own from a small TOML. Raises ConfigError with field, value and rule."""
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"device file: must be TOML ({' '.join(str(error).split())[:80]})") from error
    if isinstance(values.get("device"), list):
        raise ConfigError("device file: must hold the fields of one device at its top, without [[device]]")
    return OwnDevice.parse(values).record


@lru_cache(maxsize=1024)
def _own(line: str) -> Hardware:
    """The device that a line describes whole."""
    if len(line) > LONGEST:
        raise ConfigError(f"hardware ({line[:40]}): must be at most {LONGEST} characters")
    name, _, figures = line.partition(":")
    values: dict[str, Any] = {"name": name, "peak_tflops": {}}
    for part in figures.split():
        key, _, said = part.partition("=")
        try:
            number = float(said)
        except ValueError:
            raise ConfigError(f"{key[:20]} ({said[:20]}): must be a number") from None
        place = values if key in _SHORT else values["peak_tflops"]
        place[_SHORT.get(key, key)] = number
    return OwnDevice.parse(values).record


class _File(Spec):
    device: tuple[Hardware, ...]


def devices() -> tuple[Hardware, ...]:
    """Every device, in the order of the file."""
    return _read()


def names() -> tuple[str, ...]:
    return tuple(device.name for device in _read())


def get(name: str) -> Hardware:
    """The device called `name`, any case and spelling, or one's own by its line. Raises ConfigError.

    A driver's name works (`NVIDIA H100 80GB HBM3`), and one without its memory where a single device has it.
    """
    if _OWN in name:
        return _own(name)
    wanted, memory = card(name)
    same = [one for one in _read() if card(one.name)[0] == wanted and _holds(one, memory)]
    only = (same[0].name,) if len(same) == 1 else ()
    table = {device.name: device for device in _read()}
    also = [(alias, device) for device in _read() for alias in device.aliases]
    return find("hardware", name, table, also, only, (wanted,))


def _holds(device: Hardware, memory: int | None) -> bool:
    """Whether a device has the memory that was said, as sold: within a tenth."""
    return memory is None or abs(device.capacity_gb - memory) <= device.capacity_gb / 10


@once
def _read() -> tuple[Hardware, ...]:
    values = tomllib.loads(DATA.read_text(encoding="utf-8"))
    values["device"] = tuple(values.get("device", ()))
    return _File.parse(values).device
