"""Words: how the ledger's numbers are written. Exact where exactness is the point, else three figures."""

from __future__ import annotations

from moe_core.claims.spec import Statement
from moe_core.claims.subjects import Computed
from moe_core.units import count, quantity, significant

_SCALED = {"B", "B/s", "s", "FLOP", "FLOP/s"}
_COUNTED = {"parameters", "sets", "tokens"}
_SIGNS = {"equals": "", "at most": "at most ", "at least": "at least ", "between": "", "zero": "zero"}
SMALL = 1e-5  # below, a number without a prefix is written with an exponent


def number(value: float, unit: str, exact: bool = False) -> str:
    """`93.4 GB`, `46.7 B parameters`, `27.6 %`, `3.63 ×`, `1 device`; exact: whole counts to the last one."""
    if exact and float(value).is_integer() and unit not in ("share", *_SCALED):
        return _with(f"{value:,.0f}", unit, value)
    if unit == "share":
        return f"{_plain(100 * value)} %"
    if unit in _SCALED:
        return quantity(value, unit)
    if unit in _COUNTED and abs(value) >= 1e5:
        return _with(count(value), unit)
    return _with(_plain(value), unit, value)


def _plain(value: float) -> str:
    if value and abs(value) < SMALL:
        return f"{value:.1e}"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e6 else significant(value)


def _with(text: str, unit: str, value: float = 0.0) -> str:
    """A number and its unit, whose first noun loses its s after one."""
    noun, _, rest = unit.partition(" ")
    noun = noun.removesuffix("s") if value == 1 else noun
    return " ".join(part for part in (text, noun, rest) if part)


def found(value: Computed, unit: str) -> str:
    """A number found, with the interval it lies in; whole counts to the last one."""
    text = number(value.value, unit, exact=True)
    if value.low is None or value.high is None:
        return text
    return f"{text} ({number(value.low, unit)} to {number(value.high, unit)})"


def claimed(statement: Statement) -> str:
    """What is claimed, as short as it was written: `at least 1.05 ×`, `47 B parameters`."""
    unit = statement.unit
    if statement.number is None:
        return _with("zero", unit)
    text = _short(statement.number, unit)
    if statement.to is not None:
        text = f"{text} to {_short(statement.to, unit)}"
    return f"{_SIGNS[statement.says]}{text}"


def _short(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:g} %"
    if unit in _SCALED or abs(value) >= 1e5:
        return number(value, unit)
    return _with(f"{value:,g}" if value < 1e4 else f"{value:,.0f}", unit, value)


def tolerance(statement: Statement) -> str:
    """`within 2 %`, `within 0.01 nats`, `exactly`; nothing for a bound that is meant as it stands."""
    parts = []
    if statement.within:
        parts.append(f"{100 * statement.within:g} %")
    if statement.margin:
        parts.append(_short(statement.margin, statement.unit))
    if parts:
        return f"within {' and '.join(parts)}"
    return "exactly" if statement.says in ("equals", "zero") else ""
