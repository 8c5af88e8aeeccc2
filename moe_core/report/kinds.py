"""Kinds: how each number of a manifest is computed. One row a kind; a new kind is a new row.

A row takes a resolved scenario, or the bundle of a run, and the number's own arguments. A legitimate no
is its sentence. Nothing here reads the export that carries the number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from moe_core.errors import InfeasibleError
from moe_core.perf import distinct, fit, memory
from moe_core.report import times
from moe_core.report.manifest import Number, Provenance, number
from moe_core.report.measured import FACTS, Measured, fact
from moe_core.report.resolved import Resolved
from moe_core.runs.bundle import Bundle

Value = int | float | str | None
Arguments = Mapping[str, str]


class Kind(NamedTuple):
    """One row: its unit, and how it is computed of a scenario."""

    unit: str
    compute: Callable[[Resolved, Arguments], float]
    title: str
    applies: Callable[[Resolved], bool] = lambda case: True
    phase: times.Phase | None = None  # of a predicted time, which has an interval


def _footprint(case: Resolved) -> memory.Footprint:
    return fit.fit(case.setting, case.work, 0, case.parallel).footprint


def _distinct(case: Resolved, _: Arguments) -> float:
    """Experts of one layer that a decoding step of the batch touches, uniform routing."""
    routing = case.model.routing
    return distinct.uniform(routing[1], routing[0], case.batch) if routing else 0.0


def _time(phase: times.Phase) -> Callable[[Resolved, Arguments], float]:
    return lambda case, _: times.predicted(case, phase, case.batch).seconds


def _split(case: Resolved, find: Callable[..., int]) -> int:
    return find(case.setting, case.work, case.capacity, case.parallel)


KINDS: dict[str, Kind] = {
    "params.total": Kind("parameters", lambda case, _: case.model.parameters.total, "Parameters"),
    "params.active": Kind(
        "parameters", lambda case, _: case.model.parameters.active.incl_embeddings, "Active parameters"
    ),
    "memory.total": Kind("B", lambda case, _: _footprint(case).total, "Memory"),
    "memory.component": Kind(
        "B", lambda case, of: _footprint(case).components().get(of["component"], 0), "Memory"
    ),
    "memory.usable": Kind("B", lambda case, _: fit.usable(case.capacity), "Usable memory of the device"),
    "cache.token": Kind("B", lambda case, _: case.model.cache.token_bytes(case.kv), "KV cache of one token"),
    "fit.devices": Kind(
        "devices",
        lambda case, _: fit.devices(case.setting, case.work, case.capacity).parallel.devices,
        "Devices needed",
    ),
    "fit.context": Kind("tokens", lambda case, _: _split(case, fit.longest_context), "Longest context"),
    "fit.batch": Kind("sequences", lambda case, _: _split(case, fit.largest_batch), "Largest batch"),
    "experts.distinct": Kind(
        "experts", _distinct, "Distinct experts a step", lambda case: case.model.routing is not None
    ),
    "time.decode": Kind("s", _time("decode"), "Decode step", times.applies, "decode"),
    "time.prefill": Kind("s", _time("prefill"), "Prefill of the batch", times.applies, "prefill"),
}
HEADLINES = tuple(name for name in KINDS if name != "memory.component")


def of_scenario(name: str, case: Resolved) -> list[Number]:
    """Every number of one scenario."""
    parts = _footprint(case).components()
    asked: list[tuple[str, dict[str, str]]] = [(how, {}) for how in HEADLINES if KINDS[how].applies(case)]
    asked += [("memory.component", {"component": part}) for part in parts]
    return [_number(name, how, arguments, case) for how, arguments in asked]


def of_run(found: Bundle) -> list[Number]:
    """Every number of one run: times, memory, quality."""
    kind: Literal["measured here"] = "measured here"
    return [
        Number(
            name=" ".join((how.removeprefix("run."), *arguments.values())),
            value=number(value.value),
            unit=FACTS[how].unit,
            source=kind,
            how=how,
            of=found.manifest.run_id,
            arguments=arguments,
            low=number(value.low),
            high=number(value.high),
        )
        for how, arguments, value in facts(found)
    ]


def facts(found: Bundle) -> list[tuple[str, dict[str, str], Measured]]:
    """(kind, arguments, value) of everything a run measured."""
    return [(how, arguments, value) for how, row in FACTS.items() for arguments, value in row.every(found)]


def compute(how: str, case: Resolved, arguments: Arguments) -> Value:
    """A number of a scenario. The value of a legitimate no is its sentence."""
    try:
        return number(KINDS[how].compute(case, arguments))
    except InfeasibleError as error:
        return str(error)


def measure(how: str, found: Bundle, arguments: Arguments) -> Measured | None:
    """A number of a run, from its bundle; None where the run has none such."""
    return fact(how, found, arguments)


def _number(name: str, how: str, arguments: dict[str, str], case: Resolved) -> Number:
    kind = KINDS[how]
    value, source, low, high = compute(how, case, arguments), _source(how), None, None
    if kind.phase is not None and not isinstance(value, str):
        found = times.predicted(case, kind.phase, case.batch)
        source, low, high = found.source, found.lower, found.upper
    return Number(
        name=" ".join((kind.title, *arguments.values())),
        value=value,
        unit=kind.unit,
        source=source,
        how=how,
        of=name,
        arguments=arguments,
        low=low,
        high=high,
    )


def _source(how: str) -> Provenance:
    return "published" if how in ("params.total", "params.active") else "modelled"


def known() -> dict[str, Any]:
    """Every kind there is: of scenarios and of runs."""
    return {**KINDS, **FACTS}
