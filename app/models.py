"""Models: those a session can look at.

Published ones are the same for everybody; imported and edited ones are the session's own.
"""

from __future__ import annotations

import streamlit as st

from moe_core.perf.precision import words
from moe_core.scenario import subjects
from moe_core.scenario.subjects import Subject
from moe_core.units import count

_OWN = "own_models"


MOST_OWN = 12


def mine() -> dict[str, Subject]:
    """This session's imported and edited models, by name."""
    found: dict[str, Subject] = st.session_state.setdefault(_OWN, {})
    return found


def keep(subject: Subject) -> str:
    """Remember a model for this session; its name, with a number where a published one has it already."""
    own, name, number = mine(), subject.name, 2
    while name in subjects.names(rumours=True):
        name, number = f"{subject.name} ({number})", number + 1
    own.pop(name, None)
    own[name] = subject.renamed(name)
    while len(own) > MOST_OWN:
        own.pop(next(iter(own)))
    return name


def names() -> tuple[str, ...]:
    """Everything that can be looked at: the published models, then the session's own."""
    return (*subjects.names(), *mine())


def usable() -> tuple[str, ...]:
    """The session's own mixtures that the scenario can take: those whose layout is known."""
    return tuple(n for n, one in mine().items() if one.architecture is not None and one.routing)


def mixture_of(name: str) -> dict[str, int]:
    """experts, top_k and shared of a mixture, the session's own or a published one; empty if unknown."""
    routing = subject(name).routing
    return {} if routing is None else dict(zip(("experts", "top_k", "shared"), routing, strict=True))


def editable(name: str) -> bool:
    """Whether its experts can be other ones: its layers are known in full."""
    return subject(name).architecture is not None


def subject(name: str) -> Subject:
    """A model by name. Raises ConfigError with close matches."""
    return mine().get(name) or _published(name)


def about(name: str) -> tuple[str, ...]:
    """What tells a model from its relatives, how it is stored; of an import also what was not understood."""
    found = subject(name)
    counted, (precision, kv) = found.parameters, found.formats
    active = count(counted.active.incl_embeddings)
    return (
        f"{count(counted.total)} parameters, {active} of them for a token",
        f"As stored: weights in {words(precision)}; cache in {kv}",
        *(found.notes if found.record is None else ()),
    )


@st.cache_resource(show_spinner=False, max_entries=256)
def _published(name: str) -> Subject:
    return subjects.published(name)
