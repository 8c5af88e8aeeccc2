"""Tables: the scenarios of a review as frames, in the units people read. Everything here is modelled.

Keys of `cases` are the names of the scenarios, in the order of the review.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import pandas as pd

from moe_core.errors import InfeasibleError
from moe_core.perf import fit
from moe_core.report.kinds import Value, compute
from moe_core.report.palette import STACK, part_of
from moe_core.report.text import show
from moe_core.scenario import answer
from moe_core.scenario.resolved import Resolved
from moe_core.units import GIGA, KILO, count, quantity, significant

CONTEXTS = tuple(2**power for power in range(10, 18))
BATCHES = tuple(2**power for power in range(0, 9))

Cases = Mapping[str, Resolved]


class Row(NamedTuple):
    """One line of the comparison: what is compared, each scenario's value, whether they differ."""

    name: str
    values: tuple[str, ...]
    differs: bool


def models(cases: Cases) -> dict[str, str]:
    """`mixture` or `dense`, each scenario: its colour everywhere."""
    return {name: "mixture" if case.model.routing else "dense" for name, case in cases.items()}


def usable(case: Resolved) -> str:
    """What a device of this scenario can give."""
    return quantity(fit.usable(case.capacity), "B")


def parameters(cases: Cases) -> pd.DataFrame:
    """scenario, model (dense, mixture), kind (total, active), billions."""
    rows, kinds = [], models(cases)
    for name, case in cases.items():
        counted = case.model.parameters
        for kind, size in (("total", counted.total), ("active", counted.active.incl_embeddings)):
            rows.append({"scenario": name, "model": kinds[name], "kind": kind, "billions": size / GIGA})
    return pd.DataFrame(rows, columns=["scenario", "model", "kind", "billions"])


def footprints(cases: Cases) -> pd.DataFrame:
    """scenario, part, GB (10^9 bytes) and usable GB of the fullest device, devices; ordered as `STACK`."""
    rows = []
    for name, case in cases.items():
        with suppress(InfeasibleError):
            found = answer.memory_of(case)
            grouped = dict.fromkeys(STACK, 0)
            for component, size in found.footprint.components().items():
                grouped[part_of(component)] += size
            room = {"usable": found.usable / GIGA, "devices": found.devices}
            rows += [
                {"scenario": name, "part": part, "GB": size / GIGA} | room
                for part, size in grouped.items()
                if size
            ]
    return pd.DataFrame(rows, columns=["scenario", "part", "GB", "usable", "devices"])


def growth(cases: Cases) -> pd.DataFrame:
    """scenario, model, context (tokens), GB of the fullest device: what a longer context costs.

    On the devices that the scenario takes. No context is longer than the model is made for.
    """
    rows, kinds = [], models(cases)
    for name, case in cases.items():
        longest = case.architecture.max_positions if case.architecture else CONTEXTS[-1]
        with suppress(InfeasibleError):
            found = answer.memory_of(case)
            for context in [one for one in CONTEXTS if one <= longest]:
                work = case.work_of(found.each, context)
                size = fit.fit(case.setting, work, case.capacity, found.parallel).footprint.total
                row = {"scenario": name, "model": kinds[name], "context": context}
                rows.append({**row, "GB": size / GIGA})
    return pd.DataFrame(rows, columns=["scenario", "model", "context", "GB"])


def distinct(cases: Cases) -> pd.DataFrame:
    """scenario, model, batch, percent of one layer's experts that a decoding step reads; mixtures only."""
    rows = []
    for name, case in cases.items():
        routing = case.model.routing
        for batch in BATCHES if routing else ():
            assert routing is not None
            experts = compute(
                "experts.distinct", case.model_copy(update={"batch": batch, "traffic": None}), {}
            )
            assert isinstance(experts, int | float)
            row = {"scenario": name, "model": "mixture", "batch": batch}
            rows.append({**row, "percent": 100 * experts / routing[1]})
    return pd.DataFrame(rows, columns=["scenario", "model", "batch", "percent"])


def decode(cases: Cases) -> pd.DataFrame:
    """scenario, model, batch, ms a token, low and high (80 %), devices, source: planned anew at every batch.

    Only what fits.
    """
    rows, kinds = [], models(cases)
    for name, case in cases.items():
        for batch in sorted({*BATCHES, case.batch}) if case.timed else ():
            with suppress(InfeasibleError):
                one = answer.required(answer.at(answer.served(case), batch))
                spread = {"low": one.step.lower * KILO, "high": one.step.upper * KILO}
                row = {"scenario": name, "model": kinds[name], "batch": batch, "ms": one.step.seconds * KILO}
                rows.append(row | spread | {"devices": one.devices, "source": one.step.source})
    columns = ["scenario", "model", "batch", "ms", "low", "high", "devices", "source"]
    return pd.DataFrame(rows, columns=columns)


def fits(cases: Cases) -> dict[str, bool]:
    """Whether each scenario fits on the devices it has."""
    found = {}
    for name, case in cases.items():
        found[name] = False
        with suppress(InfeasibleError):
            found[name] = answer.memory_of(case).fits
    return found


def written(value: Value, unit: str) -> str:
    """A result as people read it, three significant figures."""
    if isinstance(value, str) or value is None:
        return show(value, unit)
    if unit == "$":
        return f"${significant(value)}"
    if unit == "parameters":
        return count(value)
    if unit in ("devices", "experts"):  # the row says so
        return f"{value:,}" if isinstance(value, int) else significant(value)
    return show(value, unit)


def _row(name: str, values: list[str]) -> Row:
    return Row(name, tuple(values), len(set(values)) > 1)
