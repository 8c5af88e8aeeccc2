"""Parameters and memory of whatever a user names: a registered model, a config.json, a checkpoint folder.

The closed form answers where it reaches; the rest is built on the meta device, which imports torch and
transformers, so only the command line and the worker come through here for those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from moe_core import inputs, registry
from moe_core.errors import ConfigError
from moe_core.hf import checkpoint, config, reader
from moe_core.hf.reader import Unsupported
from moe_core.perf import memory, params
from moe_core.perf.params import ParameterCount
from moe_core.specs import Architecture

Method = Literal["auto", "closed_form", "meta"]


class Sized(NamedTuple):
    """A model's parameters, what to mention, and its architecture where the closed form reaches."""

    name: str
    parameters: ParameterCount
    notes: tuple[str, ...]
    architecture: Architecture | None


def registered(name: str, method: Method = "auto") -> Sized:
    """The registered model called `name`. `method` "meta" builds it again from the record's config."""
    record = registry.get(name)
    if record.rumoured:
        raise ConfigError(f"model ({record.name}): is a rumour; nothing about it can be counted")
    if method == "meta":
        if not record.config:
            raise ConfigError(f"model ({record.name}): transformers has no class for it")
        return Sized(record.name, _exact(record.config), record.notes, record.architecture)
    if method == "closed_form" and record.architecture is None:
        raise Unsupported(f"model ({record.name}): the closed form does not cover its layout")
    return Sized(record.name, registry.parameters(record), record.notes, record.architecture)


def from_config(path: Path, method: Method = "auto") -> Sized:
    """The model that the config.json at `path` describes; a folder with one in it works too."""
    if inputs.is_folder(path):
        path = path / "config.json"
    name = path.parent.name if path.stem == "config" else path.stem
    return from_values(reader.read(path), name or "imported", method)


def from_values(values: dict[str, Any], name: str = "imported", method: Method = "auto") -> Sized:
    """The model that a parsed config.json describes."""
    if method != "meta":
        try:
            found = config.load(values, name)
            return Sized(name, params.count(found.architecture), found.notes, found.architecture)
        except Unsupported:
            if method == "closed_form":
                raise
    notes = ("text model only: vision and audio encoders are not counted",)
    return Sized(name, _exact(values), notes if reader.language(values).nested else (), None)


def from_checkpoint(folder: Path) -> checkpoint.Checkpoint:
    """What the safetensors headers in `folder` say. Weights are not read."""
    return checkpoint.read(folder)


def model(sized: Sized) -> memory.Model:
    """What the memory functions take. Raises ConfigError where neither closed form nor record has a cache."""
    if sized.architecture is not None:
        return memory.model(sized.architecture)
    try:
        return registry.model(registry.get(sized.name))
    except ConfigError as error:
        raise ConfigError(
            f"{sized.name}: its parameters can be counted, but its cache has no closed form here"
        ) from error


def _exact(values: dict[str, Any]) -> ParameterCount:
    from moe_core.hf.exact import exact  # torch and transformers: only when they are needed

    return exact(values)
