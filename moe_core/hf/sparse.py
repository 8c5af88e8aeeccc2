"""How each known family of mixtures spells its experts, router and layer pattern in config.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moe_core.hf.families import Parts, biased, gated_hybrid, gqa, local, no_partial_window, parts
from moe_core.hf.reader import Fields, Unsupported, short
from moe_core.specs import MLA, Experts, Indexer, Router


def bank(f: Fields, width: str, router: Router, **shared: Any) -> Experts:
    """The routed experts, under the three names in use."""
    given = {name: f.maybe_size(name) for name in ("n_routed_experts", "num_experts", "num_local_experts")}
    if len(set(given.values()) - {None}) > 1:
        raise Unsupported(f"experts ({given}): are given twice and differ; which one counts, the class knows")
    return Experts(
        count=f.size(*given),
        top_k=f.size("num_experts_per_tok"),
        width=f.size(width),
        router=router,
        **shared,
    )


def mixtral(f: Fields) -> Parts:
    attention = gqa(f, window=f.maybe_size("sliding_window"))
    return parts(f, attention, bank(f, "intermediate_size", Router()))


def olmoe(f: Fields) -> Parts:
    router = Router(renormalise=f.flag("norm_topk_prob", False))
    experts = bank(f, "intermediate_size", router)
    return parts(f, gqa(f, every_head=True, **biased(f)), experts, {"qk_norm_full": True})


def granitemoe(f: Fields) -> Parts:
    width = f.count("shared_intermediate_size")
    shared = {"shared": 1, "shared_width": width} if width else {}
    experts = bank(f, "intermediate_size", Router(kind="softmax_selected"), **shared)
    return parts(f, gqa(f, every_head=True, **biased(f)), experts)


def qwen2_moe(f: Fields) -> Parts:
    no_partial_window(f)
    router = Router(renormalise=f.flag("norm_topk_prob", False))
    shared = {"shared": 1, "shared_width": f.size("shared_expert_intermediate_size"), "shared_gate": True}
    experts = bank(f, "moe_intermediate_size", router, **shared)
    return parts(f, gqa(f, qkv_bias=f.flag("qkv_bias", True)), experts, **_qwen_layers(f))


def qwen3_moe(f: Fields) -> Parts:
    no_partial_window(f)
    experts = bank(f, "moe_intermediate_size", Router(renormalise=f.flag("norm_topk_prob", False)))
    return parts(f, gqa(f, qk_norm=True, **biased(f)), experts, **_qwen_layers(f))


def qwen3_next(f: Fields) -> Parts:
    attention, extras = gated_hybrid(f)
    router = Router(renormalise=f.flag("norm_topk_prob", True))
    shared = {"shared": 1, "shared_width": f.size("shared_expert_intermediate_size"), "shared_gate": True}
    experts = bank(f, "moe_intermediate_size", router, **shared)
    return parts(f, attention, experts, extras, **_qwen_layers(f))


def _qwen_layers(f: Fields) -> dict[str, Any]:
    """Every `decoder_sparse_step`-th layer has experts, but those in `mlp_only_layers` never."""
    step, dense = f.maybe_size("decoder_sparse_step") or 1, sorted(f.items("mlp_only_layers"))
    if dense and (step > 1 or dense != list(range(len(dense)))):
        raise Unsupported("mlp_only_layers: is not the first layers only, which the closed form needs")
    mixed = bool(dense) or step > 1
    width = f.size("intermediate_size") if mixed else 0
    return {"first_dense": len(dense), "moe_every": step, "ffn_width": width}


def dbrx(f: Fields) -> Parts:
    attn, ffn = f.group("attn_config"), f.group("ffn_config")
    heads, hidden = f.size("n_heads"), f.size("d_model")
    inner = {
        "num_attention_heads": heads,
        "num_key_value_heads": attn.size("kv_n_heads"),
        "hidden_size": hidden,
    }
    experts = Experts(
        count=ffn.size("moe_num_experts"),
        top_k=ffn.size("moe_top_k"),
        width=ffn.size("ffn_hidden_size"),
        router=_dbrx_router(ffn),
    )
    return {
        "hidden": hidden,
        "layers": f.size("n_layers"),
        "vocab": f.size("vocab_size"),
        "attention": gqa(Fields(inner)),
        "experts": experts,
        "tied": f.flag("tie_word_embeddings", False),
        "rope_theta": attn.number("rope_theta", 10_000.0),
        "max_positions": f.maybe_size("max_seq_len") or 2048,
    }


def _dbrx_router(ffn: Fields) -> Router:
    """Weights are divided by their p-norm: 1 renormalises, null leaves them, 0 counts them."""
    if "moe_normalize_expert_weights" in ffn.values and ffn.values["moe_normalize_expert_weights"] is None:
        return Router(renormalise=False)
    norm = ffn.number("moe_normalize_expert_weights", 1.0)
    if norm not in (0.0, 1.0):
        raise Unsupported(f"moe_normalize_expert_weights ({norm:g}): must be 1, 0 or null, no other norm")
    return Router() if norm else Router(renormalise=False, scaling=1 / ffn.size("moe_top_k"))


def gpt_oss(f: Fields) -> Parts:
    options = {"derive_head_dim": False, **biased(f, default=True)}
    attention, extras = local(f, f.maybe_size("sliding_window"), 2, **options)
    experts = bank(f, "intermediate_size", Router(kind="softmax_selected", bias=True))
    return parts(f, attention, experts, {**extras, "sinks": True, "expert_bias": True})


def llama4(f: Fields) -> Parts:
    layers, step = f.size("num_hidden_layers"), f.maybe_size("interleave_moe_layer_step") or 1
    sparse = list(range(step - 1, layers, step))
    if f.items("moe_layers") not in ([], sparse):
        raise Unsupported("moe_layers: is not every n-th layer, which the closed form needs")
    pattern = f.maybe_size("no_rope_layer_interval") or 4
    window = f.maybe_size("attention_chunk_size") if pattern <= layers else None
    attention = gqa(f, derive_head_dim=False, window=window, **biased(f))
    experts = bank(f, "intermediate_size", Router(kind="sigmoid_input"), shared=1)
    width = f.size("intermediate_size_mlp") if len(sparse) < layers else 0
    extras = {"full_every": pattern if window else None}
    return parts(f, attention, experts, extras, moe_every=step, ffn_width=width)


def minimax_m2(f: Fields) -> Parts:
    experts = bank(f, "intermediate_size", Router(kind="sigmoid", selection_bias=True))
    full_norm = {"qk_norm_full": f.flag("use_qk_norm", True)}
    return parts(f, gqa(f, derive_head_dim=False), experts, full_norm)


def ernie_moe(f: Fields) -> Parts:
    layers, start = f.size("num_hidden_layers"), f.count("moe_layer_start_index", default=1)
    if f.flag("use_bias", False) or f.count("moe_layer_interval", default=1) != 1:
        raise Unsupported("use_bias, moe_layer_interval: the closed form covers the published setting only")
    end = f.values.get("moe_layer_end_index")
    if end not in (None, -1, layers - 1):
        raise Unsupported(f"moe_layer_end_index ({end}): must be the last layer")
    f.stated("moe_num_shared_experts")
    number, width = f.count("moe_num_shared_experts"), f.size("moe_intermediate_size")
    experts = Experts(
        count=f.size("moe_num_experts"),
        top_k=f.size("moe_k", "num_experts_per_tok"),
        width=width,
        shared=number,
        router=Router(selection_bias=True),
    )
    tied = f.flag("tie_word_embeddings", True)
    return parts(
        f, gqa(f), experts, {"trained_selection_bias": True}, dense=True, first_dense=start, tied=tied
    )


def glm4_moe(f: Fields) -> Parts:
    attention = gqa(f, qkv_bias=f.flag("attention_bias", False), qk_norm=f.flag("use_qk_norm", False))
    return _deepseek_layers(f, attention, {})


def deepseek(f: Fields) -> Parts:
    """DeepSeekMoE, arXiv 2401.06066: ordinary attention. Its class ships with the weights."""
    router = Router(renormalise=_several(f) and f.flag("norm_topk_prob", False))
    return _deepseek_layers(f, gqa(f, every_head=True, **biased(f)), {}, router)


def deepseek_v3(f: Fields) -> Parts:
    return _deepseek_layers(f, mla(f), {})


def deepseek_v32(f: Fields) -> Parts:
    no_bias(f)
    layers, kinds = f.size("num_hidden_layers"), f.items("indexer_types")
    own = sum(kind == "full" for kind in kinds[:layers]) if kinds else layers
    indexer = Indexer(
        heads=f.size("index_n_heads"),
        head_dim=f.size("index_head_dim"),
        layers=None if own == layers else own,
    )
    return _deepseek_layers(f, mla(f), {"indexer": indexer})


def no_bias(f: Fields) -> None:
    if f.flag("mlp_bias", False):
        raise Unsupported("mlp_bias: biases in the feed-forward, which the closed form lacks here")


def deepseek_v2(f: Fields) -> Parts:
    """DeepSeek-V2's own class renormalises or scales, never both (modeling_deepseek.py, MoEGate).

    transformers 5.23 never renormalises, which makes no difference to the published checkpoints: none of V2
    asks for it. DeepSeek-VL2 calls itself the same and routes like V3.
    """
    no_bias(f)
    method, scoring = f.text("topk_method"), f.text("scoring_func", "softmax")
    if (method, scoring) == ("noaux_tc", "sigmoid"):
        return _deepseek_layers(f, mla(f), {})
    if method == "noaux_tc" or scoring != "softmax":
        raise Unsupported(
            f"topk_method, scoring_func ({short(method)}, {short(scoring)}): have no router here"
        )
    grouped = method == "group_limited_greedy"
    renormalise = _several(f) and f.flag("norm_topk_prob", False)
    router = Router(
        renormalise=renormalise,
        scaling=1.0 if renormalise else f.number("routed_scaling_factor", 1.0),
        groups=f.size("n_group") if grouped else 1,
        top_groups=f.size("topk_group") if grouped else 1,
    )
    return _deepseek_layers(f, mla(f), {}, router)


def _several(f: Fields) -> bool:
    """DeepSeek's own classes up to V2 renormalise only where a token has several experts."""
    return f.size("num_experts_per_tok") > 1


