"""What a built model keeps of a sequence, and the widest it gets inside: read off its modules.

For models that the closed form does not reach. A module that mixes tokens is known by its parts:

    kv_a_proj_with_mqa                     a latent and a rotary key a token (DeepSeek-V2, section 2.1)
    compressor                             keys of blocks of tokens beside a window (DeepSeek-V4)
    k_proj, v_proj, or one fused matrix    keys and values, within the window where it has one
    a decay, a step, a convolution         a state that never grows, and the last inputs of the convolution

Worker and command line only: this file takes torch modules. What mixes tokens in another way raises
ConfigError, and is not sized by a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from typing import Any

from torch import nn

from moe_core.errors import ConfigError
from moe_core.perf.cache import Cache
from moe_core.perf.memory import Inner
from moe_core.perf.params import Breakdown

_FUSED = ("qkv_proj", "query_key_value", "Wqkv", "c_attn", "qkv", "W_pack", "att_proj", "in_proj_qkv")
_STATES = ("A_log", "dt_bias", "slope_rate", "a_gate_weight", "time_decay", "rg_lru", "decay")
_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "num_attention_heads", "n_head", "num_heads")
_WINDOWS = ("sliding_window", "attention_window_size", "window_size", "attention_chunk_size")


def kept(model: nn.Module, text: Any) -> Cache:
    """The cache of one sequence. `text`: the settings of the language model. Raises ConfigError."""
    found = [_one(module, text) for module in mixers(model)]
    names = ("per_token", "windowed", "index", "state", "convolution")
    sums = {name: sum(getattr(one, name) for one in found) for name in names}
    keys = [one for one in found if one.per_token or one.windowed]
    heads = (
        None
        if any(one.heads is None for one in keys)
        else min((one.heads or 1 for one in keys), default=None)
    )
    return Cache(**sums, window=max((one.window or 0 for one in found), default=0) or None, heads=heads)


def mixers(model: nn.Module) -> Iterator[nn.Module]:
    """The modules that look at other tokens: attention and what stands in its place, innermost ones."""
    for name, module in model.named_modules():
        if re.search(r"(^|\.)(vision|visual|image|audio|video|mm_|multi_modal|embed_vision)", name):
            continue
        parts = dict(module.named_children())
        attends = "kv_a_proj_with_mqa" in parts or "k_proj" in parts or any(n in parts for n in _FUSED)
        attends = attends or {"kv_proj", "q_b_proj"} <= parts.keys() or _has_state(module)
        if attends and not re.search(r"(^|\.)(indexer|compressor|forget_gate)(\.|$)", name):
            yield module


def _has_state(module: nn.Module) -> bool:
    parts = {*dict(module.named_children()), *dict(module.named_parameters(recurse=False))}
    parts |= set(dict(module.named_buffers(recurse=False)))
    return bool(parts & set(_STATES)) or ("conv" in parts and {"in_proj", "out_proj"} <= parts)


def _one(module: nn.Module, text: Any) -> Cache:
    """What one of them keeps."""
    parts = dict(module.named_children())
    if "kv_a_proj_with_mqa" in parts:
        index = parts.get("indexer")
        return Cache(per_token=_out(parts["kv_a_proj_with_mqa"]), index=_size(index, "head_dim"))
    if _has_state(module) or any(_has_state(part) for name, part in parts.items() if "gate" in name):
        return Cache(state=_state(module), convolution=_convolution(parts))
    if getattr(module, "is_kv_shared_layer", False):
        return Cache()
    if "kv_proj" in parts and "k_proj" not in parts:
        return _compressed(module, parts, text)
    width, heads = _keys(parts, module, text)
    window = _window(module, text)
    if window is None:
        return Cache(per_token=width, heads=heads)
    return Cache(windowed=width, window=window, heads=heads)


def _keys(parts: dict[str, nn.Module], module: nn.Module, text: Any) -> tuple[int, int]:
    """Elements of keys and values that a token leaves behind, and their heads."""
    one = _head_dim(module, text)
    if "k_proj" in parts:  # a layer without v_proj takes its keys for values, and keeps both
        keys = _out(parts["k_proj"])
        return keys + _out(parts.get("v_proj") or parts["k_proj"]), max(keys // one, 1)
    heads = _first(text, _HEADS)
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        heads = 1
    return 2 * heads * one, heads


def _head_dim(module: nn.Module, text: Any) -> int:
    for own in (getattr(module, "head_dim", None), _maybe(text, ("head_dim",))):
        if isinstance(own, int) and own > 0:
            return own
    return _first(text, ("hidden_size", "n_embd")) // _first(text, ("num_attention_heads", "n_head"))


def _window(module: nn.Module, text: Any) -> int | None:
    """Tokens that this layer looks back; None for all."""
    kind = _kind(module, text)
    if kind == "full_attention" or getattr(module, "is_sliding", None) is False:
        return None
    own = getattr(module, "sliding_window", None)
    if isinstance(own, int) and own > 0:
        return own
    named = kind or getattr(module, "is_sliding", False)
    if named or getattr(text, "use_sliding_window", True) is not False:
        return _maybe(text, _WINDOWS if named else _WINDOWS[:1])
    return None


def _kind(module: nn.Module, text: Any) -> str:
    """`full_attention`, `sliding_attention` ..., by the module or by the settings' list; empty if neither."""
    own, place = getattr(module, "layer_type", None), getattr(module, "layer_idx", None)
    kinds = getattr(text, "layer_types", None)
    if own is None and isinstance(kinds, list) and isinstance(place, int) and place < len(kinds):
        own = kinds[place]
    return own if isinstance(own, str) else ""


