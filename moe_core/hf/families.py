"""How each known family spells its architecture in config.json: one function a family, one table.

Each function was checked against the modelling code of transformers 5.23; a setting it does not
cover raises Unsupported, and the caller counts by building the model instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moe_core.hf.reader import Fields, Unsupported
from moe_core.specs import GQA, Attention, DeltaNet, Experts, Extras

Parts = dict[str, Any]


def parts(
    f: Fields,
    attention: Attention,
    experts: Experts | None = None,
    extras: dict[str, Any] | None = None,
    **overrides: Any,
) -> Parts:
    """What nearly every family spells the same way; `overrides` wins; `dense`: some layers lack experts."""
    common = {
        "hidden": f.size("hidden_size"),
        "layers": overrides.pop("layers", None) or f.size("num_hidden_layers"),
        "vocab": f.size("vocab_size"),
        "tied": f.flag("tie_word_embeddings", False),
        "norm_eps": f.number("rms_norm_eps", 1e-6),
        "rope_theta": rope_theta(f),
        "max_positions": f.maybe_size("max_position_embeddings") or 4096,
    }
    dense = overrides.pop("dense", experts is None)
    if "ffn_width" not in overrides:
        overrides["ffn_width"] = f.size("intermediate_size") if dense else 0
    return common | {
        "attention": attention,
        "experts": experts,
        "extras": Extras(**(extras or {})),
        **overrides,
    }


def rope_theta(f: Fields) -> float:
    """`rope_theta`, or where newer configs keep it: rope_parameters, per kind of layer or not."""
    nested = f.values.get("rope_parameters")
    for source in (nested, nested.get("full_attention") if isinstance(nested, dict) else None):
        if isinstance(source, dict) and isinstance(source.get("rope_theta"), int | float):
            return float(source["rope_theta"])
    return f.number("rope_theta", 10_000.0)


def gqa(f: Fields, derive_head_dim: bool = True, every_head: bool = False, **options: Any) -> GQA:
    """Heads; head_dim is hidden / heads only in the families whose code says so.

    `every_head`: a config that is silent on KV heads has one a head; elsewhere a class default decides.
    """
    if not every_head:
        f.stated("num_key_value_heads")
    heads = f.size("num_attention_heads")
    head_dim = f.maybe_size("head_dim") if derive_head_dim else f.size("head_dim")
    if head_dim is None:
        hidden = f.size("hidden_size")
        if hidden % heads:
            raise Unsupported(
                f"head_dim: missing, and hidden_size ({hidden}) is no multiple of heads ({heads})"
            )
        head_dim = hidden // heads
    kv_heads = f.maybe_size("num_key_value_heads") or options.pop("kv_heads", None) or heads
    return GQA(heads=heads, kv_heads=kv_heads, head_dim=head_dim, **options)


def biased(f: Fields, name: str = "attention_bias", default: bool = False) -> dict[str, bool]:
    flag = f.flag(name, default)
    return {"qkv_bias": flag, "out_bias": flag}


def windows(f: Fields, layers: int, window: int | None, pattern: int | None) -> tuple[int | None, int | None]:
    """(window, full_every) from `layer_types` or from the family's `pattern`; an irregular one is refused."""
    kinds = f.items("layer_types")
    if not kinds:
        return (window, pattern) if window else (None, None)
    full = [kind == "full_attention" for kind in kinds[:layers]]
    if all(full):
        return None, None
    if not any(full):
        return window, None
    every = full.index(True) + 1
    if full != [(layer + 1) % every == 0 for layer in range(len(full))]:
        raise Unsupported("layer_types: is not a regular pattern, which the closed form needs")
    return window, every


def local(f: Fields, window: int | None, pattern: int | None, **options: Any) -> tuple[GQA, dict[str, Any]]:
    """Attention with a window in some layers, and the extras that say which."""
    window, every = windows(f, f.size("num_hidden_layers"), window, pattern)
    derive = options.pop("derive_head_dim", True)
    return gqa(f, derive, window=window, **options), {"full_every": every}


def llama(f: Fields) -> Parts:
    extras = {"ffn_bias": f.flag("mlp_bias", False)}
    return parts(f, gqa(f, every_head=True, **biased(f)), extras=extras)


def smollm3(f: Fields) -> Parts:
    f.stated("num_key_value_heads")
    return llama(f) | {"tied": f.flag("tie_word_embeddings", True)}


def seed_oss(f: Fields) -> Parts:
    bias, out = f.flag("attention_bias", True), f.flag("attention_out_bias", False)
    extras = {"ffn_bias": f.flag("mlp_bias", False)}
    return parts(f, gqa(f, derive_head_dim=False, qkv_bias=bias, out_bias=out), extras=extras)


def mistral(f: Fields) -> Parts:
    window = f.maybe_size("sliding_window") if "sliding_window" in f.values else 4096
    attention, extras = local(f, window, None)
    return parts(f, attention, extras=extras)


def phi3(f: Fields) -> Parts:
    return parts(f, gqa(f, every_head=True, window=f.maybe_size("sliding_window")))


def qwen2(f: Fields) -> Parts:
    no_partial_window(f)
    return parts(f, gqa(f, qkv_bias=True))


def qwen3(f: Fields) -> Parts:
    no_partial_window(f)
    return parts(f, gqa(f, derive_head_dim=False, qk_norm=True, **biased(f)))


def olmo2(f: Fields) -> Parts:
    return parts(f, gqa(f, every_head=True, **biased(f)), extras={"qk_norm_full": True})


