"""Kinds: how each number of a manifest is computed. One row a kind; a new kind is a new row.

A row takes a resolved scenario, or the bundle of a run, and the number's own arguments. A legitimate no
is its sentence. Nothing here reads the export that carries the number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from moe_core import hardware
from moe_core.errors import InfeasibleError
from moe_core.perf import distinct, economics, fit, memory
from moe_core.report import times
from moe_core.report.decided import DECIDED
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
    of: Callable[[Resolved, float], float] = lambda case, seconds: seconds  # what follows from that time


def _footprint(case: Resolved) -> memory.Footprint:
    return fit.fit(case.setting, case.work, 0, case.parallel).footprint


def _distinct(case: Resolved, _: Arguments) -> float:
    """Experts of one layer that a decoding step of the batch touches, uniform routing."""
    routing = case.model.routing
    return distinct.uniform(routing[1], routing[0], case.batch) if routing else 0.0


def _timed(
    unit: str,
    title: str,
    phase: times.Phase,
    of: Callable[[Resolved, float], float] = lambda case, seconds: seconds,
    applies: Callable[[Resolved], bool] = times.applies,
) -> Kind:
    """A row that follows from one predicted time."""

    def compute(case: Resolved, _: Arguments) -> float:
        return of(case, times.predicted(case, phase, case.batch).seconds)

    return Kind(unit, compute, title, applies, phase, of)


def _rate(case: Resolved, seconds: float) -> float:
    return case.batch / seconds / times.layout(case).devices


def _dollars(case: Resolved, seconds: float) -> float:
    devices = times.layout(case).devices
    return economics.per_million(price(case), devices, case.batch / seconds)


def price(case: Resolved) -> float:
    """US dollars for a device and hour: the scenario's own, else the data file's; 0 where nobody says."""
    if case.price is not None:
        return case.price
    return hardware.get(case.hardware).usd_per_hour if times.applies(case) else 0.0


def _whole(case: Resolved) -> memory.Footprint:
    """The model on one device, however large: what all devices hold together, copies not counted."""
    return memory.footprint(case.model, case.work, case.precision, case.kv)


def _split(case: Resolved, find: Callable[..., int]) -> int:
    return find(case.setting, case.work, case.capacity, case.parallel)


KINDS: dict[str, Kind] = {
    "params.total": Kind("parameters", lambda case, _: case.model.parameters.total, "Parameters"),
    "params.active": Kind(
        "parameters",
        lambda case, _: case.model.parameters.active.incl_embeddings,
        "Active parameters, with embedding",
    ),
    "memory.weights": Kind("B", lambda case, _: _whole(case).weights_total, "Weights"),
    "memory.cache": Kind(
        "B", lambda case, _: _whole(case).kv_cache + _whole(case).state, "KV cache and state"
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
    "time.decode": _timed("s", "Decode step, at the whole context", "decode"),
    "time.prefill": _timed("s", "Prefill of the batch", "prefill"),
    "rate.device": _timed("tokens/s", "Tokens written a second of one device", "decode", _rate),
    "cost.million": _timed(
        "$",
        "A million tokens, decoding alone",
        "decode",
        _dollars,
        lambda case: price(case) > 0 and times.applies(case),
    ),
}
HEADLINES = tuple(name for name in KINDS if name != "memory.component")


def of_scenario(name: str, case: Resolved) -> list[Number]:
    """Every number of one scenario."""
    parts = _footprint(case).components()
    asked: list[tuple[str, dict[str, str]]] = [(how, {}) for how in HEADLINES if KINDS[how].applies(case)]
    asked += [("memory.component", {"component": part}) for part in parts]
    return [of_case(name, how, arguments, case) for how, arguments in asked]


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


def of_case(name: str, how: str, arguments: dict[str, str], case: Resolved) -> Number:
    """One number of one scenario, with its provenance and, where it has one, its 80 % interval."""
    kind = KINDS[how]
    value, source, low, high = compute(how, case, arguments), _source(how), None, None
    if kind.phase is not None and not isinstance(value, str):
        found = times.predicted(case, kind.phase, case.batch)
        source = found.source
        low, high = sorted((kind.of(case, found.lower), kind.of(case, found.upper)))
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
    """Every kind there is: of scenarios, of runs and of decisions."""
    return {**KINDS, **FACTS, **DECIDED}
