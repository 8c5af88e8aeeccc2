"""The three ways a request can end without a result.

`ConfigError` is the user's to fix, `InfeasibleError` is a legitimate no, and `CancelledError`
is the user's own wish. Everything else is a bug and stays a plain exception.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self

from pydantic import ValidationError

_UNREADABLE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
MOST = 1_000  # characters of a sentence: some list what there is to choose from


class MoEScopeError(Exception):
    """Base of every error whose message is written for a user: one sentence on one line, no traceback."""

    def __init__(self, sentence: object = "") -> None:
        super().__init__(short(sentence, MOST))


class ConfigError(MoEScopeError):
    """Bad input. The message names the field, its value and the rule it breaks."""

    @classmethod
    def from_validation(cls, error: ValidationError) -> Self:
        """The first failure of a pydantic validation, as `field (value) rule`."""
        first = error.errors(include_url=False)[0]
        parts = [str(part) for part in first["loc"]]
        field = short(".".join(part for part in parts if not part.startswith("function-")), 120)
        rule = first["msg"].removeprefix("Value error, ")
        rule = rule[:1].lower() + rule[1:]
        several = first["type"] == "value_error" and isinstance(first["input"], Mapping)
        if not field or several:  # a rule over several fields writes its own sentence
            return cls(rule)
        value = "" if first["type"] == "missing" else f" ({short(first['input'])})"
        return cls(f"{field}{value}: {rule}")


class InfeasibleError(MoEScopeError):
    """The question is fine and the answer is no, e.g. `needs 93.4 GB, the device has 80.0 GB`."""


class CancelledError(MoEScopeError):
    """Work stopped between two steps because the user asked for it or its time ran out."""


class StoreError(MoEScopeError):
    """The store cannot be used as it is: held by another process, full, or corrupt."""


def short(value: object, most: int = 40) -> str:
    """A value on one line, control characters out, cut after `most` characters."""
    try:
        text = _UNREADABLE.sub(" ", str(value)).strip()
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists
        return f"a very long {type(value).__name__}"
    return text if len(text) <= most else text[: most - 3] + "..."
