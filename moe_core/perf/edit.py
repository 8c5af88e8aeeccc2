"""Editing an architecture: one knob at a time, validated, never half-applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from moe_core.errors import ConfigError
from moe_core.specs import GQA, MLA, Architecture, Attention

KvKind = Literal["mha", "gqa", "mqa", "mla"]

_TOP = ("hidden", "layers", "vocab", "ffn_width", "first_dense", "moe_every", "tied", "gated", "name")
_EXPERTS = {"experts": "count", "top_k": "top_k", "expert_width": "width", "shared": "shared"}
_ATTENTION = ("heads", "kv_heads", "head_dim", "window", "kv_rank", "q_rank", "rope_dim", "nope_dim", "v_dim")

# DeepSeek-V2's own sizes (arXiv 2405.04434, section 3.1.2); queries are not compressed, as in V2-Lite.
_LATENT = {"kind": "mla", "kv_rank": 512, "nope_dim": 128, "rope_dim": 64, "v_dim": 128}


def edit(arch: Architecture, changes: Mapping[str, Any]) -> Architecture:
    """`arch` with `changes` by the names the page uses: experts, top_k, expert_width, heads, kv_heads ...

    Raises ConfigError naming field, value and rule.
    """
    values = arch.model_dump()
    for name, value in changes.items():
        if name in _TOP:
            values[name] = value
        elif name in _EXPERTS:
            _inside(values, "experts", arch.name)[_EXPERTS[name]] = value
        elif name in _ATTENTION:
            _inside(values, "attention", arch.name)[name] = value
        else:
            raise ConfigError(f"{name}: is not something that can be edited")
    return Architecture.parse(values)


def mixture(arch: Architecture, experts: int, top_k: int, shared: int) -> Architecture:
    """`arch` with another mixture. Expert groups that no longer divide are given up. Raises ConfigError."""
    changes = {"experts": experts, "top_k": top_k, "shared": shared}
    bank = arch.experts
    try:
        return edit(arch, changes)
    except ConfigError:
        if bank is None:
            raise
        router = bank.router.model_copy(update={"groups": 1, "top_groups": 1})
        return edit(arch.model_copy(update={"experts": bank.model_copy(update={"router": router})}), changes)


def split(arch: Architecture, ways: int) -> Architecture:
    """Granularity: every routed expert split `ways`, as many times more of them chosen (DeepSeekMoE, 3.1).

    Size and active share stay; the router grows. Shared experts are left as they are.
    """
    bank = arch.experts
    if bank is None:
        raise ConfigError(f"model ({arch.name}): is dense and has no experts to split")
    if ways < 1 or bank.width % ways:
        raise ConfigError(f"ways ({ways}): must divide the expert width ({bank.width})")
    values = arch.model_dump()
    values["experts"] |= {
        "count": bank.count * ways,
        "top_k": bank.top_k * ways,
        "width": bank.width // ways,
        "shared_width": bank.shared_width or (bank.width if bank.shared else None),
    }
    return Architecture.parse(values)


def with_kv(arch: Architecture, kind: KvKind, kv_heads: int = 8) -> Architecture:
    """`arch` with another kind of attention; head count and width stay where the kind has them."""
    return Architecture.parse({**arch.model_dump(), "attention": _attention(arch.attention, kind, kv_heads)})


def _attention(spec: Attention, kind: KvKind, kv_heads: int) -> dict[str, Any]:
    if kind == "mla":
        return spec.model_dump() if isinstance(spec, MLA) else {**_LATENT, "heads": spec.heads}
    heads = {"mha": spec.heads, "mqa": 1, "gqa": kv_heads}[kind]
    if isinstance(spec, GQA):
        return spec.model_dump() | {"kv_heads": heads}
    return GQA.parse({"heads": spec.heads, "kv_heads": heads, "head_dim": spec.nope_dim}).model_dump()


def _inside(values: dict[str, Any], part: str, name: str) -> dict[str, Any]:
    found = values[part]
    if not isinstance(found, dict):
        raise ConfigError(f"model ({name}): is dense, so it has no experts to edit")
    return found
