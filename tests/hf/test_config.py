"""config.json to architecture: every family, every refusal in one sentence. No torch here."""

import sys
from typing import Any

import pytest

from moe_core import registry
from moe_core.errors import ConfigError
from moe_core.hf.config import FAMILIES as KNOWN
from moe_core.hf.config import Missing, Unsupported, architecture, load
from moe_core.perf.cache import cache
from moe_core.perf.params import count
from moe_core.specs import GQA, MLA, Router
from tests.hf.configs import FAMILIES, flat

CASES = [(kind, number) for kind, configs in FAMILIES.items() for number in range(len(configs))]
SAME_AS = {"gemma3", "qwen3_vl", "qwen3_vl_text", "qwen3_vl_moe", "qwen3_vl_moe_text", "llama4"}
OUTSIDE = {"deepseek", "kimi_k2"}  # their classes ship with the weights, not in transformers


def test_every_family_has_a_config_here() -> None:
    assert set(FAMILIES) | SAME_AS | OUTSIDE | {"qwen3_5", "qwen3_5_moe"} == set(KNOWN)


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_every_size_decides_something(kind: str, number: int) -> None:
    """Leaving out a size is missed, and left to whoever can name the class's default."""
    config = FAMILIES[kind][number]
    assert architecture(config).name == "imported"
    for name in (
        "hidden_size",
        "num_hidden_layers",
        "vocab_size",
        "num_attention_heads",
        "d_model",
        "n_embd",
    ):
        if name in config:
            with pytest.raises(Missing, match=f"({name}|{ALIASES.get(name, name)}) is missing"):
                architecture({key: value for key, value in config.items() if key != name})


ALIASES = {"n_embd": "n_embd", "hidden_size": "hidden_size"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("mistral", "num_key_value_heads"),
        ("qwen3_moe", "num_key_value_heads"),
        ("smollm3", "num_key_value_heads"),
        ("glm4_moe", "n_shared_experts"),
        ("deepseek_v3", "first_k_dense_replace"),
        ("deepseek_v2", "q_lora_rank"),
        ("ernie4_5_moe", "moe_num_shared_experts"),
    ],
)
def test_what_a_class_fills_in_is_not_ours_to_count(kind: str, name: str) -> None:
    """Silence is not null: null says that there is none, silence leaves it to the class."""
    config = FAMILIES[kind][0]
    with pytest.raises(Missing, match=f"{name} is missing, so the class default"):
        architecture({key: value for key, value in config.items() if key != name})


def test_silence_on_kv_heads_is_one_a_head_where_the_class_says_so() -> None:
    found = architecture(flat("llama", without=("num_key_value_heads",)))
    assert isinstance(found.attention, GQA)
    assert found.attention.kv_heads == found.attention.heads


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (FAMILIES["qwen3_moe"][0] | {"num_local_experts": 64}, "given twice and differ"),
        (FAMILIES["deepseek_v2"][0] | {"mlp_bias": True}, "mlp_bias"),
        (FAMILIES["gpt2"][0] | {"add_cross_attention": True}, "add_cross_attention"),
    ],
)
def test_what_the_closed_form_lacks_is_left_to_the_class(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Unsupported, match=sentence):
        architecture(config)


def test_deepseek_moe_of_2024_whose_class_ships_with_its_weights() -> None:
    """deepseek-moe-16b-base: the values that its record quotes."""
    config = {
        "model_type": "deepseek",
        "hidden_size": 2048,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "intermediate_size": 10944,
        "moe_intermediate_size": 1408,
        "n_routed_experts": 64,
        "num_experts_per_tok": 6,
        "n_shared_experts": 2,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "vocab_size": 102400,
    }
    assert count(architecture(config)).total == registry.get("DeepSeekMoE-16B").total


def test_a_nested_config_is_read_and_said_so() -> None:
    inner = flat("qwen3_vl_moe_text", num_experts=8, num_experts_per_tok=2, moe_intermediate_size=20)
    found = load({"model_type": "qwen3_vl_moe", "text_config": inner})
    assert found.architecture == architecture(inner | {"model_type": "qwen3_moe"})
    assert found.notes == ("the language model alone is described: no vision or audio tower",)
    with pytest.raises(Unsupported, match="are counted by building it"):
        load({"model_type": "qwen3_vl_moe", "text_config": inner, "vision_config": {"hidden_size": 9}})


def test_a_nested_config_may_leave_sizes_to_the_class_and_then_is_not_ours_to_count() -> None:
    with pytest.raises(Missing, match="vocab_size is missing"):
        load({"model_type": "gemma3", "text_config": flat("gemma3_text", without=("vocab_size",))})


def test_the_outer_tie_counts_unless_the_inner_one_says_otherwise() -> None:
    inner = flat("qwen3_vl_text", without=("tie_word_embeddings",))
    assert architecture({"model_type": "qwen3_vl", "tie_word_embeddings": True, "text_config": inner}).tied
    inner["tie_word_embeddings"] = False
    assert not architecture(
        {"model_type": "qwen3_vl", "tie_word_embeddings": True, "text_config": inner}
    ).tied


def test_routers() -> None:
    def router(kind: str, number: int = 0) -> Router:
        experts = architecture(FAMILIES[kind][number]).experts
        assert experts is not None
        return experts.router

    assert router("mixtral") == Router()
    assert router("gpt_oss") == Router(kind="softmax_selected", bias=True)
    assert router("olmoe") == Router(renormalise=False)
    assert router("llama4_text") == Router(kind="sigmoid_input")
    assert router("deepseek_v3") == Router(
        kind="sigmoid", selection_bias=True, scaling=2.5, groups=2, top_groups=1
    )
    assert router("deepseek_v2").groups == 2
    assert router("deepseek_v2", 1).groups == 1


