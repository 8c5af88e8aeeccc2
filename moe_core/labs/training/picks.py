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
    """One kind of strategy: its title, what its number is, the usual number; None where there is none."""

    title: str
    strength: str
    usual: float | None
    make: Callable[[float], Strategy]


PICKS: Mapping[str, Pick] = {
    "none": Pick("No balancing", "", None, lambda _: Strategy()),
    "auxiliary": Pick("Auxiliary loss", "coefficient", 0.01, lambda x: Strategy(auxiliary=x)),
    "sequence": Pick("Sequence-wise loss", "coefficient", 0.01, lambda x: Strategy(sequence=x)),
    "z": Pick("z-loss", "coefficient", 0.001, lambda x: Strategy(z=x)),
    "sign": Pick("Bias, sign rule", "rate", 0.02, lambda x: Strategy(rule="sign", rate=x)),
    "proportional": Pick(
        "Bias, proportional rule", "rate", 0.02, lambda x: Strategy(rule="proportional", rate=x)
    ),
    "quantile": Pick("Bias, quantile rule", "rate", 1.0, lambda x: Strategy(rule="quantile", rate=x)),
    "expert_choice": Pick("Experts choose tokens", "", None, lambda _: Strategy(router="expert_choice")),
    "hash": Pick("Hash of the byte", "", None, lambda _: Strategy(router="hash")),
}


def strategy(name: str, strength: float | None = None) -> Strategy:
    """The strategy that is picked by a name. Raises ConfigError for a number that it cannot take."""
    pick = PICKS[name]
    if pick.usual is None and strength is not None:
        raise ConfigError(f"strategies ({name}={strength:g}): {name} takes no number")
    try:
        return pick.make(pick.usual or 0.0 if strength is None else strength)
    except ValueError as error:
        raise ConfigError(f"strategies ({name}={strength:g}): must be a number from 0 to 100") from error


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
    parts += [f"bias ({of.rule}) {of.rate:g}"] if of.rule else []
    parts += [of.router.replace("_", " ")] if of.router != "softmax" else []
    return ", ".join(parts) or "no balancing"
