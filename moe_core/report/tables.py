"""Tables: the scenarios of a review as frames, in the units people read. Everything here is modelled.

Keys of `cases` are the names of the scenarios, in the order of the review.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import pandas as pd

from moe_core.errors import InfeasibleError
from moe_core.perf import fit, memory
from moe_core.report import times
from moe_core.report.kinds import HEADLINES, KINDS, Value, compute
from moe_core.report.reproduce import show
from moe_core.report.resolved import Resolved
from moe_core.report.text import many
from moe_core.units import GIGA, KILO, count, quantity, significant

# Components that are drawn together, at the place of their colour in the theme: what only dense models
# have is blue, what only mixtures have is vermilion, the rest keeps off both.
GROUPS = {
    "dense FFN": ("ffn",),
    "experts": ("experts",),
    "unused": (),  # green is for published facts
    "attention, router, norms": ("attention", "router", "norms", "mixer", "other"),
    "shared experts": ("shared",),
    "activations": ("activations",),
    "embedding and head": ("embedding", "head"),
    "KV cache and state": ("kv_cache", "state"),
    "gradients and optimizer": ("gradients", "optimizer"),
}
STACK = (  # from the left: weights, what serving adds, what training adds
    "experts",
    "dense FFN",
    "shared experts",
    "attention, router, norms",
    "embedding and head",
    "KV cache and state",
    "activations",
    "gradients and optimizer",
)
SHADES = {  # opacity: neighbours in a stack differ in grey too
    "unused": 1.0,
    "experts": 1.0,
    "dense FFN": 1.0,
    "shared experts": 0.35,
    "attention, router, norms": 0.55,
    "embedding and head": 0.3,
    "KV cache and state": 1.0,
    "activations": 0.5,
    "gradients and optimizer": 0.45,
}
_REST = "attention, router, norms"
CONTEXTS = tuple(2**power for power in range(10, 18))
BATCHES = tuple(2**power for power in range(0, 9))

Cases = Mapping[str, Resolved]


class Row(NamedTuple):
    """One line of the comparison: what is compared, each scenario's value, whether they differ."""

    name: str
    values: tuple[str, ...]
    differs: bool


def part_of(component: str) -> str:
    """The group a component is drawn with."""
    return next((name for name, parts in GROUPS.items() if component in parts), _REST)


def comparison(cases: Cases) -> list[Row]:
    """The scenarios side by side: what was chosen, then what follows from it."""
    rows = [_row(name, [read(case) for case in cases.values()]) for name, read in _CHOSEN.items()]
    alone = all(case.parallel.devices == 1 for case in cases.values())
    return rows + [
        _row(_title(how, alone), [_said(how, case) for case in cases.values()]) for how in HEADLINES
    ]


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
    """scenario, part, GB (10^9 bytes) of the fullest device, in the order of `STACK`."""
    rows = []
    for name, case in cases.items():
        with suppress(InfeasibleError):
            sizes = fit.fit(case.setting, case.work, case.capacity, case.parallel).footprint.components()
            grouped = dict.fromkeys(STACK, 0)
            for component, size in sizes.items():
                grouped[part_of(component)] += size
            rows += [
                {"scenario": name, "part": part, "GB": size / GIGA} for part, size in grouped.items() if size
            ]
    return pd.DataFrame(rows, columns=["scenario", "part", "GB"])


def growth(cases: Cases) -> pd.DataFrame:
    """scenario, model, context (tokens), GB of the fullest device: what a longer context costs.

    No context is longer than the model is made for.
    """
    rows, kinds = [], models(cases)
    for name, case in cases.items():
        longest = case.architecture.max_positions if case.architecture else CONTEXTS[-1]
        with suppress(InfeasibleError):
            fixed = fit.fit(case.setting, case.work, case.capacity, case.parallel).footprint.weights_total
            held, batch = case.model, case.batch
            for context in [one for one in CONTEXTS if one <= longest]:
                size = fixed + sum(memory.working(held, case.work_of(batch, context), case.kv))
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
            experts = compute("experts.distinct", case.model_copy(update={"batch": batch}), {})
            assert isinstance(experts, int | float)
            row = {"scenario": name, "model": "mixture", "batch": batch}
            rows.append({**row, "percent": 100 * experts / routing[1]})
    return pd.DataFrame(rows, columns=["scenario", "model", "batch", "percent"])


def decode(cases: Cases) -> pd.DataFrame:
    """scenario, model, batch, ms of one decoding step, low and high (80 %), source; only what fits."""
    rows, kinds = [], models(cases)
    for name, case in cases.items():
        for batch in BATCHES if times.applies(case) else ():
            with suppress(InfeasibleError):
                found = times.predicted(case, "decode", batch)
                spread = {"low": found.lower * KILO, "high": found.upper * KILO}
                row = {"scenario": name, "model": kinds[name], "batch": batch, "ms": found.seconds * KILO}
                rows.append(row | spread | {"source": found.source})
    return pd.DataFrame(rows, columns=["scenario", "model", "batch", "ms", "low", "high", "source"])


def fits(cases: Cases) -> dict[str, bool]:
    """Whether each scenario fits on one of its devices."""
    found = {}
    for name, case in cases.items():
        found[name] = False
        with suppress(InfeasibleError):
            found[name] = fit.fit(case.setting, case.work, case.capacity, case.parallel).fits
    return found


_CHOSEN: dict[str, Callable[[Resolved], str]] = {
    "Architecture": lambda case: case.label,
    "Routed experts, top-k": lambda case: _routing(case),
    "Hardware": lambda case: f"{case.hardware}, {quantity(case.capacity, 'B')}",
    "Batch": lambda case: many(case.batch, "sequences"),
    "Context": lambda case: many(case.context, "tokens"),
    "Weights": lambda case: case.precision.default,
    "KV cache in": lambda case: case.kv,
}


def _routing(case: Resolved) -> str:
    routing = case.model.routing
    return f"{routing[1]}, top-{routing[0]}" if routing else "dense"


def _title(how: str, alone: bool) -> str:
    """Of a row; where every scenario asks for one device, it says what holds of one only."""
    one = alone and how in ("memory.total", "fit.context", "fit.batch")
    return KINDS[how].title + (" on one device" if one else "")


def _said(how: str, case: Resolved) -> str:
    if not KINDS[how].applies(case):
        return "dense" if how == "experts.distinct" else "not known here"
    value = compute(how, case, {})
    return f"none: {value}" if isinstance(value, str) else written(value, KINDS[how].unit)


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
