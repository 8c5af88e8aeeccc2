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
        {},
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
    assert note is None if not stated else note is not None and "not understood" in note
