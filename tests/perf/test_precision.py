"""Number formats: scales included, bytes rounded up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core import registry
from moe_core.errors import ConfigError
from moe_core.formats import BITS, Format, size
from moe_core.perf import memory
from moe_core.perf.params import Breakdown
from moe_core.perf.precision import FILES, MIXES, asked
from moe_core.specs import Precision


@pytest.mark.parametrize(
    ("form", "nbytes"),
    [
        ("fp32", 4 * 16384),
        ("bf16", 2 * 16384),
        ("fp16", 2 * 16384),
        ("fp8", 16384),
        ("int8", 16384),
        ("fp8_block", 16384 + 4),
        ("int4", 8192 + 2 * 128),
        ("mxfp4", 8192 + 512),
        ("nvfp4", 8192 + 1024),
    ],
)
def test_a_block_of_128_by_128(form: Format, nbytes: int) -> None:
    assert size(128 * 128, form) == nbytes


@given(st.integers(0, 10**13), st.sampled_from(sorted(BITS)))
def test_size_is_the_least_whole_number_of_bytes(elements: int, form: Format) -> None:
    exact = elements * BITS[form] / 8
    assert 0 <= size(elements, form) - exact < 1


def test_components_may_differ_and_the_rest_follows_the_default() -> None:
    mix = Precision(default="fp8", experts="mxfp4")
    assert {name: mix.of(name) for name in Breakdown._fields}["experts"] == "mxfp4"
    assert all(mix.of(name) == "fp8" for name in Breakdown._fields if name != "experts")
    assert set(Precision.model_fields) - {"default"} == set(Breakdown._fields)


def test_named_mixes_keep_norms_and_router_of_the_published_schemes_in_16_bits() -> None:
    published = MIXES["DeepSeek-V3 (fp8 blocks)"]
    assert published.of("router") == published.of("norms") == published.of("head") == "bf16"
    assert published.of("experts") == "fp8_block"


def test_an_unknown_format_names_the_field() -> None:
    with pytest.raises(ConfigError, match=r"default \(fp7\)"):
        Precision.parse({"default": "fp7"})


# Bits a weight and GiB of Llama-3.1-8B: llama.cpp, tools/quantize/README.md.
LLAMA_8B = {
    **{"IQ1_S": 2.0042, "IQ1_M": 2.1460, "IQ2_XXS": 2.3824, "IQ2_XS": 2.5882, "IQ2_M": 2.9294},
    **{"IQ3_XXS": 3.2548, "IQ3_M": 3.7628, "IQ4_XS": 4.4597, "IQ4_NL": 4.6818, "Q2_K": 3.1593},
    **{"Q3_K_S": 3.6429, "Q3_K_L": 4.2979, "Q4_K_S": 4.6672, "Q4_K_M": 4.8944, "Q5_K_S": 5.5704},
    **{"Q5_K_M": 5.7036, "Q6_K": 6.5633, "Q8_0": 8.5008},
}
# Bytes of Qwen3-30B-A3B: the card of bartowski/Qwen_Qwen3-30B-A3B-GGUF.
QWEN3_30B = {"Q8_0": 32.48e9, "Q6_K": 25.10e9, "Q5_K_M": 21.74e9, "Q5_K_S": 21.10e9}


def stored(model: str, mix: str) -> float:
    parts = registry.parameters(registry.get(model)).breakdown
    return sum(memory.weights(parts, FILES[mix]).values())


@pytest.mark.parametrize("mix", LLAMA_8B)
def test_mixtures_of_llama_cpp_have_their_published_bits(mix: str) -> None:
    bits = 8 * stored("Llama-3.1-8B", mix) / 8_030_261_248
    assert bits == pytest.approx(LLAMA_8B[mix], rel=5e-3)


@pytest.mark.parametrize("mix", QWEN3_30B)
def test_they_hold_for_a_mixture_of_experts(mix: str) -> None:
    assert stored("Qwen3-30B-A3B", mix) == pytest.approx(QWEN3_30B[mix], rel=5e-3)


def test_a_file_type_is_asked_for_in_any_case() -> None:
    assert asked("q4_k_m") == asked("Q4_K_M") == FILES["Q4_K_M"]
    assert asked("q4_k") == Precision(default="q4_k")
