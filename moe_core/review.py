"""Review: what a team decided about up to four scenarios, and why. Nouns only; the store keeps them.

Text is other people's: cleaned of what cannot be read, never trusted, kept in its own script.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from moe_core.report.text import clean, line
from moe_core.specs import Spec

MOST = 4  # scenarios side by side
_MOST_JSON = 500_000  # characters of a verdict or a resolved scenario


def _one_line(value: object) -> object:
    return line(value, 100_000) if isinstance(value, str) else value


def _lines(value: object) -> object:
    return clean(value, 1_000_000).strip() if isinstance(value, str) else value


def _json(value: object) -> object:
    """Plain JSON of a bearable size, text cleaned."""
    if value is None:
        return None
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a verdict or a scenario must be plain JSON ({type(error).__name__})") from error
    if len(text) > _MOST_JSON:
        raise ValueError(f"a verdict or a scenario must be at most {_MOST_JSON:,} characters of JSON")
    return tidy(json.loads(text))


def tidy(value: Any) -> Any:
    """JSON values with every text cleaned."""
    if isinstance(value, dict):
        return {clean(key): tidy(part) for key, part in value.items()}
    if isinstance(value, list):
        return [tidy(part) for part in value]
    return clean(value, _MOST_JSON) if isinstance(value, str) else value


Name = Annotated[str, BeforeValidator(_one_line), Field(min_length=1, max_length=80)]
Title = Annotated[str, BeforeValidator(_one_line), Field(min_length=1, max_length=200)]
Question = Annotated[str, BeforeValidator(_one_line), Field(max_length=1_000)]
Notes = Annotated[str, BeforeValidator(_lines), Field(max_length=50_000)]
Values = Annotated[dict[str, Any], BeforeValidator(_json)]


class Case(Spec):
    """One scenario that is kept: the URL's parameters, and what they meant when it was saved."""

    name: Name
    parameters: dict[Name, Question]
    resolved: Values  # moe_core.scenario.resolved.Resolved
    note: Notes = ""


class Review(Spec):
    """One version of a review. `verdict` is what the decision said, as JSON; None before there is one."""

    title: Title
    question: Question = ""
    scenarios: Annotated[tuple[Case, ...], Field(max_length=MOST)] = ()
    verdict: Values | None = None
    notes: Notes = ""

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [case.name for case in self.scenarios]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(f"scenarios ({double}): each must have a name of its own")
        return self

    def with_case(self, case: Case) -> Review:
        """One scenario more; a name that is taken gets a number. Raises ConfigError when full."""
        taken, name, number = {one.name for one in self.scenarios}, case.name, 2
        while name in taken:
            name, number = f"{case.name[:74]} ({number})", number + 1
        more = (*self.scenarios, case.model_copy(update={"name": name}))
        return self.changed(scenarios=more)

    def changed(self, **values: Any) -> Review:
        """Another version. Raises ConfigError with field, value and rule."""
        return Review.parse({**{name: getattr(self, name) for name in type(self).model_fields}, **values})


class Decision(Spec):
    """A line of the decision log. Once written it stays."""

    who: Name
    what: Question
    why: Notes = ""


class Entry(NamedTuple):
    """A decision as it was logged: its number, when, and on which version of the review."""

    number: int
    when: datetime
    version: int
    decision: Decision


class Saved(NamedTuple):
    """One version of a review as the store has it, and its whole log."""

    review_id: str
    version: int
    latest: int
    created: datetime
    author: str
    review: Review
    log: tuple[Entry, ...]
