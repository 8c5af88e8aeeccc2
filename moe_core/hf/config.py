"""From a Hugging Face config.json to an Architecture: no torch, no transformers, no remote code.

`architecture(config)` covers the families of `families.DENSE` and `sparse.SPARSE`. For anything else
it raises `Unsupported`, and `hf.exact` (worker, command line) counts by building the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from pydantic import ValidationError

from moe_core.errors import ConfigError
from moe_core.hf.families import DENSE
from moe_core.hf.modules import matrices
from moe_core.hf.quantisation import StoredFormats, published
from moe_core.hf.reader import Missing, Unsupported, language, no_model, short
from moe_core.hf.sparse import SPARSE
from moe_core.perf.params import ParameterCount, count
from moe_core.specs import Architecture

__all__ = ["Imported", "Missing", "Unsupported", "architecture", "family", "load"]

FAMILIES = DENSE | SPARSE
TOWERS = ("vision_config", "audio_config")


class Imported(NamedTuple):
    """A config understood: the architecture with the formats it is stored in, and what to mention."""

    architecture: Architecture
    notes: tuple[str, ...]


def load(
    config: Mapping[str, Any], name: str = "imported", beside: Mapping[str, Any] | None = None
) -> Imported:
    """Architecture, stored formats and notes of `config`. Raises Unsupported or ConfigError.

    `beside`: the hf_quant_config.json of the same folder, where there is one.
    """
    tower = next((part for part in TOWERS if isinstance(config.get(part), dict)), None)
    if tower is not None:
        raise Unsupported(f"{tower}: the parameters of its tower are counted by building it")
    arch = architecture(config, name)
    found = published(config, matrices(arch), beside)
    alone = ("the language model alone is described: no vision or audio tower",)
    return Imported(carrying(arch, found), (*(alone if language(config).nested else ()), *found.notes))


def completed(filled: Mapping[str, Any], name: str, counted: ParameterCount) -> Architecture | None:
    """The architecture of settings that lack nothing, if the closed form counts what was built; else None."""
    with suppress(ConfigError):
        arch = architecture(filled, name)
        if count(arch).total == counted.total - counted.breakdown.tower:
            extras = arch.extras.model_copy(update={"tower": counted.breakdown.tower})
            return arch.model_copy(update={"extras": extras})
    return None


def carrying(arch: Architecture, found: StoredFormats) -> Architecture:
    """The architecture with the formats that it is stored in."""
    return arch.model_copy(update={"stored": found.precision, "stored_kv": found.kv})


def architecture(config: Mapping[str, Any], name: str = "imported") -> Architecture:
    """The architecture `config` describes. Raises Unsupported where the closed form does not reach."""
    fields = language(config)
    kind = family(config)
    if kind not in FAMILIES:
        raise Unsupported(f"model_type ({short(kind)}): has no closed form here")
    try:
        parts = FAMILIES[kind](fields)
        if fields.silent:
            raise Missing(
                f"config.json: {fields.silent[0]} is missing, so the class default of transformers applies"
            )
        return Architecture.parse({"name": name, **parts})
    except ValidationError as error:  # of a part: attention, experts, router
        raise ConfigError.from_validation(error) from error


def family(config: Mapping[str, Any]) -> str:
    """The model_type of the language model. Raises ConfigError when there is none."""
    kind = language(config).values.get("model_type") or config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise no_model(config)
    return kind
