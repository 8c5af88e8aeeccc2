"""Full size: the scenario's architecture at its own dimensions, on its own hardware. Modelled.

Parameters are counted, not guessed; memory adds cache and activations by the formulas of
`moe_core.perf.memory`. No Streamlit here.
"""

from __future__ import annotations

from typing import NamedTuple

from app.scenario import Scenario, describe
from moe_core import registry
from moe_core.errors import ConfigError
from moe_core.perf import memory
from moe_core.perf.memory import Footprint, Model, Workload
from moe_core.perf.params import ParameterCount
from moe_core.perf.precision import Format, Precision
from moe_core.registry import Record
from moe_core.specs import Architecture, Experts, Router

DEFAULT = "Qwen3-30B-A3B"  # fits the default device, so that time and quality decide first
WEIGHTS: dict[str, Format] = {"auto": "bf16", "fp32": "fp32", "bf16": "bf16", "fp8": "fp8", "int4": "int4"}


class Full(NamedTuple):
    """One architecture under the scenario's work. `label` says whether it is as published."""

    label: str
    parameters: ParameterCount
    footprint: Footprint
    source: str

    @property
    def total(self) -> int:
        return self.footprint.total


def architectures() -> tuple[str, ...]:
    """Published mixtures, the default first."""
    names = [record.name for record in registry.records() if record.kind == "moe"]
    return tuple(sorted(names, key=lambda name: (name != DEFAULT, name.lower())))


def mixture_of(name: str) -> dict[str, int]:
    """experts, top_k and shared of a published mixture; empty where the record does not say."""
    try:
        routing = registry.get(name).routing
    except ConfigError:
        return {}
    if routing is None:
        return {}
    return {"experts": routing.experts, "top_k": routing.top_k, "shared": routing.shared}


def full(scenario: Scenario) -> Full:
    """The mixture at full size: as published, or with the scenario's experts where it says so."""
    record = registry.get(scenario.architecture)
    if scenario.edit and record.architecture is not None and record.architecture.experts is not None:
        words = describe(scenario.experts, scenario.top_k, scenario.shared)
        changed = edited(record.architecture, scenario)
        return _full(f"{record.name} edited: {words}", memory.model(changed), scenario, record)
    return _full(f"{record.name} as published", registry.model(record), scenario, record)


def edited(architecture: Architecture, scenario: Scenario) -> Architecture:
    """`architecture` with the scenario's experts, each as wide as before; expert groups only where they fit."""
    assert architecture.experts is not None
    bank = architecture.experts.model_dump()
    bank |= {"count": scenario.experts, "top_k": scenario.top_k, "shared": scenario.shared}
    router = architecture.experts.router
    if (
        scenario.experts % router.groups
        or scenario.top_k > scenario.experts // router.groups * router.top_groups
    ):
        router = Router.parse({**router.model_dump(), "groups": 1, "top_groups": 1})
    return architecture.model_copy(update={"experts": Experts.parse({**bank, "router": router.model_dump()})})


def twins(scenario: Scenario) -> list[Full]:
    """Dense models of the same shape: one as wide as what a token visits, one as wide as all experts."""
    record = registry.get(scenario.architecture)
    architecture = record.architecture
    if architecture is None or architecture.experts is None:
        return []
    if scenario.edit:
        architecture = edited(architecture, scenario)
    bank = architecture.experts
    assert bank is not None
    widths = {
        "dense, equal active": bank.top_k * bank.width + bank.shared_total_width,
        "dense, equal total": bank.count * bank.width + bank.shared_total_width,
    }
    dense = {
        name: architecture.model_copy(
            update={"experts": None, "first_dense": 0, "moe_every": 1, "ffn_width": max(width, 1)}
        )
        for name, width in widths.items()
    }
    return [_full(name, memory.model(arch), scenario, record) for name, arch in dense.items()]


def _full(label: str, subject: Model, scenario: Scenario, record: Record) -> Full:
    work = Workload(batch=scenario.batch, context=scenario.context)
    form = WEIGHTS[scenario.precision]
    found = memory.footprint(subject, work, Precision(default=form))
    source = (
        f"{subject.name}: counted from {record.sources[0]} ({record.verified.method}); weights in {form}, "
        f"cache in bf16, {scenario.batch} sequences of {scenario.context:,} tokens; "
        "without allocator fragmentation and framework context (0.3 to 1 GB)"
    )
    return Full(label, subject.parameters, found, source)


def sizes(subjects: list[Full]) -> list[dict[str, str | int]]:
    """Rows for the memory chart: name, component, bytes."""
    return [
        {"name": one.label, "component": component, "bytes": size}
        for one in subjects
        for component, size in one.footprint.components().items()
    ]


def most(scenario: Scenario, capacity: float) -> tuple[int | None, int | None]:
    """Longest context at this batch and largest batch at this context that fit; None if even 1 does not."""

    def fits(batch: int, context: int) -> bool:
        return full(scenario._replace(batch=batch, context=context)).total <= capacity

    longest = _largest(lambda n: fits(scenario.batch, n), 1_000_000)
    widest = _largest(lambda n: fits(n, scenario.context), 1_000_000)
    return longest, widest


def _largest(fits: object, top: int) -> int | None:
    """The largest n in 1 ... top that fits, by bisection: memory grows with n."""
    assert callable(fits)
    if not fits(1):
        return None
    low, high = 1, top
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
