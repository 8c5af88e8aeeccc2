"""Units: SI inside (FLOP, bytes, seconds); powers of ten and of two are spelt once, here.

Counts and rates are powers of 1,000. Only quantities that vendors sell in powers of 1,024
use `GIB`, and they say so.
"""

from __future__ import annotations

KILO = 10**3
MEGA = 10**6
GIGA = 10**9
TERA = 10**12
KIB = 2**10
MIB = 2**20
GIB = 2**30

BYTES_PER_ELEMENT = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}

_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
)


def quantity(value: float, unit: str, digits: int = 3) -> str:
    """`value` with an SI prefix and `digits` significant figures: `quantity(9.34e10, "B")` -> `93.4 GB`."""
    if value == 0:
        return f"0 {unit}"
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s * 0.9995), _PREFIXES[-1])
    return f"{significant(value / scale, digits)} {prefix}{unit}"


def count(value: float, digits: int = 3) -> str:
    """Parameters and tokens, in thousands to trillions: `46.7 B`; a few are exact: `28`."""
    if abs(value) < 1e3 and float(value).is_integer():
        return f"{value:.0f}"
    for scale, suffix in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= scale * 0.9995:
            return significant(value / scale, digits) + suffix
    return significant(value, digits)


def significant(value: float, digits: int = 3) -> str:
    """`value` rounded to `digits` significant figures, without an exponent."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")
    decimals = max(0, digits - 1 - _exponent(rounded))
    return f"{rounded:,.{decimals}f}"


def figure(value: float, digits: int = 3) -> str:
    """`significant`; what is small beyond reading, as a power of ten: `2.1e-07`."""
    return f"{value:.{digits - 1}e}" if 0 < abs(value) < 1e-4 else significant(value, digits)


def _exponent(value: float) -> int:
    return int(f"{value:e}".split("e")[1])
