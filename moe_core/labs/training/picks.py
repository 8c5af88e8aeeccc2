"""Picks: strategies by the name that people pick them by, each with one number. No torch here.

`auxiliary=0.01` is a strategy in words; without the number it takes the usual one. Rates are for the steps of
a quick run: 3 / steps, so that a bias can cross the whole range of a softmax score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from moe_core import lookup
from moe_core.errors import ConfigError
from moe_core.specs import Strategy


class Pick(NamedTuple):
    """One kind of strategy: its title, what its number is, the usual one and the least.

    usual: None where there is no number.
    """

    title: str
    strength: str
    usual: float | None
    make: Callable[[float], Strategy]
    least: float = 0.0


LEAST_RATE = 1e-4  # a bias that does not move is no strategy
PICKS: Mapping[str, Pick] = {
    "none": Pick("No balancing", "", None, lambda _: Strategy()),
    "auxiliary": Pick("Auxiliary loss", "coefficient", 0.01, lambda x: Strategy(auxiliary=x)),
    "sequence": Pick("Sequence-wise loss", "coefficient", 0.01, lambda x: Strategy(sequence=x)),
    "z": Pick("z-loss", "coefficient", 0.001, lambda x: Strategy(z=x)),
    "sign": Pick("Bias, sign rule", "rate", 0.02, lambda x: Strategy(rule="sign", rate=x), LEAST_RATE),
    "proportional": Pick(
        "Bias, proportional rule", "rate", 0.02, lambda x: Strategy(rule="proportional", rate=x), LEAST_RATE
    ),
    "quantile": Pick("Bias, quantile rule", "", None, lambda _: Strategy(rule="quantile")),
    "expert_choice": Pick("Experts choose tokens", "", None, lambda _: Strategy(router="expert_choice")),
    "hash": Pick("Hash of the byte", "", None, lambda _: Strategy(router="hash")),
}


MOST = 100.0  # of a coefficient or a rate
MOST_EXPERTS: Mapping[str, int] = {"quick": 32, "full": 64}  # that a setting of "balancing" can pay
MOST_ACTIVE: Mapping[str, int] = {"quick": 16, "full": 24}  # experts of a token, shared ones too


def affordable(bank: tuple[int, int, int], setting: str) -> tuple[int, int, int]:
    """Experts, top-k and shared that a setting trains in place of these: the same share is active."""
    experts, top_k, shared = bank
    count = min(experts, MOST_EXPERTS[setting])
    shared = min(shared, MOST_ACTIVE[setting] - 1)
    active = max(round(top_k * count / experts), 1)
    return count, min(active, count, MOST_ACTIVE[setting] - shared), shared


def strategy(name: str, strength: float | None = None) -> Strategy:
    """The strategy that is picked by a name. Raises ConfigError for a number that it cannot take."""
    pick = PICKS[name]
    if pick.usual is None and strength is not None:
        raise ConfigError(f"strategies ({name}={strength:g}): {name} takes no number")
    number = (pick.usual or 0.0) if strength is None else strength
    if pick.usual is not None and not pick.least <= number <= MOST:
        raise ConfigError(f"strategies ({name}={number:g}): must be a number from {pick.least:g} to {MOST:g}")
    return pick.make(number)


def parse(words: str) -> Strategy:
    """`sign=0.02` or `none`. Raises ConfigError with field, value and rule, or with close matches."""
    name, equals, said = words.partition("=")
    known = lookup.find("strategies", name.strip(), {one: one for one in PICKS})
    if not equals:
        return strategy(known)
    try:
        return strategy(known, float(said))
    except ValueError:
        raise ConfigError(f"strategies ({words[:60]}): must be a name, or name=number") from None


def words(of: Strategy) -> str:
    """A strategy in a few words: `auxiliary loss 0.01, bias (sign) 0.02`."""
    parts = [
        f"{label} {value:g}"
        for label, value in (
            ("auxiliary loss", of.auxiliary),
            ("sequence loss", of.sequence),
            ("z-loss", of.z),
        )
        if value
    ]
    parts += [f"bias ({of.rule}){f' {of.rate:g}' if of.rate else ''}"] if of.rule else []
    parts += [of.router.replace("_", " ")] if of.router != "softmax" else []
    return ", ".join(parts) or "no balancing"
