"""Verdicts: what `decide` says of one scenario of a comparison, against its rival there or in print."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from moe_core.errors import MoEScopeError
from moe_core.report import times
from moe_core.report.manifest import Provenance
from moe_core.report.resolved import Resolved
from moe_core.specs import Architecture

Said = tuple[str, str | None, Provenance | None]


def verdict(case: Resolved, others: Sequence[Resolved]) -> Said:
    """(words, winner, provenance) on this scenario's devices and work; a refusal is its sentence.

    The rival is the first model of the other kind in the comparison. A mixture without one is judged
    against its published rival, else against the folk rule's dense model, as on every other page.
    """
    arch = case.architecture
    if arch is None or not times.applies(case):
        return "not known here", None, None
    kinds = [one.architecture for one in others if one.architecture is not None]
    rival = next((one for one in kinds if (one.experts is None) != (arch.experts is None)), None)
    if arch.experts is None and rival is None:
        return "no mixture beside it", None, None
    try:
        return _decided(case, rival)
    except MoEScopeError as error:
        return f"none: {error}", None, "modelled"


@lru_cache(maxsize=256)
def _decided(case: Resolved, rival: Architecture | None) -> Said:
    """Dense or mixture. Raises ConfigError or InfeasibleError."""
    from moe_core.decide.headline import answer
    from moe_core.decide.spec import DecideSpec, Work
    from moe_core.decide.verdict import decide

    arch = case.architecture
    assert arch is not None, "the caller checks"
    mixture, dense = (arch, rival) if arch.experts is not None else (rival, arch)
    assert mixture is not None, "a dense model has a rival here"
    context = max(case.context, 2)  # one token is there before the first is written
    rule = None if dense is not None else _rule(mixture)
    found = decide(
        DecideSpec(
            mixture=_named(mixture),
            dense=None if dense is None else _named(dense),
            rule=rule,
            hardware=case.hardware,
            devices=None if case.parallel.devices == 1 else case.parallel.devices,
            precision=case.precision,
            kv=case.kv,
            workload=Work(batch=case.batch, context=context, output=min(case.write, context - 1)),
            price=case.price,
        )
    )
    against = found.pair.of("dense" if arch.experts is not None else "mixture").name
    said = answer(found.winner, found.firm)
    return f"{said}, against {against}", said, "modelled"


def _named(arch: Architecture) -> str | Architecture:
    """By name where the name says it all: published pairs are known by name."""
    from moe_core import registry

    known = any(one.name == arch.name and one.architecture == arch for one in registry.records())
    return arch.name if known else arch


def _rule(mixture: Architecture) -> Literal["published", "sqrt"]:
    """How a mixture's dense rival is found when the comparison has none."""
    from moe_core.decide import rules

    known = any(pair.mixture == mixture.name for pair in rules.known_pairs())
    return "published" if known and isinstance(_named(mixture), str) else "sqrt"
