"""Small configs of every family the closed form reads, as their publishers spell them, and variations."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

BASE: Config = {
    "hidden_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 80,
    "vocab_size": 130,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
LATENT: Config = {
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
}
DEEPSEEK: Config = {
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 20,
    "n_shared_experts": 2,
    "first_k_dense_replace": 2,
    "n_group": 2,
    "topk_group": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
}
QWEN_MOE: Config = {
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 20,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}
LINEAR: Config = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 6,
    "linear_conv_kernel_dim": 3,
}
MIXTRAL: Config = {"num_local_experts": 8, "num_experts_per_tok": 2}
SHARED: Config = {"shared_expert_intermediate_size": 28}


def flat(kind: str, *parts: Config, without: tuple[str, ...] = (), **more: Any) -> Config:
    """A config of `kind`: the base, then `parts`, then `more`."""
    merged: Config = {"model_type": kind, **BASE}
    for part in parts:
        merged |= part
    return {key: value for key, value in (merged | more).items() if key not in without}


FAMILIES: dict[str, list[Config]] = {
    "llama": [
        flat("llama"),
        flat("llama", tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
        flat("llama", without=("head_dim", "num_key_value_heads")),
    ],
    "granite": [flat("granite", attention_bias=True)],
    "smollm3": [flat("smollm3", without=("tie_word_embeddings",)), flat("smollm3")],
    "seed_oss": [flat("seed_oss"), flat("seed_oss", attention_bias=False, attention_out_bias=True)],
    "mistral": [flat("mistral", sliding_window=64), flat("mistral", sliding_window=None)],
    "phi3": [flat("phi3", without=("head_dim",)), flat("phi3", sliding_window=32)],
    "qwen2": [
        flat("qwen2", without=("head_dim",)),
        flat("qwen2", without=("head_dim",), tie_word_embeddings=True),
    ],
    "qwen3": [flat("qwen3"), flat("qwen3", attention_bias=True)],
    "olmo2": [
        flat("olmo2", without=("head_dim",)),
        flat("olmo2", without=("head_dim",), attention_bias=True),
    ],
    "olmo3": [flat("olmo3", without=("head_dim",), sliding_window=16, num_hidden_layers=8)],
    "ernie4_5": [flat("ernie4_5"), flat("ernie4_5", use_bias=True)],
    "gemma": [flat("gemma", without=("tie_word_embeddings",)), flat("gemma", attention_bias=True)],
    "gemma2": [flat("gemma2", sliding_window=32, without=("tie_word_embeddings",))],
    "gemma3_text": [flat("gemma3_text", sliding_window=32, num_hidden_layers=12)],
    "falcon": [
        {
            "model_type": "falcon",
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_kv_heads": 2,
            "vocab_size": 130,
            **flags,
        }
        for flags in (
            {"new_decoder_architecture": True},
            {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1},
            {"multi_query": True, "parallel_attn": True},
            {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True},
        )
    ],
    "gpt2": [
        {"model_type": "gpt2", "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64, "vocab_size": 130},
        {
            "model_type": "gpt2",
            "n_embd": 48,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 64,
            "vocab_size": 130,
            "n_inner": 100,
            "tie_word_embeddings": False,
        },
    ],
    "mixtral": [flat("mixtral", MIXTRAL), flat("mixtral", MIXTRAL, without=("head_dim",), sliding_window=32)],
    "olmoe": [
        flat("olmoe", without=("head_dim",), num_experts=8, num_experts_per_tok=3, norm_topk_prob=False)
    ],
    "granitemoe": [flat("granitemoe", MIXTRAL, without=("head_dim",), tie_word_embeddings=True)],
    "granitemoeshared": [
        flat("granitemoeshared", MIXTRAL, without=("head_dim",), shared_intermediate_size=width)
        for width in (0, 36)
    ],
    "qwen2_moe": [
        flat("qwen2_moe", QWEN_MOE, SHARED, without=("head_dim",)),
        flat("qwen2_moe", QWEN_MOE, SHARED, without=("head_dim",), decoder_sparse_step=2, qkv_bias=False),
        flat("qwen2_moe", QWEN_MOE, SHARED, without=("head_dim",), mlp_only_layers=[0, 1]),
    ],
    "qwen3_moe": [
        flat("qwen3_moe", QWEN_MOE),
        flat("qwen3_moe", QWEN_MOE, decoder_sparse_step=3, attention_bias=True),
        flat("qwen3_moe", QWEN_MOE, mlp_only_layers=[0], without=("head_dim",)),
    ],
    "qwen3_next": [flat("qwen3_next", QWEN_MOE, SHARED, LINEAR, num_hidden_layers=8)],
    "qwen3_5_moe_text": [flat("qwen3_5_moe_text", QWEN_MOE, SHARED, LINEAR, num_hidden_layers=8)],
    "qwen3_5_text": [flat("qwen3_5_text", LINEAR, num_hidden_layers=8)],
    "dbrx": [
        {
            "model_type": "dbrx",
            "d_model": 48,
            "n_layers": 3,
            "n_heads": 4,
            "max_seq_len": 64,
            "vocab_size": 130,
            "tie_word_embeddings": False,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 500000},
            "ffn_config": {"ffn_hidden_size": 40, "moe_num_experts": 8, "moe_top_k": 2},
        }
    ],
    "gpt_oss": [flat("gpt_oss", MIXTRAL, sliding_window=16), flat("gpt_oss", MIXTRAL, attention_bias=False)],
    "llama4_text": [
        flat(
            "llama4_text",
            MIXTRAL,
            intermediate_size_mlp=90,
            interleave_moe_layer_step=step,
            num_hidden_layers=8,
        )
        for step in (1, 2)
    ],
    "minimax_m2": [flat("minimax_m2", MIXTRAL)],
    "ernie4_5_moe": [
        flat(
            "ernie4_5_moe",
            without=("head_dim",),
            moe_num_experts=8,
            moe_k=2,
            moe_intermediate_size=20,
            moe_num_shared_experts=shared,
            moe_layer_start_index=2,
            moe_layer_end_index=5,
            moe_layer_interval=1,
        )
        for shared in (0, 2)
    ],
    "glm4_moe": [
        flat("glm4_moe", DEEPSEEK),
        flat("glm4_moe", DEEPSEEK, attention_bias=True, use_qk_norm=True, num_nextn_predict_layers=1),
    ],
    "deepseek_v2": [
        flat("deepseek_v2", DEEPSEEK, LATENT, without=("head_dim",), topk_method="group_limited_greedy"),
        flat("deepseek_v2", DEEPSEEK, LATENT, without=("head_dim",), q_lora_rank=None, topk_method="greedy"),
    ],
    "deepseek_v3": [
        flat("deepseek_v3", DEEPSEEK, LATENT, without=("head_dim",)),
        flat(
            "deepseek_v3", DEEPSEEK, LATENT, without=("head_dim",), q_lora_rank=None, first_k_dense_replace=0
        ),
    ],
    "deepseek_v32": [
        flat("deepseek_v32", DEEPSEEK, LATENT, without=("head_dim",), index_n_heads=2, index_head_dim=8)
    ],
    "glm_moe_dsa": [
        flat("glm_moe_dsa", DEEPSEEK, LATENT, without=("head_dim",), index_n_heads=2, index_head_dim=8),
        flat(
            "glm_moe_dsa",
            DEEPSEEK,
            LATENT,
            without=("head_dim",),
            index_n_heads=2,
            index_head_dim=8,
            indexer_types=["full", "full", "shared", "full", "shared", "shared"],
        ),
    ],
}
