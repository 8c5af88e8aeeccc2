"""Parameters and memory of whatever a user names: a registered model, a config.json, a checkpoint folder.

The closed form answers where it reaches; the rest is built on the meta device, which imports torch and
transformers, so only the command line and the worker come through here for those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from moe_core import registry
from moe_core.errors import ConfigError
from moe_core.hf import checkpoint, config, reader
from moe_core.hf.quantisation import published
from moe_core.hf.reader import Unsupported
from moe_core.perf import memory, params
from moe_core.perf.params import ParameterCount
from moe_core.perf.precision import Format
from moe_core.specs import Architecture, Precision

Method = Literal["auto", "closed_form", "meta"]


class Sized(NamedTuple):
    """A model's parameters, what to mention, and its architecture where the closed form reaches.

    stored, stored_kv: the formats that it is published in.
    """

    name: str
    parameters: ParameterCount
    notes: tuple[str, ...]
    architecture: Architecture | None
    stored: Precision = Precision()
    stored_kv: Format = "bf16"


def registered(name: str, method: Method = "auto") -> Sized:
    """The registered model called `name`. `method` "meta" builds it again from the record's config."""
    record = registry.get(name)
    if record.rumoured:
        raise ConfigError(f"model ({record.name}): is a rumour; nothing about it can be counted")
    formats = (record.stored, record.stored_kv)
    if method == "meta":
        if not record.config:
            raise ConfigError(f"model ({record.name}): transformers has no class for it")
        return Sized(record.name, _exact(record.config), record.notes, record.architecture, *formats)
    if method == "closed_form" and record.architecture is None:
        raise Unsupported(f"model ({record.name}): the closed form does not cover its layout")
    return Sized(record.name, registry.parameters(record), record.notes, record.architecture, *formats)


def from_config(path: Path, method: Method = "auto") -> Sized:
    """The model that the config.json at `path` describes; a folder with one in it works too."""
    if path.is_dir():
        path = path / "config.json"
    name = path.parent.name if path.stem == "config" else path.stem
    beside = path.with_name("hf_quant_config.json")
    formats = reader.read(beside) if beside.exists() else None
    return from_values(reader.read(path), name or "imported", method, formats)


def from_values(
    values: dict[str, Any],
    name: str = "imported",
    method: Method = "auto",
    beside: dict[str, Any] | None = None,
) -> Sized:
    """The model that a parsed config.json describes; `beside`: the hf_quant_config.json of its folder."""
    if method != "meta":
        try:
            found = config.load(values, name, beside)
            arch = found.architecture
            return Sized(name, params.count(arch), found.notes, arch, arch.stored, arch.stored_kv)
        except Unsupported:
            if method == "closed_form":
                raise
    notes = ("text model only: vision and audio encoders are not counted",)
    formats = published(values, beside=beside)
    said = (*(notes if reader.language(values).nested else ()), *formats.notes)
    return Sized(name, _exact(values), said, None, formats.precision, formats.kv)


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
