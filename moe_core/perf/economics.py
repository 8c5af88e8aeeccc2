"""Economics: what tokens cost, where two models cost the same, what talking takes. Arithmetic only.

Prices are in US dollars, times in seconds, `devices` are those that serve one copy of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from moe_core.errors import ConfigError
from moe_core.units import MEGA

HOUR = 3600.0


def per_million(price: float, devices: int, tokens_per_second: float) -> float:
    """Dollars for a million tokens; `price` of one device an hour."""
    _positive(price=price, devices=devices, tokens_per_second=tokens_per_second)
    return price / HOUR * devices / tokens_per_second * MEGA


def request(price: float, devices: int, batch: int, prefill: float, decode: float, written: int) -> float:
    """Dollars for one sequence of a batch: its prompt and `written` tokens after it, alone on the devices.

    prefill: seconds for the prompts of the whole batch; decode: seconds a token of every sequence.
    """
    _positive(price=price, devices=devices, batch=batch, prefill=prefill, decode=decode)
    return price / HOUR * devices * (prefill + decode * written) / batch


class Fleet(NamedTuple):
    """A demand met by whole copies: how many, how full, and dollars for a million tokens."""

    copies: int
    utilisation: float
    per_million: float


def serve(demand: float, capacity: float, price: float, devices: int) -> Fleet:
    """`demand` tokens a second by copies that reach `capacity` each; copies cost whether busy or not."""
    _positive(demand=demand, capacity=capacity, price=price, devices=devices)
    copies = ceil(demand / capacity - 1e-12)
    return Fleet(copies, demand / (copies * capacity), per_million(price, devices * copies, demand))


def crossings(difference: Callable[[int], float], points: Sequence[int]) -> list[int]:
    """Batches at which `difference` changes sign: the first integer on the new side.

    Brackets are neighbours in `points`; each is bisected to the exact integer. A model of whole tiles jumps,
    so this is a sign change and not a zero. Two changes between neighbours cancel and are not seen.
    """
    found = []
    known = [(x, difference(x)) for x in sorted(points)]
    for (low, before), (high, after) in pairwise(known):
        if before * after < 0 or (after == 0 and before != 0):
            found.append(_bisect(difference, low, high, before))
    return found


def _bisect(difference: Callable[[int], float], low: int, high: int, before: float) -> int:
    while high - low > 1:
        middle = (low + high) // 2
        if difference(middle) * before > 0:
            low = middle
        else:
            high = middle
    return high


def ranked(loads: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The typical load curve of several layers: shares sorted in each, then averaged rank by rank."""
    if not loads or len({len(layer) for layer in loads}) > 1:
        raise ConfigError(f"loads ({len(loads)} layers): must be at least one, of equally many experts")
    shares = [sorted((x / sum(layer) for x in layer), reverse=True) for layer in loads if sum(layer) > 0]
    if not shares:
        raise ConfigError(f"loads ({len(loads)} layers): must hold at least one pair")
    return tuple(sum(column) / len(shares) for column in zip(*shares, strict=True))


def network_share(compute: float, exchange: tuple[float, float], overlap: float = 0.0) -> tuple[float, float]:
    """Share of a layer's time spent exchanging, least and most; `overlap` of it hides behind the rest."""
    _positive(compute=compute)
    if not 0 <= overlap <= 1:
        raise ConfigError(f"overlap ({overlap:g}): must be between 0 and 1")
    seen = [(1 - overlap) * seconds for seconds in sorted(exchange)]
    return seen[0] / (compute + seen[0]), seen[1] / (compute + seen[1])


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"{name} ({value:g}): must be above zero")
