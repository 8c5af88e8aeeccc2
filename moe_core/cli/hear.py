"""Hear: the recorded load that the pages put on a mixture, for commands that answer the same questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_core.settings import REFERENCE, Settings
from moe_core.specs import RunSpec

if TYPE_CHECKING:
    from moe_core.decide.case import Recorded
    from moe_core.scenario.resolved import Resolved


def hear(spec: RunSpec) -> Recorded | None:
    """What the nearest run of the test model tells of the load on the experts; None where there is none."""
    from moe_core.decide.case import Recorded
    from moe_core.runs.heard import heard

    found = heard(spec, Settings.load().runs_dir, REFERENCE)
    if found is None:
        return None
    facts = found.run.manifest
    words = f"{facts.provenance['device']}, {facts.provenance['dtype']}, run {facts.run_id}"
    return Recorded(found.load, words, not found.reference)


def with_load(case: Resolved) -> Resolved:
    """The scenario with the load that is heard for it; one that brought its own keeps it."""
    if case.load is not None or case.run is None or case.model.routing is None:
        return case
    found = hear(case.run)
    return (
        case if found is None else case.model_copy(update={"load": found.load, "heard": found.source[:400]})
    )
