"""Number formats: scales included, bytes rounded up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.perf.params import Breakdown
from moe_core.perf.precision import BITS, MIXES, Format, Precision, size


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