def olmo3(f: Fields) -> Parts:
    attention, extras = local(f, f.maybe_size("sliding_window"), 4, every_head=True, **biased(f))
    return parts(f, attention, extras={**extras, "qk_norm_full": True})


def ernie(f: Fields) -> Parts:
    bias = biased(f, "use_bias")
    extras = {"ffn_bias": bias["out_bias"]}
    tied = f.flag("tie_word_embeddings", True)
    return parts(f, gqa(f, derive_head_dim=False, **bias), extras=extras, tied=tied)


def gemma(f: Fields) -> Parts:
    attention = gqa(f, derive_head_dim=False, **biased(f))
    return parts(f, attention, tied=f.flag("tie_word_embeddings", True))


def gemma2(f: Fields) -> Parts:
    attention, extras = local(f, f.maybe_size("sliding_window"), 2, derive_head_dim=False, **biased(f))
    extras["norms_per_layer"] = 4
    return parts(f, attention, extras=extras, tied=f.flag("tie_word_embeddings", True))


def gemma3(f: Fields) -> Parts:
    pattern = f.maybe_size("sliding_window_pattern", "_sliding_window_pattern") or 6
    options = {"derive_head_dim": False, "qk_norm": True, **biased(f)}
    attention, extras = local(f, f.maybe_size("sliding_window"), pattern, **options)
    extras["norms_per_layer"] = 4
    return parts(f, attention, extras=extras, tied=f.flag("tie_word_embeddings", True))


def falcon(f: Fields) -> Parts:
    heads, new = f.size("num_attention_heads", "n_head"), f.flag("new_decoder_architecture", False)
    hidden, bias = f.size("hidden_size"), f.flag("bias", False)
    if new:
        kv_heads, norms = f.maybe_size("num_kv_heads") or heads, f.maybe_size("num_ln_in_parallel_attn") or 2
    else:
        kv_heads = 1 if f.flag("multi_query", True) else heads
        norms = 1 if f.flag("parallel_attn", True) else 2
    if norms > 2 or hidden % heads:
        raise Unsupported("falcon: an unusual layout")
    head_dim = hidden // heads
    attention = GQA(heads=heads, kv_heads=kv_heads, head_dim=head_dim, qkv_bias=bias, out_bias=bias)
    return parts(
        f,
        attention,
        extras={"norms_per_layer": norms, "norm_bias": True, "ffn_bias": bias},
        layers=f.size("num_hidden_layers", "n_layer"),
        ffn_width=f.maybe_size("ffn_hidden_size") or 4 * hidden,
        gated=False,
        tied=f.flag("tie_word_embeddings", True),
    )


def gpt2(f: Fields) -> Parts:
    hidden, heads = f.size("n_embd", "hidden_size"), f.size("n_head", "num_attention_heads")
    positions = f.size("n_positions", "max_position_embeddings")
    if f.flag("add_cross_attention", False):
        raise Unsupported("add_cross_attention: attends to another model, which the closed form lacks")
    if hidden % heads:
        raise Unsupported(f"n_embd ({hidden}): must be a multiple of n_head ({heads})")
    attention = GQA(heads=heads, kv_heads=heads, head_dim=hidden // heads, qkv_bias=True, out_bias=True)
    return {
        "hidden": hidden,
        "layers": f.size("n_layer", "num_hidden_layers"),
        "vocab": f.size("vocab_size"),
        "ffn_width": f.maybe_size("n_inner") or 4 * hidden,
        "attention": attention,
        "gated": False,
        "tied": f.flag("tie_word_embeddings", True),
        "max_positions": positions,
        "extras": Extras(positions=positions, norm_bias=True, ffn_bias=True),
    }


def qwen3_5(f: Fields) -> Parts:
    attention, extras = gated_hybrid(f)
    return parts(f, attention, extras=extras)


def gated_hybrid(f: Fields) -> tuple[GQA, dict[str, Any]]:
    """Gated DeltaNet in three layers of four, gated attention in the fourth."""
    layers = f.size("num_hidden_layers")
    _, every = windows(f, layers, 1, f.maybe_size("full_attention_interval") or 4)
    if every is None:
        raise Unsupported("layer_types: has one kind only")
    delta = DeltaNet(
        key_heads=f.size("linear_num_key_heads"),
        value_heads=f.size("linear_num_value_heads"),
        key_dim=f.size("linear_key_head_dim"),
        value_dim=f.size("linear_value_head_dim"),
        conv=f.size("linear_conv_kernel_dim"),
    )
    attention = gqa(f, derive_head_dim=False, qk_norm=True, **biased(f))
    mtp = f.count("mtp_num_hidden_layers", "num_nextn_predict_layers")
    return attention, {"full_every": every, "attention_gate": True, "delta": delta, "mtp_layers": mtp}


def no_partial_window(f: Fields) -> None:
    if f.flag("use_sliding_window", False) and f.maybe_size("sliding_window"):
        raise Unsupported("use_sliding_window: windows in some layers only, which the closed form lacks here")


DENSE: dict[str, Callable[[Fields], Parts]] = {
    "llama": llama,
    "granite": llama,
    "smollm3": smollm3,
    "seed_oss": seed_oss,
    "mistral": mistral,
    "phi3": phi3,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3_vl": qwen3,
    "qwen3_vl_text": qwen3,
    "qwen3_5": qwen3_5,
    "qwen3_5_text": qwen3_5,
    "olmo2": olmo2,
    "olmo3": olmo3,
    "ernie4_5": ernie,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gemma3_text": gemma3,
    "falcon": falcon,
    "gpt2": gpt2,
}
