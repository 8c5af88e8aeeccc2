"""The formats a checkpoint is stored in, by the schemes in use."""

from typing import Any

import pytest

from moe_core.hf.quantisation import published


@pytest.mark.parametrize(
    ("config", "experts", "head"),
    [
        ({}, "bf16", "bf16"),
        ({"torch_dtype": "float16"}, "fp16", "fp16"),
        ({"dtype": "torch.float32"}, "fp32", "fp32"),
        (
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
            "fp8_block",
            "bf16",
        ),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8", "bf16"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4", "bf16"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "int4", "bf16"),
        ({"quantization_config": {"quant_method": "awq", "bits": 8}}, "int8", "bf16"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "int4", "bf16"),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, "nvfp4", "bf16"),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
                }
            },
            "int4",
            "bf16",
        ),
    ],
)
def test_schemes(config: dict[str, Any], experts: str, head: str) -> None:
    precision, _ = published(config)
    assert precision.of("experts") == experts
    assert precision.of("head") == head


def test_gpt_oss_quantises_its_experts_only() -> None:
    precision, note = published({"quantization_config": {"quant_method": "mxfp4"}})
    assert precision.of("attention") == "bf16"
    assert note is not None


@pytest.mark.parametrize(
    "stated",
    [
        {"quant_method": "unheard_of"},
        {"bits": 4},
        {"quant_method": "gptq", "bits": "four"},
        {"quant_method": "compressed-tensors", "config_groups": []},
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"a": {"weights": {"num_bits": 3, "type": "int"}}},
        },
    ],
)
def test_what_is_not_understood_is_said_and_sized_as_bf16(stated: dict[str, Any]) -> None:
    precision, note = published({"quantization_config": stated})
    assert precision.of("experts") == "bf16"
    assert note is not None
    assert "not understood" in note


def test_modules_left_alone_by_pattern() -> None:
    """As Kimi-K2.5 states it: only the routed experts are quantised."""
    weights = {"num_bits": 4, "type": "int", "group_size": 32}
    left = [
        "lm_head",
        "re:.*self_attn.*",
        "re:.*shared_experts.*",
        r"re:.*mlp\\.(gate|up|gate_up|down)_proj.*",
    ]
    group = {"targets": ["Linear"], "weights": weights}
    stated = {"quant_method": "compressed-tensors", "config_groups": {"g": group}, "ignore": left}
    precision, note = published({"text_config": {"quantization_config": stated, "num_hidden_layers": 61}})
    parts = ("attention", "experts", "shared", "ffn", "head")
    assert {name: precision.of(name) for name in parts} == dict.fromkeys(parts, "bf16") | {"experts": "int4"}
    assert note is not None
    assert note.startswith("stored in int4; ")


def test_modules_left_alone_layer_by_layer() -> None:
    def stated(layers: int) -> dict[str, Any]:
        left = [f"model.layers.{n}.self_attn.q_proj" for n in range(layers)]
        return {"num_hidden_layers": 10, "quantization_config": {"quant_method": "fp8", "ignore": left}}

    assert published(stated(9))[0].of("attention") == "bf16"
    assert published(stated(2))[0].of("attention") == "fp8"


def test_groups_of_their_own() -> None:
    fp8 = {"targets": ["model.layers.1.self_attn.q_proj"], "weights": {"num_bits": 8, "type": "float"}}
    fp4 = {"targets": ["model.layers.1.mlp.experts.0.up_proj"], "weights": {"num_bits": 4, "type": "float"}}
    stated = {"quant_method": "modelopt", "config_groups": {"a": fp8, "b": fp4}}
    precision, _ = published({"quantization_config": stated})
    assert (precision.of("attention"), precision.of("experts")) == ("fp8", "nvfp4")
