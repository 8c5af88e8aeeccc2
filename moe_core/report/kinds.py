"""Kinds: how each number of a manifest is computed. One row a kind; a new kind is a new row.

A row takes a resolved scenario, or the bundle of a run, and the number's own arguments. A legitimate no
is its sentence. Nothing here reads the export that carries the number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from moe_core import hardware
from moe_core.decide.clock import Reading
from moe_core.decide.serving import Serving
from moe_core.errors import InfeasibleError
from moe_core.perf import distinct, fit, memory
from moe_core.provenance import Provenance
from moe_core.report.decided import DECIDED
from moe_core.report.manifest import Number, number
from moe_core.report.measured import FACTS, Measured, fact
from moe_core.runs.bundle import Bundle
from moe_core.scenario import answer
from moe_core.scenario.resolved import Resolved
from moe_core.units import quantity

Value = int | float | str | None
Arguments = Mapping[str, str]


Ends = tuple[float, float]


class Predicted(NamedTuple):
    """A time that is predicted, where it comes from, and what follows of it at the ends of its interval."""

    reading: Callable[[Serving], Reading]
    ends: Callable[[Serving, Reading], Ends] = lambda one, reading: (reading.lower, reading.upper)


class Kind(NamedTuple):
    """One row: its unit, how it is computed of a scenario, and the time its interval follows from."""

    unit: str
    compute: Callable[[Resolved, Arguments], float]
    title: str
    applies: Callable[[Resolved], bool] = lambda case: True
    timing: Predicted | None = None


def _served(
    unit: str,
    title: str,
    figure: Callable[[Serving], float | None],
    timing: Predicted | None = None,
    applies: Callable[[Resolved], bool] = lambda case: case.timed,
) -> Kind:
    """A row that follows from the model as it is served."""

    def compute(case: Resolved, _: Arguments) -> float:
        return figure(answer.required(answer.served(case))) or 0.0

    return Kind(unit, compute, title, applies, timing)


def _less(figure: Callable[[Serving], float | None]) -> Callable[[Serving, Reading], Ends]:
    """Ends of what shrinks as the time grows."""
    return lambda one, reading: _scaled(one, reading, figure, lambda seconds: reading.seconds / seconds)


def _more(figure: Callable[[Serving], float | None]) -> Callable[[Serving, Reading], Ends]:
    """Ends of what grows with the time."""
    return lambda one, reading: _scaled(one, reading, figure, lambda seconds: seconds / reading.seconds)


def _scaled(
    one: Serving, reading: Reading, figure: Callable[[Serving], float | None], by: Callable[[float], float]
) -> Ends:
    value = figure(one) or 0.0
    low, high = sorted((value * by(reading.lower), value * by(reading.upper)))
    return low, high


def _distinct(case: Resolved, _: Arguments) -> float:
    """Experts of one layer that a decoding step of the batch touches: as the load was recorded, else even."""
    routing = case.model.routing
    if case.timed:
        return answer.served(case).step.distinct or 0.0
    return distinct.uniform(routing[1], routing[0], case.batch) if routing else 0.0


def price(case: Resolved) -> float:
    """US dollars for a device and hour: the scenario's own, else the data file's; 0 where nobody says."""
    if case.price is not None:
        return case.price
    return hardware.get(case.hardware).usd_per_hour if case.timed else 0.0


def _priced(case: Resolved) -> bool:
    return case.timed and price(case) > 0


def _powered(case: Resolved) -> bool:
    return case.timed and hardware.get(case.hardware).watts > 0


def _whole(case: Resolved) -> memory.Footprint:
    """The model on one device, however large: what all devices hold together, copies not counted."""
    return memory.footprint(case.model, case.work, case.precision, case.kv)


def _far(case: Resolved) -> answer.Memory:
    """Where it fits. Raises InfeasibleError."""
    found = answer.memory_of(case)
    if not found.fits:
        need, gives = quantity(found.footprint.total, "B"), quantity(found.usable, "B")
        raise InfeasibleError(f"needs {need} of {gives} on the fullest of {found.devices}")
    return found


_STEP: Callable[[Serving], Reading] = lambda one: one.step  # noqa: E731
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
    "devices": Kind("devices", lambda case, _: answer.memory_of(case).devices, "Devices"),
    "memory.device": Kind(
        "B", lambda case, _: answer.memory_of(case).footprint.total, "Memory of the fullest device"
    ),
    "memory.all": Kind("B", lambda case, _: answer.memory_of(case).all, "Memory of all devices"),
    "memory.part": Kind(
        "B",
        lambda case, of: answer.memory_of(case).footprint.components().get(of["component"], 0),
        "Memory of the fullest device",
    ),
    "memory.usable": Kind("B", lambda case, _: fit.usable(case.capacity), "Usable memory of one device"),
    "cache.token": Kind("B", lambda case, _: case.model.cache.token_bytes(case.kv), "KV cache of one token"),
    "reach.context": Kind("tokens", lambda case, _: _far(case).context, "Longest context there"),
    "reach.batch": Kind("sequences", lambda case, _: _far(case).batch, "Largest batch there"),
    "experts.distinct": Kind(
        "experts", _distinct, "Distinct experts a step and layer", lambda case: case.model.routing is not None
    ),
    "time.token": _served("s", "Time per token", lambda one: one.step.seconds, Predicted(_STEP)),
    "time.first": _served(
        "s", "First token", lambda one: one.first.seconds, Predicted(lambda one: one.first)
    ),
    "rate.device": _served(
        "tokens/s", "Tokens a second of one device, decoding alone", answer.rate,
        Predicted(_STEP, _less(answer.rate)),
    ),
    "cost.prompts": _served("$", "A million tokens, prompts included", lambda one: one.cost, None, _priced),
    "cost.decoding": _served(
        "$", "A million tokens, decoding alone", answer.decoding,
        Predicted(_STEP, _more(answer.decoding)), _priced,
    ),
    "energy.prompts": _served(
        "J", "Energy of a token, prompts included, at the power limit", lambda one: one.joules, None, _powered
    ),
}  # fmt: skip
HEADLINES = tuple(name for name in KINDS if name != "memory.part")


def of_scenario(name: str, case: Resolved) -> list[Number]:
    """Every number of one scenario."""
    try:
        parts = list(answer.memory_of(case).footprint.components())
    except InfeasibleError:
        parts = []
    asked: list[tuple[str, dict[str, str]]] = [(how, {}) for how in HEADLINES if KINDS[how].applies(case)]
    asked += [("memory.part", {"component": part}) for part in parts]
    return [of_case(name, how, arguments, case) for how, arguments in asked]


def of_run(found: Bundle) -> list[Number]:
    """Every number of one run: times, memory, quality, findings."""
    kind: Literal["measured here"] = "measured here"
    return [
        Number(
            name=" ".join((how.removeprefix("run."), *arguments.values())),
            value=number(value.value),
            unit=value.unit or FACTS[how].unit,
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
    if case.timed and kind.timing is not None and not isinstance(value, str):
        one = answer.served(case)
        reading = kind.timing.reading(one)
        source, (low, high) = reading.source, kind.timing.ends(one, reading)
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
