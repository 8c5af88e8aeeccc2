"""Formats: bits of a stored weight against what each scheme stores, and the words that are refused."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core import hardware
from moe_core.formats import BITS, GGUF, KINDS, group, kind, size, stored, width
from moe_core.perf.step_time import Bank, Product
from moe_core.silicon import systems
from moe_core.silicon.kernels import time
from moe_core.silicon.place import Place
from moe_core.specs import Architecture, Precision


@pytest.mark.parametrize(
    ("form", "bits"),
    [
        ("int4-g128+16", Fraction(66, 16)),  # GPTQ, symmetric: one fp16 scale
        ("int4-g128+20", Fraction(532, 128)),  # AWQ: scale and a 4-bit zero point
        ("int4-g64+32", Fraction(9, 2)),  # MLX: scale and bias in 16 bits
        ("int3-g128+19", Fraction(403, 128)),
        ("nf4-g64+32", Fraction(9, 2)),  # bitsandbytes: an fp32 maximum a block
        ("int4@4.65", Fraction(465, 100)),
        ("q4_k", Fraction(9, 2)),
        ("q6_k", Fraction(105, 16)),
        ("iq2_xxs", Fraction(33, 16)),
        ("q8_0", Fraction(17, 2)),
    ],
)
def test_bits(form: str, bits: Fraction) -> None:
    assert stored(form).bits == bits
    assert size(256 * 128, form) == -(-256 * 128 * bits // 8)


def test_four_bits_are_multiplied_as_four_bits_and_more_as_eight() -> None:
    assert {kind(form) for form in ("nf4-g64+32", "int3-g128+19", "q4_k", "iq2_xxs", "int4@5.1")} == {"int4"}
    assert {kind(form) for form in ("q8_0", "q6_k", "int6-g64+32")} == {"int8"}
    assert kind("fp8-g32+8") == "fp8"
    assert all(kind(form) == form for form in KINDS)


def test_groups_along_a_row() -> None:
    assert [
        group(form) for form in ("fp8_block", "int4", "int4-g32+16", "mxfp4", "nvfp4", "bf16", "fp8")
    ] == [*(128, 128, 32, 32, 16, None, None)]


@pytest.mark.parametrize("word", ["", "int9", "int4-g0+16", "int4@0.5", "int4@99", "q4_k_m", "FP8", "bf16 "])
def test_other_words_are_refused_with_the_rule(word: str) -> None:
    with pytest.raises(ValueError, match="must be one of fp32, bf16"):
        stored(word)


@given(st.integers(2, 8), st.sampled_from((16, 32, 64, 128)), st.integers(0, 48), st.integers(0, 10**9))
def test_a_group_costs_what_it_stores(bits: int, many: int, extra: int, elements: int) -> None:
    form = f"int{bits}-g{many}+{extra}"
    exact = elements * (bits + Fraction(extra, many)) / 8
    assert exact <= size(elements, form) < exact + 1
    assert width(form) == pytest.approx(bits / 8 + extra / many / 8)


def test_a_model_carries_the_formats_it_is_stored_in() -> None:
    arch = Architecture.parse(
        {
            **{"hidden": 64, "layers": 2, "vocab": 100, "ffn_width": 128},
            **{"attention": {"kind": "gqa", "heads": 4, "kv_heads": 4, "head_dim": 16}},
            **{"stored": {"default": "int4-g64+32", "head": "bf16"}, "stored_kv": "fp8"},
        }
    )
    assert arch.stored == Precision(default="int4-g64+32", head="bf16")
    assert arch.stored_kv == "fp8"
    assert Architecture.parse_json(arch.model_dump_json().encode()) == arch


@pytest.mark.parametrize("form", ["int4@2", "q4_k", "int4-g32+16", "int8@10"])
def test_seconds_follow_the_bytes_where_memory_binds(form: str) -> None:
    device = hardware.get("H100")
    system = systems.of(device)
    place = Place(device, system.name, system.own, "vllm")
    plain, factor = kind(form), width(form) / width(kind(form))
    for kernel in (Product(1, 14336, 4096, plain), Bank(8, 2048, 768, 128, 8, 1, 1, True, plain)):
        nominal, found = time(kernel, place), time(kernel._replace(form=form), place)
        assert nominal.memory_s > nominal.compute_s
        assert found.seconds == pytest.approx(nominal.seconds * factor)
        assert found.bytes == pytest.approx(nominal.bytes * factor)
        assert not found.measured


def test_every_plain_word_and_block_type_is_a_format() -> None:
    assert all(0.1 < width(form) <= 4 for form in (*BITS, *GGUF))
