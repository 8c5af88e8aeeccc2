"""Resolve: the scenario in the URL with everything looked up, as a review and a manifest keep it."""

from __future__ import annotations

from typing import Any

from app import fullsize, machines
from app.fullsize import WEIGHTS
from app.scenario import DEFAULTS, Scenario
from moe_core.perf.precision import Precision
from moe_core.report.resolved import Resolved

NAMED = ("architecture", "hardware", *DEFAULTS)  # what the URL holds of a scenario


def resolve(scenario: Scenario) -> Resolved:
    """What the scenario means: the architecture in full, its work, formats and device."""
    chosen = fullsize.subject(scenario)
    found = fullsize.architecture(scenario, chosen)
    return Resolved(
        label=fullsize.label(scenario, chosen)[:400],
        architecture=found,
        record=chosen.record.name if found is None and chosen.record else None,
        hardware=scenario.hardware,
        capacity=int(machines.get(scenario.hardware).capacity),
        batch=scenario.batch,
        context=scenario.context,
        write=scenario.write,
        precision=Precision(default=WEIGHTS[scenario.precision]),
        run=scenario._replace(text=None).run_spec(),
    )


def parameters(scenario: Scenario) -> dict[str, str]:
    """The URL's parameters of the scenario: a link with them opens it again."""
    values: dict[str, Any] = {name: getattr(scenario, name) for name in NAMED}
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()
    }
