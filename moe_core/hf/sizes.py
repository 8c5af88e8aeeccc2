"""Parameters and memory of whatever a user names: a registered model, a config.json, a checkpoint folder.

The closed form answers where it reaches; the rest is built on the meta device, which imports torch and
transformers, so only the command line and the worker come through here for those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from moe_core import inputs, registry
from moe_core.errors import ConfigError
from moe_core.formats import Format
from moe_core.hf import checkpoint, config, gguf, gguf_families, reader
from moe_core.hf.modules import matrices, of_shapes
from moe_core.hf.quantisation import averaged, published, weighed
from moe_core.hf.reader import Unsupported, short
from moe_core.perf import memory, params
from moe_core.perf.cache import Cache
from moe_core.perf.memory import Inner, Model
from moe_core.perf.params import Active, Breakdown, ParameterCount
from moe_core.specs import Architecture, Precision

Method = Literal["auto", "closed_form", "meta"]


class Sized(NamedTuple):
    """A model's parameters, what to mention, and its architecture where the closed form reaches.

    stored, stored_kv: the formats that it is published in. built: what memory needs of a model without an
    architecture here, None where that is not known either.
    """

    name: str
    parameters: ParameterCount
    notes: tuple[str, ...]
    architecture: Architecture | None
    stored: Precision = Precision()
    stored_kv: Format = "bf16"
    built: Model | None = None


def registered(name: str, method: Method = "auto") -> Sized:
    """The registered model called `name`. `method` "meta" builds it again from the record's config."""
    record = registry.get(name)
    if record.rumoured:
        raise ConfigError(f"model ({record.name}): is a rumour; nothing about it can be counted")
    formats, held = (record.stored, record.stored_kv), registry.model(record)
    notes = (*record.notes, *registry.called(name))
    if method == "meta":
        if not record.config:
            raise ConfigError(f"model ({record.name}): transformers has no class for it")
        return Sized(record.name, _exact(record.config), notes, record.architecture, *formats, held)
    if method == "closed_form" and record.architecture is None:
        raise Unsupported(f"model ({record.name}): the closed form does not cover its layout")
    return Sized(record.name, registry.parameters(record), notes, record.architecture, *formats, held)


def from_config(path: Path, method: Method = "auto") -> Sized:
    """The model that the file at `path` describes: a config.json, a folder with one in it, a .gguf file.

    The formats of a folder with weights in it are those of their headers.
    """
    folder = path if inputs.is_folder(path) else None
    if folder is not None:
        path = gguf.alone(folder) or folder / "config.json"
    if gguf.is_one(path):
        return from_gguf(path)
    name = path.parent.name if path.stem == "config" else path.stem
    beside = path.with_name("hf_quant_config.json")
    formats = reader.read(beside) if beside.exists() else None
    found = from_values(reader.read(path), name or "imported", method, formats)
    weights = folder is not None and any(folder.glob("*.safetensors"))
    return _weighed(found, path.parent) if weights else found


def _weighed(sized: Sized, folder: Path) -> Sized:
    """The same in the formats that the headers in `folder` show, where they hold the whole of this model."""
    arch = sized.architecture
    if arch is None or arch.extras.tower:
        return sized
    try:
        held = checkpoint.bytes_of(folder, arch.layers, arch.experts.count if arch.experts else None)
    except ConfigError as reason:
        return sized._replace(notes=(*sized.notes, f"the formats are those of config.json: {reason}"))
    precision, notes = weighed(sized.parameters.breakdown._asdict(), held, sized.stored)
    carrying = arch.model_copy(update={"stored": precision})
    return sized._replace(stored=precision, architecture=carrying, notes=(*sized.notes, *notes))


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
    return _built(values, name, beside, method)


def _built(values: dict[str, Any], name: str, beside: dict[str, Any] | None, method: Method) -> Sized:
    """By building it without weights; the architecture as well where the closed form counts the same."""
    from moe_core.hf.exact import build  # torch and transformers: only when they are needed

    found = build(values)
    arch = config.completed(found.filled, name, found.parameters)
    every = of_shapes(found.shapes, found.experts) if arch is None else matrices(arch)
    formats = published(values, every, beside)
    counted = found.parameters if arch is None or method == "meta" else params.count(arch)
    said, held = (*found.notes, *formats.notes), found.model and found.model._replace(name=name)
    carrying = arch and config.carrying(arch, formats)
    return Sized(name, counted, said, carrying, formats.precision, formats.kv, held)


