"""Resolve: the scenario in the URL with everything looked up, as a review and a manifest keep it."""

from __future__ import annotations

from moe_core.perf.precision import Precision
from moe_core.scenario import devices, subject
from moe_core.scenario.link import FIELDS
from moe_core.scenario.resolved import Resolved
from moe_core.scenario.spec import Scenario

NAMED = (*FIELDS, "context", "write", "edit")  # what a URL, old or new, holds of a scenario


def resolve(scenario: Scenario) -> Resolved:
    """What the scenario means: the architecture in full, its work, formats and device."""
    chosen = subject.subject(scenario)
    found = subject.architecture(scenario, chosen)
    return Resolved(
        label=subject.label(scenario, chosen)[:400],
        architecture=found,
        record=chosen.record.name if found is None and chosen.record else None,
        hardware=scenario.hardware,
        capacity=int(devices.get(scenario.hardware).capacity),
        batch=scenario.batch,
        context=scenario.context,
        write=scenario.answer,
        precision=Precision(default=subject.WEIGHTS[scenario.precision]),
        price=scenario.price,
        run=scenario._replace(text=None).run_spec(),
    )
