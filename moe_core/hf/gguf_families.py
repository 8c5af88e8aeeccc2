"""From the settings of a `.gguf` file to those of a config.json, family by family.

The names are those of llama.cpp's conversion (gguf's constants.py, convert_hf_to_gguf.py). Whoever asks
compares the count of the closed form with the file: a family that is spelt otherwise is not believed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from moe_core.hf.gguf import Header, Weight

Config = dict[str, Any]
_COMMON = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
    "context_length": "max_position_embeddings",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "expert_shared_count": "n_shared_experts",
    "expert_weights_norm": "norm_topk_prob",
    "expert_weights_scale": "routed_scaling_factor",
    "expert_group_count": "n_group",
    "expert_group_used_count": "topk_group",
    "leading_dense_block_count": "first_k_dense_replace",
    "interleave_moe_layer_step": "interleave_moe_layer_step",
    "attention.chunk_size": "attention_chunk_size",
    "attention.q_lora_rank": "q_lora_rank",
    "attention.kv_lora_rank": "kv_lora_rank",
    "ssm.group_count": "linear_num_key_heads",
    "ssm.time_step_rank": "linear_num_value_heads",
    "ssm.state_size": "linear_key_head_dim",
    "ssm.conv_kernel": "linear_conv_kernel_dim",
    "full_attention_interval": "full_attention_interval",
}


def config(header: Header) -> Config | None:
    """The settings as a config.json has them; None for a family that is not known here."""
    kind = header.settings.get("general.architecture")
    family = _FAMILIES.get(kind) if isinstance(kind, str) else None
    embedding = header.tensors.get("token_embd.weight")
    if family is None or embedding is None or len(embedding.shape) != 2:
        return None
    own = settings(header)
    values = {ours: own[theirs] for theirs, ours in _COMMON.items() if own.get(theirs) is not None}
    layers = values.get("num_hidden_layers")
    if isinstance(layers, int):
        values["num_hidden_layers"] = layers - next_layers(header)
    values |= {
        "vocab_size": embedding.shape[1],
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "attention_bias": "blk.0.attn_q.bias" in header.tensors,
        "use_qk_norm": "blk.0.attn_q_norm.weight" in header.tensors,
    }
    return values | family(values, own)


def settings(header: Header) -> dict[str, Any]:
    """Those of the model itself, without the family before their names."""
    start = f"{header.settings.get('general.architecture')}."
    return {
        name.removeprefix(start): value for name, value in header.settings.items() if name.startswith(start)
    }


def next_layers(header: Header) -> int:
    """Layers that predict tokens after the next: the last ones of a file, outside the main model."""
    many = settings(header).get("nextn_predict_layers")
    return many if isinstance(many, int) and 0 < many < 64 else 0


def share(header: Header) -> tuple[int, int]:
    """(K, E) of the routed experts, (1, 1) where the file says none."""
    own = settings(header)
    chosen, every = own.get("expert_used_count"), own.get("expert_count")
    if isinstance(chosen, int) and isinstance(every, int) and 0 < chosen <= every:
        return chosen, every
    return 1, 1


def divided(header: Header) -> tuple[dict[str, Weight], dict[str, Weight]]:
    """The tensors of the main model, and those of the layers after it."""
    layers = settings(header).get("block_count")
    last = layers - next_layers(header) if isinstance(layers, int) else 10**6
    beyond = {name: one for name, one in header.tensors.items() if _layer(name) >= last}
    return {name: one for name, one in header.tensors.items() if name not in beyond}, beyond


def _layer(name: str) -> int:
    """The layer a tensor lies in, -1 for what lies around them."""
    match = re.match(r"blk\.(\d{1,6})\.", name)
    return int(match[1]) if match else -1


def _called(kind: str, **more: Any) -> Callable[[Config, Mapping[str, Any]], Config]:
    return lambda values, own: {"model_type": kind, **more}


def _llama(values: Config, own: Mapping[str, Any]) -> Config:
    return {"model_type": "mixtral" if values.get("num_experts") else "llama"}


def _wide_experts(kind: str) -> Callable[[Config, Mapping[str, Any]], Config]:
    """Families whose config calls the width of an expert the width of a feed-forward."""

    def found(values: Config, own: Mapping[str, Any]) -> Config:
        width = values.get("moe_intermediate_size", values.get("intermediate_size"))
        return {
            "model_type": kind,
            "intermediate_size": width,
            "intermediate_size_mlp": values.get("intermediate_size"),
        }

    return found


def _deepseek2(values: Config, own: Mapping[str, Any]) -> Config:
    """Files since 2025 say the widths of a head before it is made a latent (`_mla`)."""
    key, value = (
        own.get(f"attention.{name}_length_mla", own.get(f"attention.{name}_length")) for name in _KV
    )
    rope = own.get("rope.dimension_count")
    whole = isinstance(key, int) and isinstance(rope, int)
    sigmoid = own.get("expert_gating_func") == 2
    grouped = "group_limited_greedy" if values.get("n_group", 1) != 1 else "greedy"
    return {
        "model_type": "deepseek_v3" if sigmoid else "deepseek_v2",
        "topk_method": "noaux_tc" if sigmoid else grouped,
        "scoring_func": "sigmoid" if sigmoid else "softmax",
        "q_lora_rank": values.get("q_lora_rank") or None,
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": key - rope if whole else None,
        "v_head_dim": value,
    }


_KV = ("key", "value")


def _next(values: Config, own: Mapping[str, Any]) -> Config:
    """Gated DeltaNet: its values are as wide as all heads together."""
    inner, heads = own.get("ssm.inner_size"), own.get("ssm.time_step_rank")
    known = isinstance(inner, int) and isinstance(heads, int) and heads > 0
    return {
        "model_type": "qwen3_next" if values.get("num_experts") else "qwen3_5",
        "linear_value_head_dim": int(inner or 0) // int(heads or 1) if known else None,
    }


_FAMILIES: dict[str, Callable[[Config, Mapping[str, Any]], Config]] = {
    **{"llama": _llama, "mistral3": _llama, "granite": _called("granite")},
    **{"llama4": _wide_experts("llama4_text"), "gpt-oss": _wide_experts("gpt_oss")},
    **{"minimax-m2": _wide_experts("minimax_m2"), "olmoe": _wide_experts("olmoe")},
    **{"qwen2": _called("qwen2"), "qwen3": _called("qwen3"), "qwen3vl": _called("qwen3")},
    **{"qwen2moe": _called("qwen2_moe"), "qwen3moe": _called("qwen3_moe", norm_topk_prob=True)},
    **{
        "qwen3vlmoe": _called("qwen3_moe", norm_topk_prob=True),
        "qwen3next": _next,
        "qwen35": _next,
        "qwen35moe": _next,
    },
    **{"deepseek2": _deepseek2, "glm4moe": _called("glm4_moe"), "phi3": _called("phi3")},
    **{"gemma": _called("gemma"), "gemma2": _called("gemma2"), "gemma3": _called("gemma3_text")},
    **{"olmo2": _called("olmo2"), "seed_oss": _called("seed_oss"), "smollm3": _called("smollm3")},
}
