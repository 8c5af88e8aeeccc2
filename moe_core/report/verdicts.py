"""Verdicts: what `decide` says of one scenario of a comparison, against its rival there or in print."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from moe_core import registry
from moe_core.decide.pair import pair
from moe_core.errors import MoEScopeError
from moe_core.provenance import Provenance
from moe_core.scenario.decision import folk
from moe_core.scenario.resolved import Resolved
from moe_core.specs import Architecture

Said = tuple[str, str | None, Provenance | None]


def verdict(case: Resolved, others: Sequence[Resolved]) -> Said:
    """(words, winner, provenance) on this scenario's devices and work; a refusal is its sentence.

    The rival is the first model of the other kind in the comparison. A mixture without one is judged
    against the scenario's own rival, as on every other page.
    """
    arch = case.architecture
    if arch is None or not case.timed:
        return "not known here", None, None
    kinds = [one for one in others if one.architecture is not None]
    rival = next((one for one in kinds if _sparse(one) != _sparse(case)), None)
    if arch.experts is None and rival is None:
        return "no mixture beside it", None, None
    try:
        return _decided(case, rival)
    except MoEScopeError as error:
        return f"none: {error}", None, "modelled"


def _sparse(case: Resolved) -> bool:
    return case.architecture is not None and case.architecture.experts is not None


@lru_cache(maxsize=256)
def _decided(case: Resolved, rival: Resolved | None) -> Said:
    """Dense or mixture. Raises ConfigError or InfeasibleError."""
    from moe_core.decide.case import Recorded
    from moe_core.decide.headline import answer
    from moe_core.decide.verdict import decide

    mixture, dense = (case, rival) if _sparse(case) else (rival, case)
    assert mixture is not None, "a dense model has a rival here"
    assert mixture.architecture is not None, "it has experts"
    sides = {
        "mixture": _named(mixture.architecture),
        **_rival(mixture, None if dense is None else dense.architecture),
        "parallel": case.question.parallel if _sparse(case) else None,
        "devices": case.question.equal,
    }
    heard = Recorded(mixture.load, mixture.heard or "recorded") if mixture.load else None
    found = decide(case.question.model_copy(update=sides), heard)
    against = found.pair.of("dense" if _sparse(case) else "mixture").name
    said = answer(found.winner, found.firm)
    return f"{said}, against {against}", said, "modelled"


def _rival(mixture: Resolved, beside: Architecture | None) -> dict[str, Any]:
    """The dense side: the model beside it, or its own rival; the same model is the same pair."""
    assert mixture.architecture is not None, "it has experts"
    aims = mixture.aims
    own: dict[str, Any] = (
        {"dense": None, "rule": folk(_named(mixture.architecture))}
        if aims is None or aims.dense is aims.rule is None
        else {"dense": aims.dense, "rule": aims.rule}
    )
    if beside is None:
        return own
    with suppress(MoEScopeError):
        asked = mixture.question.model_copy(update={"mixture": _named(mixture.architecture), **own})
        if pair(asked).of("dense").architecture == beside:
            return own
    return {"dense": _named(beside), "rule": None}


def _named(arch: Architecture) -> str | Architecture:
    """By name where the name says it all: published pairs are known by name."""
    return registry.name_of(arch) or arch
