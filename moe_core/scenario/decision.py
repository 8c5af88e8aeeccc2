"""Decision: a scenario as a question to `moe_core.decide`: which pair, on what, under which targets.

The rival stays while the mixture's knobs move: a rule finds it for the mixture as published.
"""

from __future__ import annotations

from typing import Any

from moe_core import registry
from moe_core.decide import rules
from moe_core.decide.pair import pair
from moe_core.decide.spec import DecideSpec
from moe_core.scenario.spec import RULES, Scenario
from moe_core.scenario.subject import architecture, subject
from moe_core.specs import Architecture


def dense_models() -> tuple[str, ...]:
    """Published dense models whose step can be timed."""
    return tuple(one.name for one in registry.records() if one.kind == "dense" and one.architecture)


def decision(scenario: Scenario) -> DecideSpec:
    """The scenario as a decision. Raises ConfigError, one sentence."""
    mixture = _mixture(scenario)
    said = {
        "budget": scenario.budget,
        "price": scenario.price,
        "link_gbs": scenario.link_gbs,
        "task": scenario.task,
    }
    values: dict[str, Any] = {
        "preset": scenario.preset,
        "mixture": mixture,
        **_rival(scenario),
        "hardware": scenario.hardware,
        "devices": scenario.devices,  # None is a choice too, whatever the preset would bring
        "precision": scenario.precision,
        "workload": _work(scenario),
        "team": {"training": scenario.training, "skill": scenario.skill},
        "weights": dict(scenario.weights),
        **{name: value for name, value in said.items() if value is not None},
    }
    return DecideSpec.of(values)


def _mixture(scenario: Scenario) -> str | Architecture:
    """A published model by its name, so that published pairs are found; an own or edited one as it is."""
    chosen = subject(scenario)
    found = architecture(scenario, chosen)
    if chosen.record is not None and (found is None or found == chosen.architecture):
        return chosen.record.name
    assert found is not None, "what has no record has an architecture"
    return found


def _rival(scenario: Scenario) -> dict[str, Any]:
    """The dense side: a model by name, or what a rule finds for the mixture as published."""
    if scenario.rival in dense_models():
        return {"dense": scenario.rival}
    plain = scenario._replace(experts=None, top_k=None, shared=None)
    published = _mixture(plain)
    rule = scenario.rival if scenario.rival in RULES else folk(published)
    if not scenario.edited:
        return {"rule": rule}
    dense = pair(DecideSpec(mixture=published, rule=rule)).of("dense")  # type: ignore[arg-type]
    registered = dense.name in registry.names()
    return {"dense": dense.name if registered else dense.architecture}  # the user's own pair from here on


def folk(mixture: str | Architecture) -> str:
    """What its makers set beside it; where they did not, the folk rule."""
    return "published" if any(known.mixture == mixture for known in rules.known_pairs()) else "sqrt"


def _work(scenario: Scenario) -> dict[str, Any]:
    limits = {name: getattr(scenario, name) for name in ("traffic", "latency_ms", "ttft_ms")}
    return {
        **{"batch": scenario.batch, "context": scenario.context},
        **{"prompt": scenario.prompt, "output": scenario.answer},
        **{name: value for name, value in limits.items() if value is not None},
    }
