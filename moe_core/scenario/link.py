"""Link: a scenario as the parameters of a URL, and back. Older links are read too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from moe_core import hardware, registry
from moe_core.decide import rules
from moe_core.errors import ConfigError, short
from moe_core.lookup import plain
from moe_core.scenario import devices, origin
from moe_core.scenario.decision import dense_models
from moe_core.scenario.spec import (
    ARCHITECTURE,
    AUTO,
    CHOICES,
    DEFAULTS,
    HARDWARE,
    NUMBERS,
    OLD,
    PAGE_KEYS,
    PRESET,
    RULES,
    WORDS,
    Scenario,
    brings,
    describe,
    grid_bank,
    nearest_bank,
    number,
)

KNOBS = ("experts", "top_k", "shared")
FIELDS = {  # of a scenario, by the name that the URL gives them
    **{name: name for name in ("architecture", "hardware", *KNOBS, "preset", "rival", "batch", "traffic")},
    **{name: name for name in ("prompt", "answer", "cached", "precision", "latency_ms", "ttft_ms")},
    **{"many": "devices", "budget_usd": "budget"},
    **{name: name for name in ("price", "link_gbs", "task", "training", "skill", "weights", "model", "seq")},
    "load": "load",
}

NAMED = (*FIELDS, *OLD)  # what a URL, old or new, holds of a scenario


def parameters(scenario: Scenario) -> dict[str, str]:
    """Everything that the URL says of a scenario, defaults too; numbers that are left out are left out."""
    values = {name: getattr(scenario, field) for name, field in FIELDS.items()}
    bank = dict(zip(KNOBS, scenario.bank or (None, None, None), strict=True))
    values |= {"many": scenario.devices or AUTO, "task": scenario.task or AUTO, **bank}
    values |= {"weights": written(scenario.weights)}
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
    older = any(name in OLD for name in values)
    if values.get("edit", "false" if older else "true") != "true":
        known = {name: value for name, value in known.items() if name not in KNOBS}
    context, answer = values.get("context", ""), values.get("write", "64")
    if _whole(context) and _whole(answer) and int(context) > int(answer):
        known |= {"answer": answer, "prompt": str(int(context) - int(answer))}
    return known


def scenario(values: Mapping[str, str]) -> Scenario:
    """The scenario of any link's parameters. Raises ConfigError with field, value and rule.

    What is left out is the preset's; lengths need not be choices of a slider.
    """
    unknown = next((name for name in values if name not in (*NAMED, *PAGE_KEYS)), None)
    if unknown is not None:
        raise ConfigError(f"{short(unknown)}: must be one of {', '.join(FIELDS)}")
    known = modern(values)
    preset = _word("preset", known.get("preset", PRESET))
    said = {**brings(preset), **known}
    many = str(said["many"])
    fields: dict[str, Any] = {
        "preset": preset,
        "architecture": registry.get(str(said.get("architecture", ARCHITECTURE))).name,
        "hardware": _device(str(said.get("hardware", HARDWARE))),
        "rival": rival(str(said.get("rival", AUTO))),
        "weights": weights(str(said.get("weights", ""))),
        **{name: _count(name, said[name], 1) for name in ("batch", "prompt", "answer")},
        "cached": _count("cached", said["cached"], 0),
        **{name: _count(name, said[name], name != "shared") for name in KNOBS if said.get(name)},
        "devices": None if many == AUTO else _count("many", many, 1),
        **{FIELDS[name]: _limit(name, str(said[name])) for name in NUMBERS if said.get(name)},
        **{name: _word(name, str(said[name])) for name in _WORDS if name in said},
    }
    if said.get("task", AUTO) != AUTO:
        fields["task"] = _word("task", str(said["task"]))
    if "load" in said:
        fields["load"] = origin.check(str(said["load"]))
    if "seq" in said:
        fields["seq"] = _count("seq", said["seq"], 1)
    return Scenario(**fields)


def rival(value: str) -> str:
    """`auto`, a rule, or a dense model as the registry calls it. Raises ConfigError."""
    choices = (AUTO, *RULES, *dense_models())
    known = next((one for one in choices if plain(one) == plain(value)), None)
    if known is None:
        raise ConfigError(
            f"rival ({short(value)}): must be {AUTO}, {', '.join(RULES)} or a dense model on file"
        )
    return known


def written(weights: tuple[tuple[str, float], ...]) -> str | None:
    """Weights of factors as a link has them: `memory:2,latency:0.5`."""
    return ",".join(f"{name}:{weight:g}" for name, weight in weights) or None


def weights(text: str) -> tuple[tuple[str, float], ...]:
    """The weights of a link. Raises ConfigError."""
    found: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, said = part.partition(":")
        if not re.fullmatch(r"\d{1,3}(\.\d{1,6})?", said):
            raise ConfigError(f"weights ({short(part)}): must be a factor and a number such as memory:2")
        found[name] = float(said)
    rules.check_weights(found)
    return tuple(found.items())


_WORDS = ("precision", "training", "skill", "model")


def _word(name: str, value: str) -> str:
    if value not in WORDS[name]:
        raise ConfigError(f"{name} ({short(value)}): must be one of {', '.join(WORDS[name])}")
    return value


def _count(name: str, value: object, least: int) -> int:
    text = str(value)
    if not _whole(text) or int(text) < least:
        raise ConfigError(f"{name} ({short(text)}): must be a whole number, at least {least}")
    return int(text)


def _whole(text: str) -> bool:
    """Whether it is a whole number that anything here could have."""
    return text.isdecimal() and len(text) <= 9


def _limit(name: str, value: str) -> float:
    found = number(value)
    if found is None:
        raise ConfigError(f"{name} ({short(value)}): must be a number above zero")
    return found


def _device(name: str) -> str:
    return name if name == devices.HERE else hardware.get(name).name


def typed(name: str, value: Any) -> Any:
    """A parameter as its widget holds it."""
    if not isinstance(value, str):
        return value
    if name in CHOICES:
        return int(value) if _whole(value) else DEFAULTS.get(name)
    return number(value) if name in NUMBERS else value


def tested(scenario: Scenario) -> str:
    """What the test model is asked, and that it is only the nearest where it is."""
    bank = scenario.bank
    if scenario.model == "trained" or bank is None:
        return "Runs its own mixture."
    run = grid_bank(bank) if scenario.model == "grid" else nearest_bank(bank)
    words = describe(*run) + (", trained from scratch" if scenario.model == "grid" else "")
    return f"Runs {words}." if run == bank else f"Runs {words}: the nearest it can do."


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