def from_gguf(path: Path) -> Sized:
    """The model in a .gguf file, by its header; its architecture where the closed form counts as much."""
    header, name = gguf.read(path), short(gguf.plain(path))
    main, beyond = gguf_families.divided(header)
    held = gguf.by_component(main)
    precision, notes = averaged({part: gguf.most(forms) for part, forms in held.items()}, "fp32")
    notes += (
        (
            f"{sum(t.elements for t in beyond.values()):,} parameters of layers that predict further tokens "
            "are in the file and are not counted",
        )
        if beyond
        else ()
    )
    parts = Breakdown(**{part: forms.total() for part, forms in held.items()})
    arch, why = _of_header(header, name, parts)
    if arch is None:
        counted = params.summarise(parts, gguf_families.share(header), "header")
        return Sized(name, counted, (*notes, why), None, precision)
    carrying = arch.model_copy(update={"stored": precision})
    return Sized(name, params.count(arch), notes, carrying, precision)


def _of_header(header: gguf.Header, name: str, parts: Breakdown) -> tuple[Architecture | None, str]:
    """The architecture by the settings in the file, if it has the parameters of the file; else why not."""
    kind = short(header.settings.get("general.architecture"))
    values = gguf_families.config(header)
    if values is None:
        return None, f"general.architecture ({kind}): its layers are not known here"
    try:
        arch = config.architecture(values, name)
    except ConfigError as reason:
        return None, f"general.architecture ({kind}): {reason}"
    counted = params.count(arch).total
    if abs(counted - parts.total) > parts.total // 1000:
        return None, (
            f"general.architecture ({kind}): its settings describe {counted:,} parameters, "
            f"and the file holds {parts.total:,}"
        )
    return arch, ""


def packed(sized: Sized) -> dict[str, Any]:
    """All of it but the name, in plain values: what another process answers."""
    held, arch = sized.built, sized.architecture
    return {
        "total": sized.parameters.total,
        "active": sized.parameters.active._asdict(),
        "breakdown": sized.parameters.breakdown._asdict(),
        "method": sized.parameters.method,
        "notes": list(sized.notes),
        "architecture": None if arch is None else arch.model_dump(mode="json"),
        "stored": sized.stored.model_dump(mode="json", exclude_none=True),
        "stored_kv": sized.stored_kv,
        "held": held
        and {
            "cache": held.cache.model_dump(mode="json"),
            "inner": list(held.inner),
            "layers": held.layers,
            "routing": held.routing,
        },
    }


def unpacked(name: str, values: Mapping[str, Any]) -> Sized:
    """What `packed` said. Raises ConfigError or KeyError where somebody else wrote it."""
    parts = {part: values["breakdown"][part] for part in Breakdown._fields}
    counted = ParameterCount(
        values["total"], Active(**values["active"]), Breakdown(**parts), values["method"]
    )
    arch, said = values["architecture"], values["held"]
    held = said and Model(
        *(name, counted, Cache.parse(said["cache"]), Inner(*said["inner"]), said["layers"]),
        routing=said["routing"] and (said["routing"][0], said["routing"][1]),
    )
    return Sized(
        *(name, counted, tuple(values["notes"])),
        None if arch is None else Architecture.parse_json(json.dumps({**arch, "name": name})),
        *(Precision.parse(values["stored"]), values["stored_kv"], held),
    )


def from_checkpoint(folder: Path) -> checkpoint.Checkpoint:
    """What the safetensors headers in `folder` say, or that of a .gguf file. Weights are not read."""
    return checkpoint.read(folder)


def model(sized: Sized) -> memory.Model:
    """What the memory functions take. Raises ConfigError where what it keeps of a sequence is not known."""
    if sized.architecture is not None:
        return memory.model(sized.architecture)
    if sized.built is not None:
        return sized.built
    why = sized.notes[-1] if sized.notes else "what it keeps of a sequence is not known"
    raise ConfigError(f"{sized.name}: its parameters can be counted, but not its cache: {why}")


def _exact(values: dict[str, Any]) -> ParameterCount:
    from moe_core.hf.exact import exact  # torch and transformers: only when they are needed

    return exact(values)
