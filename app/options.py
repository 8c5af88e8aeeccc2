"""Options: which choices the sidebar's pickers have, and what they are called. A link has their names."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from app import data
from moe_core import registry
from moe_core.decide import rules
from moe_core.scenario import origin, subjects
from moe_core.scenario.spec import AUTO, RULES
from moe_core.scenario.spec import WORDS as NAMES
from moe_core.units import count

SKILLS = {"none": "never", "some": "now and then", "expert": "often"}
TEST_MODELS = {"carved": "Carved", "grid": "Trained", "trained": "Trained, larger"}
LOADS = {
    origin.AUTO: "as a real model like it, else the test model",
    origin.EVEN: "even",
    origin.TEST: "as the test model records it",
}


def named(field: str) -> tuple[str, ...]:
    """Names of the options whose words stand in the address bar."""
    if field == "architecture":
        return data.architectures()
    return {"rival": (AUTO, *RULES), "load": loads()}.get(field) or NAMES.get(field, ())


def loads() -> tuple[str, ...]:
    """Whose load the experts may carry: the words, and every trace that is here."""
    return (*origin.WORDS, *(one.run_id for one in data.traces()))


@lru_cache(maxsize=256)
def listed(name: str) -> str:
    """A mixture in the list: `Qwen3-30B-A3B · 30.5 B · 128/8`, experts and top-k; one's own by name."""
    if name not in registry.names():
        return name
    subject = subjects.published(name)
    shape = f"{subject.routing[0]}/{subject.routing[1]}" if subject.routing else "dense"
    return f"{subject.name} · {count(subject.parameters.total)} · {shape}"


def preset(name: str) -> str:
    return rules.presets()[name].title


def rival(name: str) -> str:
    if name == AUTO:
        return "its published rival"
    return f"made up: {rules.pair_rules()[name].title}" if name in RULES else name


def precision(name: str) -> str:
    return "as stored" if name == AUTO else name


def many(name: str) -> str:
    return "as few as hold it" if name == AUTO else name


def task(name: str) -> str:
    return "as the preset" if name == AUTO else rules.tasks()[name].title


def load(name: str) -> str:
    known = {one.run_id: f"trace: {one.title}" for one in data.traces()}
    return (LOADS | known).get(name, name)


WORDS: dict[str, Callable[[str], str]] = {
    "architecture": listed,
    "preset": preset,
    "rival": rival,
    "many": many,
    "task": task,
    "skill": SKILLS.__getitem__,
    "model": TEST_MODELS.__getitem__,
    "load": load,
}
