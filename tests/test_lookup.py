"""Names as people type them: releases of one architecture, owners, cards of a driver, close matches."""

import pytest

from moe_core import hardware, registry
from moe_core.errors import ConfigError
from moe_core.lookup import card, releases, stored_as

MODELS = {
    "Qwen/Qwen3-30B-A3B-Instruct-2507": "Qwen3-30B-A3B",
    "qwen3-235b-a22b-thinking-2507": "Qwen3-235B-A22B",
    "Qwen3-8B-FP8": "Qwen3-8B",
    "Qwen3-4B-Base": "Qwen3-4B",
    "deepseek-ai/DeepSeek-V3-0324": "DeepSeek-V3",
    "DeepSeek-R1-0528": "DeepSeek-V3",
    "nvidia/DeepSeek-R1-FP4": "DeepSeek-V3",
    "meta-llama/Llama-3.3-70B-Instruct": "Llama-3.1-70B",
    "Llama-3.2-1B-Instruct": "Llama-3.2-1B",
    "Meta-Llama-3.1-8B-Instruct": "Llama-3.1-8B",
    "zai-org/GLM-4.6-FP8": "GLM-4.5",
    "moonshotai/Kimi-K2-Instruct-0905": "Kimi-K2",
    "moonshotai/Kimi-K2-Thinking": "Kimi-K2.5",
    "nvidia/Kimi-K2.6-NVFP4": "Kimi-K2.5",
    "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8": "Qwen3-Coder-480B-A35B",
    "google/gemma-3-27b-it": "Gemma-3-27B",
    "Mixtral-8x7B-Instruct-v0.1": "Mixtral-8x7B",
    "unsloth/Llama-3.2-3B-Instruct-bnb-4bit": "Llama-3.2-3B",
    "lmstudio-community/Qwen3-32B-MLX-4bit": "Qwen3-32B",
    "bartowski/Llama-3.1-8B-Instruct-Q4_K_M.gguf": "Llama-3.1-8B",
    "amd/Llama-3.1-405B-Instruct-FP8-KV": "Llama-3.1-405B",
    "MiniMax-M2.1": "MiniMax-M2.5",
}


@pytest.mark.parametrize(("typed", "name"), MODELS.items())
def test_releases_of_one_architecture(typed: str, name: str) -> None:
    assert registry.get(typed).name == name


def test_every_record_is_found_by_its_own_name_and_id() -> None:
    for record in registry.records():
        assert registry.get(record.name) is record
        assert record.hf_id is None or registry.get(record.hf_id) is record


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("Gemma-3-4b", "Gemma"),
        ("Qwen3-9B", "Qwen"),
        ("Mistral-7B-Instruct-v0.3", "Mistral"),
        ("Llama-5", "Llama"),
        ("Mistral-Small-3.2-24B-Instruct-2506", "Mistral"),
        ("DeepSeek-R1-Distill-Qwen-32B", "DeepSeek"),
        ("Hermes-3-Llama-3.1-8B", "Llama-3.1-8B"),
        ("Kimi-VL-A3B-Instruct", "Kimi"),
    ],
)
def test_close_matches_are_of_the_family(typed: str, first: str) -> None:
    with pytest.raises(ConfigError, match=f"close matches: {first}"):
        registry.get(typed)


CARDS = {
    "NVIDIA H100 80GB HBM3": "H100",
    "H100-SXM5-80GB": "H100",
    "NVIDIA A100-SXM4-80GB": "A100 80GB",
    "NVIDIA GeForce RTX 4090": "RTX 4090",
    "AMD Instinct MI300X": "MI300X",
    "M2 Ultra": "M2 Ultra 192GB",
    "A100-80G": "A100 80GB",
    "4090": "RTX 4090",
    "Strix Halo": "Ryzen AI Max+ 395",
    "NVIDIA GB10": "DGX Spark",
    "v5e": "TPU v5e",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "RTX PRO 6000",
}


@pytest.mark.parametrize(("typed", "name"), CARDS.items())
def test_cards(typed: str, name: str) -> None:
    assert hardware.get(typed).name == name


@pytest.mark.parametrize("typed", ["A100", "H100 96GB", "H100 PCIe"])
def test_a_card_that_could_be_several_or_is_another_is_refused(typed: str) -> None:
    with pytest.raises(ConfigError, match="close matches"):
        hardware.get(typed)


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("NVIDIA H100 PCIe", "H100"),
        ("A100 SXM", "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB"),
        ("NVIDIA GeForce RTX 4090 D", "RTX 4090"),
        ("Tesla V100-SXM2-16GB", "V100"),
    ],
)
def test_close_matches_of_a_card_leave_out_its_maker_and_socket(typed: str, first: str) -> None:
    with pytest.raises(ConfigError, match=f"close matches: {first}"):
        hardware.get(typed)


def test_a_model_that_sees_is_said_to_be_counted_without_its_eyes() -> None:
    assert "its vision encoder is not counted" in registry.called("Qwen3-VL-8B-Instruct")[0]


def test_parts_of_a_name() -> None:
    assert releases("a/B-7B-Instruct-FP8") == ("B-7B-Instruct-FP8", "B-7B-Instruct", "B-7B")
    assert (stored_as("Qwen3-8B-FP8"), stored_as("Qwen3-8B")) == ("FP8", None)
    assert card("NVIDIA H100 80GB HBM3") == ("h100", 80)