def _compressed(module: nn.Module, parts: dict[str, nn.Module], text: Any) -> Cache:
    """One key for all heads in a window, and one a block of tokens beyond it."""
    width, index, far = _out(parts["kv_proj"]), 0.0, 0.0
    compressor = parts.get("compressor")
    if compressor is not None:
        rate = _size(compressor, "compress_rate")
        indexer = dict(compressor.named_children()).get("indexer")
        far, index = width / rate, _size(indexer, "head_dim") / rate
    window = _window(module, text)
    if window is None:
        return Cache(per_token=width + far, index=index, heads=1)
    return Cache(per_token=far, windowed=width, window=window, index=index, heads=1)


def _state(module: nn.Module) -> int:
    """Elements of a recurrent state, by the sizes that its kind names. Raises ConfigError."""
    own = {name: value for name, value in vars(module).items() if type(value) is int}
    decay = dict(module.named_parameters(recurse=False)).get("A_log")
    if {"num_v_heads", "head_k_dim", "head_v_dim"} <= own.keys():  # gated delta rule
        return own["num_v_heads"] * own["head_k_dim"] * own["head_v_dim"]
    if {"num_heads", "head_dim", "ssm_state_size"} <= own.keys():  # Mamba-2
        return own["num_heads"] * own["head_dim"] * own["ssm_state_size"]
    if {"n_heads", "head_dim", "ssm_state_size"} <= own.keys():
        return own["n_heads"] * own["head_dim"] * own["ssm_state_size"]
    if decay is not None and decay.dim() == 2:  # Mamba
        return decay.numel()
    if "conv" in dict(module.named_children()):  # a short convolution alone
        return 0
    heads = own.get("num_heads") or own.get("num_attention_heads")
    if heads and "head_dim" in own:  # linear attention: a matrix a head
        return heads * own["head_dim"] ** 2
    raise ConfigError(f"config.json: what {type(module).__name__} keeps of a sequence is not known here")


def _convolution(parts: dict[str, nn.Module]) -> int:
    """The last inputs of a causal convolution: channels times its width."""
    found = [part for name, part in parts.items() if "conv" in name]
    weights = [weight for part in found for name, weight in part.named_parameters() if name == "weight"]
    return sum(weight.shape[0] * weight.shape[-1] for weight in weights)


def inner(model: nn.Module, text: Any, parts: Breakdown, share: tuple[int, int], layers: int) -> Inner:
    """Elements alive per token in the widest mixing and feed-forward. `share`: (K, E) of the experts.

    A matrix of a feed-forward has width times hidden elements, so the width of all that a token passes is
    their number over the hidden size; dense layers and layers with experts are taken together.
    """
    hidden = _first(text, ("hidden_size", "n_embd", "d_model"))
    attention = max((_widths(module) for module in mixers(model)), default=4 * hidden)
    sparse = parts.experts * share[0] / share[1] + parts.shared
    passed = (sparse + parts.ffn) / max(layers, 1) / hidden
    sent = 2 * share[0] * hidden if parts.experts else 0
    return Inner(hidden, attention, round(passed) + sent, _first(text, ("vocab_size",)))


def _widths(module: nn.Module) -> int:
    """Outputs of every projection of a mixer, and the input of the last."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return sum(part.out_features for part in linear[:-1]) + linear[-1].in_features if linear else 0


def _out(module: nn.Module) -> int:
    weight = dict(module.named_parameters())["weight"]
    return int(getattr(module, "out_features", 0)) or prod(weight.shape[:1])


def _size(module: nn.Module | None, name: str) -> int:
    value = getattr(module, name, 0)
    return value if isinstance(value, int) else 0


def _first(text: Any, names: tuple[str, ...]) -> int:
    """The first of `names` that the settings have. Raises ConfigError."""
    found = _maybe(text, names)
    if found is None:
        raise ConfigError(f"config.json: {names[0]} is missing, so its cache is not known")
    return found


def _maybe(text: Any, names: tuple[str, ...]) -> int | None:
    """The same, or None. Settings that differ by layer have no single value."""
    for name in names:
        try:
            value = getattr(text, name, None)
        except (AttributeError, RuntimeError, ValueError):
            continue
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
