"""Compare: up to four scenarios as one table, each number with its provenance, and the answer in a sentence.

Every result is a row of `report.kinds`, so a file that carries the table can make it again. Times are those
of the layout that is used: the one asked for if it fits, else the smallest that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from moe_core import hardware
from moe_core.errors import InfeasibleError
from moe_core.provenance import Provenance
from moe_core.report.kinds import KINDS, Value, of_case, price
from moe_core.report.side import formats, ways
from moe_core.report.tables import written as written
from moe_core.report.text import many
from moe_core.report.verdicts import verdict
from moe_core.scenario import answer
from moe_core.scenario.resolved import Resolved
from moe_core.units import quantity, significant

Cases = Mapping[str, Resolved]


class Cell(NamedTuple):
    """What one scenario says: as people read it, as a number, where from, and its 80 % interval."""

    text: str
    value: Value = None
    source: Provenance | None = None
    low: float | None = None
    high: float | None = None


class Line(NamedTuple):
    """One row. `best`: which of the scenarios are best where less (or more) is better, empty if all agree."""

    key: str
    title: str
    unit: str
    cells: tuple[Cell, ...]
    differs: bool
    best: tuple[int, ...] = ()


CHOSEN: dict[str, tuple[str, Callable[[Resolved], str]]] = {
    "model": ("Model", lambda case: case.label),
    "mixture": ("Experts, top-k", lambda case: _routing(case)),
    "hardware": ("Device", lambda case: f"{hardware.title(case.hardware)}, {quantity(case.capacity, 'B')}"),
    "price": ("Price of a device and hour", lambda case: _price(case)),
    "batch": ("Batch or traffic", lambda case: _load(case)),
    "work": ("Prompt, answer, cached", lambda case: _work(case)),
    "context": ("Context", lambda case: many(case.context, "tokens")),
    "targets": ("Targets", lambda case: _targets(case)),
    "weights": ("Weights in", lambda case: formats(case)),
    "kv": ("KV cache in", lambda case: case.kv),
    "asked": ("Devices asked for", lambda case: ways(case)),
}
RESULTS: dict[str, int] = {  # rows of KINDS, and whether more or less of it is better
    "params.total": 0,
    "params.active": 0,
    "memory.weights": -1,
    "memory.cache": -1,
    "devices": -1,
    "memory.device": -1,
    "memory.all": -1,
    "reach.context": 1,
    "reach.batch": 1,
    "time.token": -1,
    "time.first": -1,
    "rate.device": 1,
    "cost.prompts": -1,
    "cost.decoding": -1,
    "energy.prompts": -1,
    "experts.distinct": 0,
}


def table(cases: Cases) -> list[Line]:
    """What was chosen, then what follows: each scenario's cell in the order of `cases`."""
    rows = [_line(key, title, "", [Cell(read(one)) for one in cases.values()])
            for key, (title, read) in CHOSEN.items()]  # fmt: skip
    for how, better in RESULTS.items():
        cells = [cell(how, case) for case in cases.values()]
        rows.append(_line(how, KINDS[how].title, KINDS[how].unit, cells, better))
        if how == "devices":
            rows.append(_line("used", "Split used", "", [used(case) for case in cases.values()]))
    rows.append(_line("bound", "Decoding is bound by", "", [bound(case) for case in cases.values()]))
    rows.append(_line("verdict", "Dense or mixture?", "", verdicts(cases)))
    return rows


def cell(how: str, case: Resolved) -> Cell:
    """One result of one scenario."""
    if not KINDS[how].applies(case):
        return Cell(_absent(how, case))
    found = of_case("", how, {}, case)
    if isinstance(found.value, str):
        return Cell(f"none: {found.value}", None, found.source)
    return Cell(written(found.value, KINDS[how].unit), found.value, found.source, found.low, found.high)


def bound(case: Resolved) -> Cell:
    """What binds a decoding step, and the share of its time that says so."""
    if not case.timed:
        return Cell("not known here")
    try:
        found = answer.step(answer.required(answer.served(case)))
    except InfeasibleError as error:
        return Cell(f"none: {error}")
    share = sum(part.seconds for part in found.parts if part.bound == found.bound) / found.seconds
    return Cell(f"{found.bound}, {share:.0%} of the step", found.bound, found.source)


def used(case: Resolved) -> Cell:
    """The layout that the times are of; where there are none, the one that holds it."""
    try:
        one = answer.required(answer.served(case)) if case.timed else None
        said = answer.memory_of(case).layout if one is None else one.words
    except InfeasibleError as error:
        return Cell(f"none: {error}")
    return Cell(said, said, "modelled")


def verdicts(cases: Cases) -> list[Cell]:
    """Dense or mixture, on each scenario's hardware and work, against its rival here or in print."""
    return [
        Cell(*verdict(case, [one for one in cases.values() if one is not case])) for case in cases.values()
    ]


def _line(key: str, title: str, unit: str, cells: list[Cell], better: int = 0) -> Line:
    differs = len({one.text for one in cells}) > 1
    known = [one.value for one in cells if isinstance(one.value, int | float)]
    top = (max(known) if better > 0 else min(known)) if better and differs and known else None
    best = tuple(at for at, one in enumerate(cells) if top is not None and one.value == top)
    return Line(key, title, unit, tuple(cells), differs, best if len(cells) > len(best) else ())


def _absent(how: str, case: Resolved) -> str:
    if how == "experts.distinct":
        return "dense"
    if not case.timed:
        return "not known here"
    return {"cost": "no price", "energy": "no power figure"}.get(how.partition(".")[0], "not known here")


def _routing(case: Resolved) -> str:
    routing = case.model.routing
    return f"{routing[1]}, top-{routing[0]}" if routing else "dense"


def _load(case: Resolved) -> str:
    return many(case.batch, "sequences") if case.traffic is None else f"{case.traffic:g} requests/s"


def _work(case: Resolved) -> str:
    read = case.context - case.write if case.prompt is None else case.prompt
    cached = case.context - case.write - read
    return f"{read:,}, {case.write:,}, {cached:,} tokens"


def _targets(case: Resolved) -> str:
    said = (("a token", case.latency_ms), ("the first", case.ttft_ms))
    return ", ".join(f"{value:g} ms {what}" for what, value in said if value is not None) or "none"


def _price(case: Resolved) -> str:
    dollars = price(case)
    if not dollars:
        return "not known"
    return f"${significant(dollars)}, {'listed' if case.price is None else 'yours'}"


class Row(NamedTuple):
    """One line of a printed comparison: what is compared, each scenario's value, whether they differ."""

    name: str
    values: tuple[str, ...]
    differs: bool


def comparison(cases: Cases) -> list[Row]:
    """The same table as files print it."""
    return [Row(line.title, tuple(one.text for one in line.cells), line.differs) for line in table(cases)]
