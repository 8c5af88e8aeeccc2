"""Hear: the recorded load that the pages put on a mixture, for commands that answer the same questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_core.settings import REFERENCE, Settings
from moe_core.specs import RunSpec

if TYPE_CHECKING:
    from moe_core.decide.case import Recorded
    from moe_core.runs.heard import Heard
    from moe_core.scenario.origin import ServedTrace
    from moe_core.scenario.resolved import Resolved


def hear(spec: RunSpec, bank: tuple[int, ...] | None, origin: str = "auto") -> Recorded | None:
    """The load of a mixture of so many experts and top-k, from where it is asked for; None is even.

    Raises ConfigError for a trace that is not here.
    """
    from moe_core.decide.case import Recorded
    from moe_core.runs.heard import heard, traces
    from moe_core.scenario.origin import EVEN, TEST, chosen

    runs_dir = Settings.load().runs_dir
    served = {one.run.manifest.run_id: one for one in traces(runs_dir, REFERENCE)}
    which = chosen(origin, bank, [_about(one) for one in served.values()])
    found = None if which == EVEN else heard(spec, runs_dir, REFERENCE) if which == TEST else served[which]
    if found is None:
        return None
    facts = found.run.manifest
    words = f"{facts.provenance['device']}, {facts.provenance['dtype']}, run {facts.run_id}"
    if which != TEST:
        words = f"trace of {facts.spec['model']}, run {facts.run_id}: {facts.summary['source']}"
    return Recorded(found.load, words, which == TEST and not found.reference)


def _about(one: Heard) -> ServedTrace:
    from moe_core.scenario.origin import ServedTrace

    facts = one.run.manifest
    bank = (int(facts.spec["experts"]), int(facts.spec["top_k"]))
    named = str(facts.spec["title"]), str(facts.spec["model"])
    return ServedTrace(facts.run_id, *named, *bank, facts.created, one.reference)


def with_load(case: Resolved) -> Resolved:
    """The scenario with the load that is heard for it; one that brought its own keeps it."""
    if case.load is not None or case.run is None or case.bank is None:
        return case
    found = hear(case.run, case.bank, case.origin)
    return (
        case if found is None else case.model_copy(update={"load": found.load, "heard": found.source[:400]})
    )
