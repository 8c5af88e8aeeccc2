"""Dense twins: for any mixture, the dense model it may be compared with, by four rules.

A twin keeps everything but the feed-forward: one width in every layer, chosen so that the total comes
nearest to the rule's target. So attention, KV cache and vocabulary are equal, and only the experts differ.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Literal, NamedTuple

from moe_core.errors import ConfigError, InfeasibleError
from moe_core.perf.params import ParameterCount, count, ffn
from moe_core.specs import Architecture, Experts, Precision

Rule = Literal["active", "total", "sqrt", "epoch"]

EPOCH_CAVEATS = (
    "second-hand: the article (Epoch AI, 2024-12-20) was not available to read",
    "not consistent at its limit: with all experts active it is not the total (E = A = 8 gives 1.48 x it)",
    "splitting each expert m ways, which changes neither size nor sparsity, multiplies it by m^0.19",
    "no term for shared experts or attention",
)


class Twin(NamedTuple):
    """A dense twin: the rule, the parameters it aims for, the model, and what to say about the rule."""

    rule: Rule
    target: int
    architecture: Architecture
    caveats: tuple[str, ...]


def twin(mixture: Architecture, rule: Rule) -> Twin:
    """The dense twin of `mixture` by `rule`. Raises InfeasibleError when there is none."""
    bank, counted = _bank(mixture), count(mixture)
    formula, caveats = RULES[rule]
    target = round(formula(counted, bank))
    return Twin(rule, target, dense(mixture, target, f"{mixture.name} dense, {rule}"), caveats)


def twins(mixture: Architecture) -> list[Twin]:
    """Every twin that exists, in the order of `RULES`."""
    found = []
    for rule in RULES:
        try:
            found.append(twin(mixture, rule))
        except InfeasibleError:
            continue
    return found


def dense(mixture: Architecture, target: int, name: str) -> Architecture:
    """`mixture` with one feed-forward width in every layer and about `target` parameters."""
    fields = {"name": name, "experts": None, "first_dense": 0, "moe_every": 1}
    bare = mixture.model_copy(update={**fields, "ffn_width": 1, "stored": equal_terms(mixture.stored)})
    per_width = mixture.layers * (
        ffn(mixture.hidden, 2, mixture.gated) - ffn(mixture.hidden, 1, mixture.gated)
    )
    rest = count(bare).total - per_width
    width = round((target - rest) / per_width)
    if width < 1:
        raise InfeasibleError(
            f"attention and embeddings alone have {rest:,} parameters, the target is {target:,}"
        )
    return Architecture.parse({**dict(bare), "ffn_width": width})


def equal_terms(mixture: Precision) -> Precision:
    """The formats of a mixture for its twin: that of the experts for what takes their place."""
    own = {"ffn": mixture.of("experts"), "experts": None, "shared": None, "router": None}
    return mixture.model_copy(update=own)


def epoch(total: float, experts: int, active_experts: int) -> float:
    """Epoch AI's heuristic for the dense model of equal inference economics: T / (E^0.44 / A^0.63)."""
    return total / (experts**0.44 / active_experts**0.63)


def _bank(mixture: Architecture) -> Experts:
    if mixture.experts is None:
        raise ConfigError(f"model ({mixture.name}): is dense and has no dense twin")
    return mixture.experts


_Formula = Callable[[ParameterCount, Experts], float]

RULES: dict[Rule, tuple[_Formula, tuple[str, ...]]] = {
    "active": (lambda c, _: c.active.incl_embeddings, ("equal FLOPs a token: the speed of an idle device",)),
    "total": (lambda c, _: c.total, ("equal memory: what else would fit in its place",)),
    "sqrt": (
        lambda c, _: sqrt(c.active.incl_embeddings * c.total),
        ("a folk rule for quality, not for cost; no published derivation",),
    ),
    "epoch": (lambda c, bank: epoch(c.total, bank.count, bank.top_k), EPOCH_CAVEATS),
}
