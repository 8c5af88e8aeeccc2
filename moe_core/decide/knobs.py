"""Knobs: the inputs that what-ifs turn, as functions of a spec. Ranges are data.

Values between whole numbers are allowed on the way to a root; what is reported is whole where it must be.
"""

from __future__ import annotations

from typing import Any

from moe_core.decide import rules
from moe_core.decide.rules import Knob
from moe_core.decide.spec import DecideSpec, Work
from moe_core.units import GIGA


def in_play(spec: DecideSpec) -> tuple[Knob, ...]:
    """The knobs that could change this answer: a price alone changes both sides alike."""
    return tuple(knob for knob in rules.knobs().values() if value(spec, knob.id) is not None)


def value(spec: DecideSpec, name: str) -> float | None:
    """Where a knob stands; None where the spec leaves it out."""
    work = spec.workload
    found: dict[str, float | None] = {
        "batch": None if work.traffic is not None else work.batch,
        "traffic": work.traffic,
        "context": work.context,
        "output": work.output,
        "memory": spec.device.capacity / GIGA,
        "latency": work.latency_ms,
        "price": None if spec.budget is None else spec.device.usd_per_hour,
        "budget": spec.budget,
    }
    return found[name]


def turned(spec: DecideSpec, name: str, to: float) -> DecideSpec:
    """The spec with one knob at another value. Not validated: `to` must be inside `span`."""
    if name in _OF_WORK:
        work = spec.workload.model_copy(update={_OF_WORK[name]: to})
        return spec.model_copy(update={"workload": work})
    return spec.model_copy(update={_OF_SPEC[name]: to})


def span(spec: DecideSpec, knob: Knob) -> tuple[float, float]:
    """The range of a knob in this spec: prompt, answer and context must fit into each other."""
    work, low, high = spec.workload, knob.low, knob.high
    read = work.prompt or 1
    if knob.id == "context":
        low = max(low, float(read + work.output + 1))
    if knob.id == "output":
        high = min(high, float(work.context - read))
    return min(low, high), high


def exact(spec: DecideSpec) -> DecideSpec:
    """The same spec, validated: whole numbers whole. For values that are to be reported."""
    work: dict[str, Any] = dict(spec.workload)
    for name in ("batch", "context", "output"):
        work[name] = round(work[name])
    return spec.model_copy(update={"workload": Work.parse(work)})


_OF_WORK = {
    "batch": "batch",
    "traffic": "traffic",
    "context": "context",
    "output": "output",
    "latency": "latency_ms",
}
_OF_SPEC = {"memory": "capacity_gb", "price": "price", "budget": "budget"}
