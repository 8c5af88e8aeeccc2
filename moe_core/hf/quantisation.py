"""The formats a checkpoint is stored in, from `quantization_config` of its config.json.

Schemes name the modules they leave alone, by pattern or layer by layer; a component that is left alone in
at least half of the layers counts as 16-bit. Embedding, head, router and norms stay in 16 bits in every
published scheme read for this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from moe_core.hf.reader import language
from moe_core.perf.precision import Format, Precision

_KEPT: dict[str, Format] = {"embedding": "bf16", "head": "bf16", "router": "bf16", "norms": "bf16"}
_COMPONENTS = {  # how module lists spell them
    "attention": r"self_attn",
    "experts": r"(?<!shared_)experts",
    "shared": r"shared_expert",
    "ffn": r"mlp[\\.(]*(gate|up|down)[a-z_|)]*_proj",
    "mixer": r"linear_attn|mamba|mixer",
}
_BITS: dict[object, Format] = {4: "int4", 8: "int8"}
_FLOATS: dict[object, Format] = {4: "nvfp4", 8: "fp8"}
_NAMES: dict[str, Format] = {"NVFP4": "nvfp4", "FP8": "fp8", "MXFP4": "mxfp4", "W4A16": "int4"}


def published(config: Mapping[str, Any]) -> tuple[Precision, str | None]:
    """(formats by component, a note for the user). bf16 throughout where nothing is quantised."""
    inner = language(config).values
    stated = next(
        (s for s in (c.get("quantization_config") for c in (config, inner)) if isinstance(s, dict)), None
    )
    if stated is None:
        return Precision(default=_plain({**config, **inner})), None
    method = str(stated.get("quant_method", "")).lower()
    if method == "mxfp4":
        return Precision(experts="mxfp4"), "experts stored in mxfp4, the rest in bf16"
    groups = _groups(stated)
    form = groups[0][1] if groups else _format(method, stated)
    if form is None:
        return (
            Precision(),
            f"quantization_config ({method or 'no quant_method'}): not understood, sized as bf16",
        )
    formats = {**_targets(groups), **_ignored(stated, inner.get("num_hidden_layers")), **_KEPT}
    precision = Precision.parse({"default": form, **{k: v for k, v in formats.items() if v != form}})
    return precision, _note(precision)


def _note(precision: Precision) -> str:
    others = {k: v for k, v in precision.model_dump(exclude_none=True).items() if k != "default"}
    kept = ", ".join(f"{name} in {form}" for name, form in others.items())
    return f"stored in {precision.default}; {kept}"


def _plain(config: Mapping[str, Any]) -> Format:
    stated = str(config.get("dtype") or config.get("torch_dtype") or "").removeprefix("torch.")
    known: dict[str, Format] = {"float32": "fp32", "float16": "fp16"}
    return known.get(stated, "bf16")


def _format(method: str, stated: Mapping[str, Any]) -> Format | None:
    if method == "fp8":
        return "fp8_block" if stated.get("weight_block_size") else "fp8"
    if method in ("gptq", "awq", "auto-round", "hqq"):
        return _BITS.get(_hashable(stated.get("bits")))
    if method == "bitsandbytes":
        return "int4" if stated.get("load_in_4bit") else "int8"
    algorithm = str(stated.get("quant_algo", "")).upper()
    return next((form for name, form in _NAMES.items() if name in algorithm), None)


def _groups(stated: Mapping[str, Any]) -> list[tuple[list[str], Format]]:
    """(targets, format) of every group of compressed-tensors or ModelOpt; the most general one first."""
    groups = stated.get("config_groups")
    found = []
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            continue
        table = _FLOATS if weights.get("type") == "float" else _BITS
        form = table.get(_hashable(weights.get("num_bits")))
        if form is not None:
            found.append((_strings(group.get("targets")), form))
    return sorted(found, key=lambda item: "Linear" not in item[0])


def _targets(groups: list[tuple[list[str], Format]]) -> dict[str, Format]:
    """Components that a group names by their modules."""
    named: dict[str, Format] = {}
    for targets, form in groups:
        for component, pattern in _COMPONENTS.items():
            if any(re.search(pattern, target) for target in targets):
                named.setdefault(component, form)
    return named


def _ignored(stated: Mapping[str, Any], layers: object) -> dict[str, Format]:
    """Components left in 16 bits in at least half of the layers, or by a pattern."""
    entries = _strings(stated.get("ignore")) + _strings(stated.get("modules_to_not_convert"))
    most = layers if isinstance(layers, int) and layers > 0 else 1
    left: dict[str, Format] = {}
    for component, pattern in _COMPONENTS.items():
        matching = [e for e in entries if re.search(pattern, e) and not re.search("norm|indexer", e)]
        indices = {match.group(1) for entry in matching if (match := re.search(r"layers\.(\d+)\.", entry))}
        if any("*" in entry for entry in matching) or len(indices) * 2 >= most:
            left[component] = "bf16"
    return left


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, Iterable) else []


def _hashable(value: object) -> object:
    return value if isinstance(value, int | str) else None
