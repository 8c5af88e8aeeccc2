"""Tiny random models of every mixture family of transformers: their own config classes, made small."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model"), 32),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_heads"), 4),
    **dict.fromkeys(("num_hidden_layers", "n_layers"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim"), 48),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 8),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_top_k", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 1),
    **{"num_key_value_heads": 2, "head_dim": 8, "moe_intermediate_size": 16, "vocab_size": 130},
    **{"shared_expert_intermediate_size": 24, "max_position_embeddings": 256, "n_group": 2, "topk_group": 1},
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sliding_window": 16},
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8},
    **{"linear_head_dim": 8, "linear_num_heads": 4, "linear_value_head_dim": 8},
    **{"index_n_heads": 2, "index_head_dim": 8, "index_topk": 8},
}
_ALL_HEADS = {"num_key_value_heads": 4}
_HYBRID = {"layer_types": ["linear_attention", "full_attention"] * 2}
_AS_THEY_ARE = (
    *("afmoe", "aria_text", "beam", "cohere2_moe", "deepseek_v4", "ernie4_5_moe", "exaone_moe", "flex_olmo"),
    *("flint", "glm4_moe", "gpt_oss", "granitemoe", "granitemoe_swa", "granitemoeshared", "hunyuan_v1_moe"),
    *("hy_v3", "hy_v4", "inkling_text", "inkling2_text", "jetmoe", "kolibri1", "laguna", "llama4_text"),
    *("mellum", "mimo_v2_flash", "minimax", "minimax_m2", "minimax_m3_vl_text", "mixtral", "muse_spark_text"),
    *("nemotron_h", "olmoe", "phimoe", "qwen2_moe", "qwen3_5_moe_text", "qwen3_moe", "qwen3_next"),
    *("qwen3_vl_moe_text", "solar_open"),
)
_WITH_ALL_HEADS = (
    *("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots3_note_text", "glm4_moe_lite"),
    *("glm_moe_dsa", "longcat_flash", "mistral_large4_text"),
)
FAMILIES: dict[str, dict[str, Any]] = {  # model type -> what its class needs besides
    **{kind: {} for kind in _AS_THEY_ARE},
    **{kind: _ALL_HEADS for kind in _WITH_ALL_HEADS},
    **{kind: _ALL_HEADS | _HYBRID for kind in ("bailing_hybrid", "kimi_linear")},
    "mistral4": _ALL_HEADS | {"head_dim": 16},
    "glm5_next_text": _ALL_HEADS | {"index_topk": 16, "index_kpool": 16, "qk_rope_head_dim": 0},
    "dots1": {"n_shared_experts": 1},
    "zaya": {"num_experts_per_tok": 1},
    "doge": {"is_moe": True, "num_experts": 16},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 500000},
        "ffn_config": {"ffn_hidden_size": 40, "moe_num_experts": 8, "moe_top_k": 2},
    },
    "jamba": {
        **{"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
        **{"expert_layer_period": 2, "expert_layer_offset": 1},
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "granitemoehybrid": {
        **{"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8},
        "layer_types": ["mamba", "attention"] * 2,
    },
    "gemma4_text": {
        **{"enable_moe_block": True, "vocab_size_per_layer_input": 130, "hidden_size_per_layer_input": 0},
        **{"layer_types": ["sliding_attention", "full_attention"] * 2, "global_head_dim": 8},
        "num_global_key_value_heads": 2,
    },
    "glm4v_moe_text": {
        "rope_parameters": {
            **{"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
            "partial_rotary_factor": 1.0,
        }
    },
    "qwen4_exp_text": {
        **{"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 8},
        **{"indexer_compress_ratio": 2, "ple_embed_dim": 16, "ngram_vocab_size_base": 50},
        **{"split_ngram_parts": 1, "heads_per_ngram": 2, "hc_lowrank": 8},
    },
}
TWO_STACKS = ("switch_transformers", "nllb-moe")  # encoder and decoder


def model(kind: str, **more: Any) -> nn.Module:
    """A random model of `kind`, in evaluation, the same each time. `more`: settings besides."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING

    maker = CONFIG_MAPPING[kind]
    fields = {*inspect.signature(maker).parameters, *maker().to_dict(), *maker.attribute_map}
    settings = {name: value for name, value in SMALL.items() if name in fields}
    config = maker(**settings | FAMILIES.get(kind, {}) | more)
    made = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None) or MODEL_MAPPING[type(config)]
    torch.manual_seed(0)
    built: nn.Module = made(config).eval()
    for name, buffer in built.named_buffers():  # a bias of zero would hide who reads it
        if name.endswith(("correction_bias", "balancing_biases")):
            buffer.uniform_(-0.02, 0.02)
    return built
