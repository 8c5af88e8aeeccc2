"""Components by name and shape: what the model zoo calls things."""

import pytest

from moe_core.hf.names import breakdown, component

LAYER = "model.layers.0."


@pytest.mark.parametrize(
    ("name", "shape", "part"),
    [
        ("model.embed_tokens.weight", (100, 8), "embedding"),
        ("lm_head.weight", (100, 8), "head"),
        ("transformer.wte.weight", (100, 8), "embedding"),
        ("transformer.wpe.weight", (64, 8), "other"),
        ("model.norm.weight", (8,), "norms"),
        (LAYER + "input_layernorm.weight", (8,), "norms"),
        (LAYER + "post_attention_layernorm.weight", (8,), "norms"),
        ("transformer.h.0.ln_attn.weight", (8,), "norms"),
        (LAYER + "self_attn.q_norm.weight", (8,), "attention"),
        (LAYER + "self_attn.sinks", (8,), "attention"),
        (LAYER + "mlp.gate.weight", (4, 8), "router"),
        (LAYER + "mlp.gate_proj.weight", (16, 8), "ffn"),
        (LAYER + "mlp.shared_expert_gate.weight", (1, 8), "shared"),
        (LAYER + "mlp.shared_experts.up_proj.weight", (16, 8), "shared"),
        (LAYER + "mlp.experts.gate_up_proj", (4, 32, 8), "experts"),
        (LAYER + "mlp.experts.gate_up_proj_bias", (4, 32), "experts"),
        (LAYER + "mlp.experts.7.up_proj.weight", (16, 8), "experts"),
        (LAYER + "block_sparse_moe.input_linear.weight", (4, 32, 8), "experts"),
        (LAYER + "mlp.router.layer.weight", (4, 8), "router"),
        (LAYER + "self_attention.experts.router.layer.weight", (4, 8), "router"),
        (LAYER + "mlp.gate.router_mlp.fc1.weight", (8, 8), "router"),
        (LAYER + "mlp.gate.weight", (6, 8), "router"),
        (LAYER + "mlp.router_gate.weight", (8, 8), "router"),
        (LAYER + "mlp.down_embed.weight", (4, 8), "experts"),
        (LAYER + "mlstm_layer.q.weight", (8, 8), "mixer"),
        (LAYER + "temporal_block.rg_lru.input_gate_weight", (2, 8, 8), "mixer"),
        ("encoder.layer.0.intermediate.dense.weight", (16, 8), "ffn"),
        ("head.weight", (100, 8), "head"),
        (LAYER + "attn_hc.fn", (24, 64), "other"),
        (LAYER + "linear_attn.in_proj_qkvz.weight", (64, 8), "mixer"),
    ],
)
def test_names(name: str, shape: tuple[int, ...], part: str) -> None:
    assert component(name, shape, experts=4) == part


def test_a_module_with_a_decay_is_linear_attention_whatever_it_is_called() -> None:
    linear = {LAYER + "self_attn.q_proj.weight": (8, 8), LAYER + "self_attn.forget.A_log": (8,)}
    softmax = {"model.layers.1.self_attn.q_proj.weight": (8, 8)}
    parts = breakdown(linear | softmax, None)
    assert (parts.mixer, parts.attention) == (72, 64)


def test_a_short_convolution_over_keys_does_not_make_attention_linear() -> None:
    softmax = {
        LAYER + "self_attn.q_proj.weight": (8, 8),
        LAYER + "self_attn.k_sconv.conv1d.weight": (8, 1, 4),
    }
    assert breakdown(softmax, None).attention == 96


def test_everything_is_counted_somewhere() -> None:
    shapes = {"something.nobody.thought.of": (3, 5), "model.layers.0.mlp.up_proj.weight": (2, 2)}
    assert breakdown(shapes, None).total == 19
