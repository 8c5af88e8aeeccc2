"""What a user asks weights to be in: as stored, one format, or a published mix of them by component."""

from __future__ import annotations

from moe_core.errors import ConfigError
from moe_core.formats import BITS, GGUF, KINDS, Format, Kind, group, kind, size, stored, width
from moe_core.specs import Precision

__all__ = [
    "BITS",
    "GGUF",
    "KINDS",
    "MIXES",
    "Format",
    "Kind",
    "Precision",
    "group",
    "kind",
    "size",
    "stored",
    "width",
]

STORED = "stored"  # as its makers publish it: the default everywhere

MIXES: dict[str, Precision] = {
    "bf16": Precision(),
    "fp8": Precision(default="fp8"),
    "int8": Precision(default="int8"),
    "int4": Precision(default="int4"),
    "gpt-oss (mxfp4 experts)": Precision(experts="mxfp4"),
    "DeepSeek-V3 (fp8 blocks)": Precision(
        default="fp8_block", embedding="bf16", head="bf16", router="bf16", norms="bf16"
    ),
    "nvfp4 experts, fp8 rest": Precision(
        default="fp8", experts="nvfp4", embedding="bf16", head="bf16", router="bf16", norms="bf16"
    ),
    "int4 experts, bf16 rest": Precision(experts="int4"),
}


def asked(word: str, field: str = "precision") -> Precision | None:
    """What a word asks for: a format or a mix; None as stored. Raises ConfigError."""
    if word in (STORED, "auto"):
        return None
    if word in MIXES:
        return MIXES[word]
    try:
        stored(word)
    except ValueError as error:
        forms, mixes = ", ".join(BITS), ", ".join(list(MIXES)[4:])
        rule = (
            f"must be {STORED}, a format ({forms}, a type of GGUF, or as in int4-g64+32) or a mix ({mixes})"
        )
        raise ConfigError(f"{field} ({word[:40]}): {rule}") from error
    return Precision(default=word)


def asked_cache(word: str, field: str = "kv") -> Format | None:
    """The format of a cache that a word asks for; None as stored. Raises ConfigError."""
    found = asked(word, field)
    if found is not None and found != Precision(default=found.default):
        raise ConfigError(f"{field} ({word}): must be one format, not a mix")
    return None if found is None else found.default


def words(precision: Precision) -> str:
    """`mxfp4, but embedding, head and attention in bf16`. Norms are too small to be worth a word."""
    others: dict[Format, list[str]] = {}
    for name, form in precision.model_dump(exclude_none=True).items():
        if name not in ("default", "norms", "other", "tower") and form != precision.default:
            others.setdefault(form, []).append(name)
    parts = [f"{listed(names)} in {form}" for form, names in others.items()]
    return f"{precision.default}, but {listed(parts)}" if parts else precision.default


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
