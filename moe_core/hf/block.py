"""The values of a quantisation block, each checked; the formats that bits and groups make."""

from __future__ import annotations

from collections.abc import Mapping
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
