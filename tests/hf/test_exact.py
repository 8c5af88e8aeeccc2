"""Counting by building: equal to the closed form for every family, and to every published integer."""

from typing import Any

import pytest

from moe_core import registry
from moe_core.errors import ConfigError
from moe_core.hf.config import Unsupported, architecture
from moe_core.hf.exact import build, defaulted, exact, supported
from moe_core.perf.params import count
from tests.hf.configs import FAMILIES, flat

pytestmark = pytest.mark.slow  # importing transformers takes seconds

CASES = [(kind, number) for kind, configs in FAMILIES.items() for number in range(len(configs))]
BUILDABLE = [record for record in registry.records() if record.config]


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_closed_form_and_built_model_agree(kind: str, number: int) -> None:
    config = FAMILIES[kind][number]
    closed, built = count(architecture(config)), exact(config)
    assert closed.breakdown == built.breakdown
    assert (closed.total, closed.active) == (built.total, built.active)
    assert (closed.method, built.method) == ("closed_form", "meta")


@pytest.mark.parametrize("record", BUILDABLE, ids=lambda record: record.name)
def test_every_registered_model_is_what_transformers_builds(record: registry.Record) -> None:
    built = exact(record.config)
    assert built.total == record.total
    assert built.active._asdict() == record.active
    assert built.breakdown == registry.parameters(record).breakdown


def test_every_record_marked_exact_can_be_built_again() -> None:
    assert {record.name for record in registry.records() if record.verified.exact} == {
        r.name for r in BUILDABLE
    }


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({}, "model_type is missing"),
        ({"model_type": "zzz"}, "has no class for it"),
        ({"model_type": "clip"}, "no language model"),
        (flat("llama", hidden_size="wide"), "transformers rejects it"),
        (flat("llama", num_hidden_layers=10**9), r"num_hidden_layers \(1000000000\): must be at most 10,000"),
        (flat("jamba", num_attention_heads=0), "transformers rejects it"),
    ],
)
def test_refusals_are_one_sentence(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as raised:
        exact(config)
    assert "\n" not in str(raised.value)


def test_class_defaults_are_taken_and_named() -> None:
    """OLMoE's experts are 1,024 wide, the class default says 2,048: whoever leaves it out is told."""
    found = build(flat("olmoe", num_experts=8, num_experts_per_tok=2, without=("intermediate_size",)))
    assert "intermediate_size 2048" in found.notes[0]
    assert "class defaults" in found.notes[0]
    assert found.filled["intermediate_size"] == 2048


def test_a_missing_size_that_decides_nothing_is_no_obstacle() -> None:
    hybrid = {
        "model_type": "nemotron_h",
        "hidden_size": 32,
        "vocab_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 48,
        "hybrid_override_pattern": "M-M*",
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "n_groups": 2,
        "ssm_state_size": 8,
        "expand": 1,
    }
    assert "moe_intermediate_size" in defaulted(hybrid)
    built = exact(hybrid)
    assert built.breakdown.mixer > 0
    assert built.breakdown.ffn == 2 * 32 * 48
    assert built.breakdown.experts == 0


SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "vocab_size": 128,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}
EIGHT = {"num_local_experts": 8, "num_experts_per_tok": 2}
ROUTED = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_expand": 2,
    "time_step_limit": [0.0, float("inf")],
}
EXPERT, FINE = 3 * 64 * 96, 3 * 64 * 32  # one gated expert, wide and narrow
OTHERS: list[tuple[str, dict[str, Any], int, int]] = [  # type, what it adds, layers with experts, one expert
    ("phimoe", EIGHT | {"attention_bias": True, "lm_head_bias": True}, 4, EXPERT),
    ("flex_olmo", {"num_experts": 8, "num_experts_per_tok": 2}, 4, EXPERT),
    ("dots1", ROUTED | {"n_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 1}, 3, FINE),
    ("hunyuan_v1_moe", {"num_experts": 8, "moe_topk": [2] * 4, "num_shared_expert": [1] * 4}, 4, EXPERT),
    (
        "lfm2_moe",
        {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "num_dense_layers": 1}
        | {"layer_types": ["conv", "full_attention", "conv", "conv"]},
        3,
        FINE,
    ),
    ("minimax", EIGHT | {"layer_types": ["linear_attention", "full_attention"] * 2}, 4, EXPERT),
    (
        "jamba",
        {"num_experts": 8, "num_experts_per_tok": 2, "expert_layer_period": 2, "expert_layer_offset": 1}
        | {"attn_layer_period": 4, "attn_layer_offset": 2},
        2,
        EXPERT,
    ),
    (
        "granitemoehybrid",
        EIGHT | MAMBA | {"layer_types": ["mamba", "mamba", "attention", "mamba"]},
        4,
        EXPERT,
    ),
    ("solar_open", ROUTED | {"n_shared_experts": 1}, 4, FINE),
    (
        "ernie4_5_moe",
        {"moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 32, "moe_num_shared_experts": 2}
        | {"moe_layer_start_index": 1, "moe_layer_interval": 2, "moe_layer_end_index": 3},
        2,
        FINE,
    ),
]


@pytest.mark.parametrize(("kind", "more", "layers", "expert"), OTHERS, ids=[other[0] for other in OTHERS])
def test_mixtures_without_a_closed_form(kind: str, more: dict[str, Any], layers: int, expert: int) -> None:
    """Eight experts, top-2: routed weights by hand, and a quarter of them in use."""
    config = {"model_type": kind, **SMALL, **more}
    with pytest.raises(Unsupported):
        architecture(config)
    built = exact(config)
    assert built.breakdown.experts == layers * 8 * expert
    assert built.total - built.active.incl_embeddings == layers * 6 * expert
    assert built.breakdown.other == 0


def test_remote_code_is_never_run(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    monkeypatch.chdir(tmp_path)
    config = flat("llama", auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    assert exact(config).total == count(architecture(config)).total


def test_known_types() -> None:
    assert supported("llama")
    assert not supported("kimi_k2")


def test_experts_that_a_config_leaves_to_its_class_are_named_once() -> None:
    config = {"model_type": "mixtral", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    config |= {"vocab_size": 100, "intermediate_size": 32}
    assert defaulted(config) == ("num_local_experts", "num_experts_per_tok")
    assert defaulted(config | {"num_experts": 4, "num_experts_per_tok": 2}) == ()
