"""The values of a quantisation block, each checked; formats of bits and groups, and of the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moe_core.errors import ConfigError
from moe_core.formats import Format, stored

Block = Mapping[str, Any]
HALF = 16  # bits of a scale, and of a zero point that is not packed
_WORDS = {"int4": ("int", 4, 128, HALF), "mxfp4": ("fp", 4, 32, 8), "nvfp4": ("fp", 4, 16, 8)}


class Unknown(ConfigError):
    """A value of a quantisation block that this file does not know."""


def brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def whole(block: Block, name: str, default: int | None = None) -> int:
    value = block.get(name)
    value = default if value is None else value
    if isinstance(value, float) and value == int(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unknown(f"{name} ({brief(value)}): must be a whole number")
    return value


def bits_of(block: Block, name: str = "bits") -> int:
    value = whole(block, name)
    if not 2 <= value <= 8:
        raise Unknown(f"{name} ({value}): must be from 2 to 8")
    return value


def flag(block: Block, name: str, default: bool) -> bool:
    value = block.get(name, default)
    if not isinstance(value, bool):
        raise Unknown(f"{name} ({brief(value)}): must be true or false")
    return value


def inside(block: Block, name: str) -> Block:
    value = block.get(name)
    if not isinstance(value, Mapping):
        raise Unknown(f"{name} ({brief(value)}): must be an object")
    return value


def strings(value: object) -> tuple[str, ...]:
    """The strings of a list; none where it is no list."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def grouped(bits: int, group: int, extra: float, base: str = "int") -> Format:
    """`bits` a weight and `extra` more for each `group`, -1 is a row; the plain word where it is one."""
    word = next((word for word, own in _WORDS.items() if own == (base, bits, group, extra)), None)
    if word is not None:
        return word
    form = f"{base}{bits}-g{group}+{extra:g}" if group > 0 else f"{base}{bits}@{bits}"
    form = f"{base}8" if group <= 0 and bits == 8 else form
    try:
        stored(form)
    except ValueError as error:
        raise Unknown(f"group_size ({group}) of {bits} bits: is not a known format") from error
    return form


def blocks(size: object) -> Format:
    """fp8 with one fp32 scale a block of rows x columns."""
    if size in ([128, 128], (128, 128)):
        return "fp8_block"
    if isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int and n > 0 for n in size):
        return grouped(8, size[1], round(32 / size[0], 4), "fp")
    raise Unknown(f"weight_block_size ({brief(size)}): must be two whole numbers")


def cache_or_said(
    read: Callable[[Block], Format | None], block: Block
) -> tuple[Format | None, tuple[str, ...]]:
    """What `read` finds of the cache, or a sentence where it does not know it."""
    try:
        return read(block), ()
    except Unknown as reason:
        return None, (f"quantization_config: {reason}; the cache is sized as bf16",)


_CACHES: dict[str, Format] = {  # ModelOpt's words; AutoFP8 says how it scales
    **{"FP8": "fp8", "INT8": "int8", "NVFP4": "nvfp4"},
    **{"STATIC": "fp8", "DYNAMIC": "fp8"},
}


def cache(block: Block) -> Format | None:
    """The format of the cache. Raises Unknown."""
    said = block.get("kv_cache_scheme") or block.get("kv_cache_quant_algo")
    if said is None:
        return None
    if isinstance(said, Mapping):
        bits, kind = said.get("num_bits"), said.get("type", "float")
        known = {(8, "float"): "fp8", (8, "int"): "int8", (4, "float"): "nvfp4", (4, "int"): "int4"}
        form = known.get((bits, kind)) if isinstance(bits, int) and isinstance(kind, str) else None
    else:
        form = _CACHES.get(str(said).upper())
    if form is None:
        raise Unknown(f"kv_cache_scheme ({brief(said)}): is not a known format")
    return form


def quark_cache(block: Block) -> Format | None:
    """The cache is what the projections of keys and values put out, where the export names them."""
    export, named = block.get("export"), block.get("layer_quant_config")
    if not isinstance(export, Mapping) or not export.get("kv_cache_group"):
        return None
    every = named.values() if isinstance(named, Mapping) else ()
    outputs = [own.get("output_tensors") for own in every if isinstance(own, Mapping)]
    said = next((str(out.get("dtype")) for out in outputs if isinstance(out, Mapping)), "")
    if not said.startswith(("fp8", "int8")):
        raise Unknown(f"kv_cache_group ({brief(said or None)}): is not a known format of a cache")
    return "fp8" if said.startswith("fp8") else "int8"
