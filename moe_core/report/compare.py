"""Compare: up to four scenarios as one table, each number with its provenance, and the answer in a sentence.

Every result is a row of `report.kinds`, so a file that carries the table can make it again. Times are those
of the layout that is used: the one asked for if it fits, else the smallest that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import pandas as pd

from moe_core.errors import InfeasibleError
from moe_core.perf import fit
from moe_core.report import times
from moe_core.report.kinds import KINDS, Value, of_case, price
from moe_core.report.manifest import Provenance
from moe_core.report.resolved import Resolved
from moe_core.report.side import formats, ways
from moe_core.report.tables import BATCHES, STACK, part_of
from moe_core.report.tables import written as written
from moe_core.report.text import many
from moe_core.report.verdicts import verdict
from moe_core.units import GIGA, KILO, quantity, significant

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


class _Result(NamedTuple):
    """A row of results: its title here, and whether more or less of it is better."""

    title: str
    better: int = 0


CHOSEN: dict[str, tuple[str, Callable[[Resolved], str]]] = {
    "model": ("Model", lambda case: case.label),
    "mixture": ("Experts, top-k", lambda case: _routing(case)),
    "hardware": ("Device", lambda case: f"{case.hardware}, {quantity(case.capacity, 'B')}"),
    "price": ("Price of a device and hour", lambda case: _price(case)),
    "batch": ("Batch", lambda case: many(case.batch, "sequences")),
    "context": ("Context", lambda case: many(case.context, "tokens")),
    "weights": ("Weights in", lambda case: formats(case)),
    "kv": ("KV cache in", lambda case: case.kv),
    "asked": ("Split asked for", lambda case: ways(case)),
}
RESULTS: dict[str, _Result] = {
    "params.total": _Result("Parameters"),
    "params.active": _Result("Active parameters, with embedding"),
    "memory.weights": _Result("Weights", -1),
    "memory.cache": _Result("KV cache and state", -1),
    "fit.devices": _Result("Fits on, devices", -1),
    "time.decode": _Result("Time per output token, at the whole context", -1),
    "time.prefill": _Result("Prefill of the batch", -1),
    "rate.device": _Result("Tokens a second of one device", 1),
    "cost.million": _Result("A million tokens, decoding alone", -1),
    "experts.distinct": _Result("Distinct experts a step and layer"),
}


def table(cases: Cases) -> list[Line]:
    """What was chosen, then what follows: each scenario's cell in the order of `cases`."""
    rows = [_line(key, title, "", [Cell(read(one)) for one in cases.values()])
            for key, (title, read) in CHOSEN.items()]  # fmt: skip
    for how, result in RESULTS.items():
        cells = [cell(how, case) for case in cases.values()]
        rows.append(_line(how, result.title, KINDS[how].unit, cells, result.better))
    rows.insert(len(CHOSEN) + 5, _line("used", "Split used", "", [used(case) for case in cases.values()]))
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
    if not times.applies(case):
        return Cell("not known here")
    try:
        found = times.predicted(case, "decode", case.batch)
    except InfeasibleError as error:
        return Cell(f"none: {error}")
    share = sum(part.seconds for part in found.parts if part.bound == found.bound) / found.seconds
    return Cell(f"{found.bound}, {share:.0%} of the step", found.bound, found.source)


def used(case: Resolved) -> Cell:
    """The layout that the times are of."""
    try:
        found = times.layout(case)
    except InfeasibleError as error:
        return Cell(f"none: {error}")
    said = ways(case.model_copy(update={"parallel": found}), "one device")
    more = (
        "" if found == case.parallel or case.parallel.devices == 1 else "; the split asked for does not fit"
    )
    return Cell(f"{said}{more}", said, "modelled")


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
    return "no price" if how == "cost.million" and times.applies(case) else "not known here"


def _routing(case: Resolved) -> str:
    routing = case.model.routing
    return f"{routing[1]}, top-{routing[0]}" if routing else "dense"


def _price(case: Resolved) -> str:
    dollars = price(case)
    if not dollars:
        return "not known"
    return f"${significant(dollars)}, {'listed' if case.price is None else 'yours'}"


# -- frames ----------------------------------------------------------------------------------------


def over_batch(cases: Cases) -> pd.DataFrame:
    """scenario, batch, ms of one decoding step, low and high (80 %), source; only what fits."""
    rows = []
    for name, case in cases.items():
        for batch in sorted({*BATCHES, case.batch}) if times.applies(case) else ():
            with suppress(InfeasibleError):
                found = times.predicted(case, "decode", batch)
                spread = {"low": found.lower * KILO, "high": found.upper * KILO, "source": found.source}
                rows.append({"scenario": name, "batch": batch, "ms": found.seconds * KILO} | spread)
    return pd.DataFrame(rows, columns=["scenario", "batch", "ms", "low", "high", "source"])


def held(cases: Cases) -> pd.DataFrame:
    """scenario, part, GB and usable GB of the fullest device, devices: in the layout that is used."""
    rows = []
    for name, case in cases.items():
        with suppress(InfeasibleError):
            layout = times.layout(case)
            found = fit.fit(case.setting, case.work, case.capacity, layout)
            grouped = dict.fromkeys(STACK, 0)
            for component, size in found.footprint.components().items():
                grouped[part_of(component)] += size
            room = {"usable": found.usable / GIGA, "devices": layout.devices}
            rows += [{"scenario": name, "part": part, "GB": size / GIGA} | room
                     for part, size in grouped.items() if size]  # fmt: skip
    return pd.DataFrame(rows, columns=["scenario", "part", "GB", "usable", "devices"])
