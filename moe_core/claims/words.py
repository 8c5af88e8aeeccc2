"""Words: how the ledger's numbers are written. Exact where exactness is the point, else three figures."""

from __future__ import annotations

from moe_core.claims.spec import Statement
from moe_core.claims.subjects import Computed
from moe_core.units import count, quantity, significant

_SCALED = {"B", "B/s", "s", "FLOP", "FLOP/s"}
_COUNTED = {"parameters", "sets", "tokens"}
_SIGNS = {"equals": "", "at most": "at most ", "at least": "at least ", "between": "", "zero": "zero"}
SMALL = 1e-3  # below, a number without a prefix is written with an exponent


def number(value: float, unit: str, exact: bool = False) -> str:
    """`93.4 GB`, `46.7 B parameters`, `27.6 %`, `3.63 ×`, `0.0000`: never an exponent where a prefix does."""
    if exact and float(value).is_integer() and unit not in ("share", *_SCALED):
        return _with(f"{value:,.0f}", unit)
    if unit == "share":
        return f"{_plain(100 * value)} %"
    if unit == "×":
        return f"{_plain(value)} ×"
    if unit in _SCALED and (value == 0 or abs(value) >= 1e-9):
        return quantity(value, unit)
    if unit in _COUNTED and abs(value) >= 1e5:
        return _with(count(value), unit)
    return _with(_plain(value), unit)


def _plain(value: float) -> str:
    if value and abs(value) < SMALL:
        return f"{value:.2e}"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e6 else significant(value)


def _with(text: str, unit: str) -> str:
    return f"{text} {unit}".rstrip()


def found(value: Computed, unit: str) -> str:
    """A number found, with the interval it lies in; whole counts to the last one."""
    text = number(value.value, unit, exact=True)
    if value.low is None or value.high is None:
        return text
    return f"{text} ({number(value.low, unit)} to {number(value.high, unit)})"


def claimed(statement: Statement) -> str:
    """What is claimed: `about 47 B parameters` is `47 B parameters`, the tolerance stands beside it."""
    unit = statement.unit
    if statement.number is None:
        return _with("zero", unit)
    text = number(statement.number, unit, exact=statement.number < 1e5)
    if statement.to is not None:
        text = f"{text} to {number(statement.to, unit, exact=statement.to < 1e5)}"
    return f"{_SIGNS[statement.says]}{text}"


def tolerance(statement: Statement) -> str:
    """`within 2 %`, `within 0.01 nats`, `exactly`."""
    parts = []
    if statement.within:
        parts.append(f"{significant(100 * statement.within, 2)} %")
    if statement.margin:
        parts.append(number(statement.margin, statement.unit))
    return f"within {' and '.join(parts)}" if parts else "exactly"