def _deepseek_layers(
    f: Fields, attention: Any, extras: dict[str, Any], router: Router | None = None
) -> Parts:
    """First layers dense, the rest experts with shared ones as wide as `n_shared_experts` of them."""
    router = router or Router(
        kind="sigmoid",
        selection_bias=True,
        renormalise=f.flag("norm_topk_prob", True),
        scaling=f.number("routed_scaling_factor", 1.0),
        groups=f.maybe_size("n_group") or 1,
        top_groups=f.maybe_size("topk_group") or 1,
    )
    if f.count("moe_layer_freq", default=1) != 1:
        raise Unsupported("moe_layer_freq: must be 1")
    first = _dense_layers(f)
    f.stated("n_shared_experts")
    experts = bank(f, "moe_intermediate_size", router, shared=f.count("n_shared_experts"))
    extras = {**extras, "mtp_layers": f.count("num_nextn_predict_layers")}
    return parts(f, attention, experts, extras, dense=first > 0, first_dense=first)


def _dense_layers(f: Fields) -> int:
    """How many layers are dense: a list of kinds where there is one, else a number."""
    kinds = f.items("mlp_layer_types")
    if not kinds:
        f.stated("first_k_dense_replace")
        return f.count("first_k_dense_replace", default=0)
    dense = sum(kind == "dense" for kind in kinds)
    if kinds != ["dense"] * dense + ["sparse"] * (len(kinds) - dense):
        raise Unsupported("mlp_layer_types: dense layers are not the first ones")
    return dense