def dbrx(**changes: Any) -> dict[str, Any]:
    config = FAMILIES["dbrx"][0]
    return config | {"ffn_config": config["ffn_config"] | changes}


def router_of(config: dict[str, Any]) -> Router:
    experts = architecture(config).experts
    assert experts is not None
    return experts.router


def test_dbrx_divides_by_a_norm() -> None:
    assert router_of(dbrx()) == router_of(dbrx(moe_normalize_expert_weights=1)) == Router()
    assert router_of(dbrx(moe_normalize_expert_weights=None)) == Router(renormalise=False)
    assert router_of(dbrx(moe_normalize_expert_weights=0.0)) == Router(renormalise=False, scaling=0.5)
    for norm in (2, 2.0, 3, -1):
        with pytest.raises(Unsupported, match=r"moe_normalize_expert_weights \(-?\d\): must be 1, 0 or null"):
            architecture(dbrx(moe_normalize_expert_weights=norm))


def test_deepseek_v2_renormalises_or_scales() -> None:
    grouped, greedy = (config | {"routed_scaling_factor": 16.0} for config in FAMILIES["deepseek_v2"])
    groups = {"groups": 2, "top_groups": 1}
    off, on = {"norm_topk_prob": False}, {"norm_topk_prob": True}
    assert router_of(grouped | off) == Router(renormalise=False, scaling=16.0, **groups)
    assert router_of(grouped | on) == Router(**groups)
    assert router_of(greedy | on) == Router()
    assert router_of(greedy | on | {"num_experts_per_tok": 1}) == Router(renormalise=False, scaling=16.0)


def test_deepseek_v2_scored_like_v3_is_routed_like_v3() -> None:
    like_v3 = {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True}
    assert router_of(FAMILIES["deepseek_v2"][0] | like_v3) == router_of(FAMILIES["deepseek_v3"][0] | like_v3)
    for mixed in ({"topk_method": "noaux_tc"}, {"scoring_func": "sigmoid"}, {"scoring_func": "tanh"}):
        with pytest.raises(Unsupported, match="topk_method, scoring_func"):
            architecture(FAMILIES["deepseek_v2"][0] | {"scoring_func": "softmax"} | mixed)


def test_windows_by_layer_types() -> None:
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    found = architecture(flat("olmo3", without=("head_dim",), sliding_window=16, layer_types=kinds))
    assert isinstance(found.attention, GQA)
    assert (found.attention.window, found.extras.full_every, found.full_layers) == (16, 3, 2)
    every = architecture(flat("mistral", sliding_window=16))
    assert (every.full_layers, cache(every).windowed > 0) == (0, True)
    none = architecture(flat("gpt_oss", sliding_window=None, num_local_experts=8, num_experts_per_tok=2))
    assert none.full_layers == 6


def test_latent_attention() -> None:
    found = architecture(FAMILIES["deepseek_v3"][0])
    assert found.attention == MLA(heads=4, q_rank=24, kv_rank=16, nope_dim=8, rope_dim=4, v_dim=8)
    assert (found.first_dense, len(found.moe_layers)) == (2, 4)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({}, "model_type is missing"),
        ({"model_type": ""}, "model_type is missing"),
        ({"model_type": 5}, "model_type is missing"),
        ({"model_type": "zzz"}, r"model_type \(zzz\)"),
        (flat("llama", hidden_size="48"), r"hidden_size \(48\): must be a whole number"),
        (flat("llama", hidden_size=0), r"hidden_size \(0\)"),
        (flat("llama", hidden_size=-4), r"hidden_size \(-4\)"),
        (flat("llama", hidden_size=True), r"hidden_size \(True\)"),
        (flat("llama", hidden_size=[48]), r"hidden_size \(\[48\]\)"),
        (flat("llama", hidden_size=10**9), r"hidden \(1000000000\)"),
        (flat("llama", hidden_size=None), "hidden_size is missing"),
        (flat("llama", attention_bias="yes"), r"attention_bias \(yes\): must be true or false"),
        (flat("llama", num_key_value_heads=3), r"heads \(4\) must be a multiple of kv_heads \(3\)"),
        (
            flat("mixtral", num_local_experts=2, num_experts_per_tok=3),
            r"top_k \(3\) must be at most experts \(2\)",
        ),
        (flat("gpt_oss", layer_types="all"), r"layer_types \(all\): must be a list"),
        (flat("dbrx", d_model=8, n_heads=2), "attn_config is missing"),
        (
            flat("mistral", rms_norm_eps="small", sliding_window=1),
            r"rms_norm_eps \(small\): must be a number",
        ),
    ],
)
def test_nonsense_is_one_sentence(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as raised:
        architecture(config)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    "config",
    [
        flat("qwen2", use_sliding_window=True, sliding_window=8, without=("head_dim",)),
        flat("deepseek_v3", attention_bias=True, kv_lora_rank=4),
        flat("gemma2", sliding_window=8, layer_types=["full_attention"] + ["sliding_attention"] * 5),
        flat("llama", num_attention_heads=5, without=("head_dim", "num_key_value_heads")),
    ],
)
def test_a_layout_beyond_the_closed_form_is_refused_not_miscounted(config: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        architecture(config)


def test_importing_a_config_needs_no_transformers() -> None:
    import subprocess

    code = (
        "import sys, moe_core.hf.config; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
