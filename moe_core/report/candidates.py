"""Candidates: a verdict is between two models, so a review that has one shows both.

What stands in for a candidate that no scenario of the review is: the other's scenario with this model, on the
same device, for the same work; or, where the review has neither, what the decision was asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from moe_core import registry
from moe_core.perf.shard import Parallel
from moe_core.report.decided import Decided
from moe_core.report.side import default_name
from moe_core.scenario.resolved import Resolved
from moe_core.specs import Architecture


def completed(cases: Mapping[str, Resolved], found: Decided) -> dict[str, Resolved]:
    """The scenarios, and after them each candidate of the verdict that none of them is."""
    spec, every = found.asked.spec, dict(cases)
    pair = [one for one in (spec.mixture, spec.dense) if isinstance(one, Architecture)]
    for arch in pair:
        if not any(one.architecture == arch for one in every.values()):
            beside = next((one for one in every.values() if one.architecture in pair), None)
            case = _asked(found, arch) if beside is None else _beside(beside, arch)
            every[_free(default_name(case), every)] = case
    return every


def _beside(other: Resolved, arch: Architecture) -> Resolved:
    """The same question of another model. A dense one has no experts to lay over devices."""
    split = other.parallel if arch.experts is not None or other.parallel.expert == 1 else Parallel()
    asked = other.question
    named = {"label": _label(arch), "architecture": arch, "record": registry.name_of(arch)}
    named |= {"precision": asked.formats(arch), "kv": asked.cache(arch)}
    return other.model_copy(update={**named, "parallel": split, "run": None})


def _asked(found: Decided, arch: Architecture) -> Resolved:
    """What the decision was asked, of one of its models."""
    spec = found.asked.spec
    work = spec.workload
    return Resolved(
        label=_label(arch),
        architecture=arch,
        record=registry.name_of(arch),
        hardware=spec.device.name,
        capacity=spec.device.capacity,
        batch=work.batch,
        traffic=work.traffic,
        context=work.context,
        prompt=work.prompt,
        write=work.output,
        latency_ms=work.latency_ms,
        ttft_ms=work.ttft_ms,
        devices=spec.equal,
        link_gbs=spec.link_gbs,
        load=None if found.asked.heard is None else found.asked.heard.load,
        precision=spec.formats(arch),
        kv=spec.cache(arch),
        price=spec.price,
    )


def _label(arch: Architecture) -> str:
    return f"{arch.name} {'as given' if registry.name_of(arch) is None else 'as published'}"[:400]


def _free(name: str, taken: Mapping[str, Resolved]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name[:74]} ({number})", number + 1
    return found
