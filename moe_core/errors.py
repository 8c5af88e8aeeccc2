"""The three ways a request can end without a result.

`ConfigError` is the user's to fix, `InfeasibleError` is a legitimate no, and `CancelledError`
is the user's own wish. Everything else is a bug and stays a plain exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import ValidationError


class MoEScopeError(Exception):
    """Base of every error whose message is written for a user: one sentence, no traceback."""


class ConfigError(MoEScopeError):
    """Bad input. The message names the field, its value and the rule it breaks."""

    @classmethod
    def from_validation(cls, error: ValidationError) -> Self:
        """The first failure of a pydantic validation, as `field (value) rule`."""
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
        rule = first["msg"].removeprefix("Value error, ")
        rule = rule[:1].lower() + rule[1:]
        several = first["type"] == "value_error" and isinstance(first["input"], Mapping)
        if not field or several:  # a rule over several fields writes its own sentence
            return cls(rule)
        value = "" if first["type"] == "missing" else f" ({_short(first['input'])})"
        return cls(f"{field}{value}: {rule}")


class InfeasibleError(MoEScopeError):
    """The question is fine and the answer is no, e.g. `needs 93.4 GB, the device has 80.0 GB`."""


class CancelledError(MoEScopeError):
    """Work stopped between two steps because the user asked for it or its time ran out."""


class StoreError(MoEScopeError):
    """The store cannot be used as it is: held by another process, full, or corrupt."""


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
