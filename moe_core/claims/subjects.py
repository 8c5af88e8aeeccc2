"""Subjects: what the formulas of claims speak of, by name, and what they answer with."""

from __future__ import annotations

from typing import NamedTuple

from moe_core import registry
from moe_core.errors import ConfigError
from moe_core.perf.precision import asked
from moe_core.specs import Architecture, Experts, Precision


class Computed(NamedTuple):
    """A number, and between what it lies where it is predicted (80 %)."""

    value: float
    low: float | None = None
    high: float | None = None


def architecture(model: str) -> Architecture:
    found = registry.get(model).architecture
    if found is None:
        raise ConfigError(f"model ({model}): its layers have no closed form")
    return found


def sparse(model: str) -> tuple[Architecture, Experts]:
    arch = architecture(model)
    if arch.experts is None:
        raise ConfigError(f"model ({model}): is dense")
    return arch, arch.experts


def formats(form: str, published: Precision) -> Precision:
    return asked(form) or published