def mla(f: Fields) -> MLA:
    if f.flag("attention_bias", False):
        raise Unsupported("attention_bias: latent attention with biases, which the closed form lacks")
    f.stated("q_lora_rank")
    return MLA(
        heads=f.size("num_attention_heads"),
        q_rank=f.maybe_size("q_lora_rank"),
        kv_rank=f.size("kv_lora_rank"),
        nope_dim=f.size("qk_nope_head_dim"),
        rope_dim=f.size("qk_rope_head_dim"),
        v_dim=f.size("v_head_dim"),
    )


SPARSE: dict[str, Callable[[Fields], Parts]] = {
    "mixtral": mixtral,
    "olmoe": olmoe,
    "granitemoe": granitemoe,
    "granitemoeshared": granitemoe,
    "qwen2_moe": qwen2_moe,
    "qwen3_moe": qwen3_moe,
    "qwen3_vl_moe": qwen3_moe,
    "qwen3_vl_moe_text": qwen3_moe,
    "qwen3_next": qwen3_next,
    "qwen3_5_moe": qwen3_next,
    "qwen3_5_moe_text": qwen3_next,
    "dbrx": dbrx,
    "gpt_oss": gpt_oss,
    "llama4": llama4,
    "llama4_text": llama4,
    "minimax_m2": minimax_m2,
    "ernie4_5_moe": ernie_moe,
    "glm4_moe": glm4_moe,
    "deepseek": deepseek,
    "deepseek_v2": deepseek_v2,
    "deepseek_v3": deepseek_v3,
    "kimi_k2": deepseek_v3,
    "deepseek_v32": deepseek_v32,
    "glm_moe_dsa": deepseek_v32,
}
