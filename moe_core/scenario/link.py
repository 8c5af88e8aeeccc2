"""Link: a scenario as the parameters of a URL, and back. Older links are read too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moe_core.scenario.spec import AUTO, CHOICES, DEFAULTS, NUMBERS, Scenario, describe, nearest_bank, number

KNOBS = ("experts", "top_k", "shared")
FIELDS = {  # of a scenario, by the name that the URL gives them
    **{name: name for name in ("architecture", "hardware", *KNOBS, "preset", "rival", "batch", "traffic")},
    **{name: name for name in ("prompt", "answer", "cached", "precision", "latency_ms", "ttft_ms")},
    **{"many": "devices", "budget_usd": "budget"},
    **{name: name for name in ("price", "link_gbs", "task", "training", "skill", "model", "seq")},
}


def parameters(scenario: Scenario) -> dict[str, str]:
    """Everything that the URL says of a scenario, defaults too; numbers that are left out are left out."""
    values = {name: getattr(scenario, field) for name, field in FIELDS.items()}
    bank = dict(zip(KNOBS, scenario.bank or (None, None, None), strict=True))
    values |= {"many": scenario.devices or AUTO, "task": scenario.task or AUTO, **bank}
    return {name: _text(value) for name, value in values.items() if value is not None}


def spoken(scenario: Scenario) -> dict[str, str]:
    """The same without what goes without saying."""
    published = dict(zip(KNOBS, map(str, scenario.published or ()), strict=False))
    silent = {name: str(value) for name, value in DEFAULTS.items()} | published
    return {name: value for name, value in parameters(scenario).items() if silent.get(name) != value}


def modern(values: Mapping[str, str]) -> dict[str, str]:
    """The parameters of any link as they are called now.

    Older ones had a context and what is written of it, and a test model whose experts were its own: unless
    `edit` said so, the model stayed as published.
    """
    known = {name: value for name, value in values.items() if name in FIELDS}
    if values.get("edit", "true") != "true":
        known = {name: value for name, value in known.items() if name not in KNOBS}
    context, answer = values.get("context", ""), values.get("write", "64")
    if context.isdecimal() and answer.isdecimal() and int(context) > int(answer):
        known |= {"answer": answer, "prompt": str(int(context) - int(answer))}
    return {name: _nearest(name, value) for name, value in known.items()}


def typed(name: str, value: Any) -> Any:
    """A parameter as its widget holds it."""
    if not isinstance(value, str):
        return value
    if name in CHOICES:
        return int(value) if value.isdecimal() else DEFAULTS.get(name)
    return number(value) if name in NUMBERS else value


def tested(scenario: Scenario) -> str:
    """What the test model is asked, and that it is only the nearest where it is."""
    bank = scenario.bank
    if scenario.model == "trained" or bank is None:
        return "Runs its own mixture."
    run = nearest_bank(bank)
    words = describe(*run)
    return f"Runs {words}." if run == bank else f"Runs {words}: the nearest it can do."


def _nearest(name: str, value: str) -> str:
    """A length that is no choice of the slider as the nearest that is."""
    if name not in ("prompt", "answer", "cached", "batch") or not value.isdecimal():
        return value
    return str(min(CHOICES[name], key=lambda choice: abs(choice - int(value))))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
