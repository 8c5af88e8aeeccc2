"""The scenario: what a URL may hold, what a text may be, and the question that comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.words import escape
from moe_core.scenario import spec as scenario
from moe_core.scenario.spec import (
    CHOICES,
    DEFAULTS,
    Scenario,
    check_text,
    clamp_top_k,
    decode_text,
    nearest_bank,
    read,
)
from moe_core.specs import RunSpec

NAMES = {
    **{"architecture": ("Qwen3-30B-A3B", "DBRX"), "hardware": ("H100", "this machine")},
    **{"rival": ("auto", "sqrt"), "experts": ("16", "1", "2", "4", "8", "16", "32")},
}


def one(field: str, value: str) -> list[str]:
    return read({field: [value]}, NAMES)


def test_the_test_model_is_asked_for_the_same_mixture_as_near_as_it_goes() -> None:
    found = Scenario("DBRX").run_spec()
    assert (found.experts, found.top_k, found.shared, found.batch) == (16, 4, 0, 16)
    wide = Scenario("DeepSeek-V3").run_spec()  # 256 experts, top-8, 1 shared: the active share is kept
    assert (wide.experts, wide.top_k, wide.shared) == (128, 4, 1)
    assert Scenario(batch=1024).run_spec().batch == 256
    own = Scenario("DBRX", model="trained").run_spec()
    assert (own.experts, own.top_k, own.shared) == (16, 4, 1)


@given(st.integers(1, 4096), st.integers(1, 4096), st.integers(0, 64))
def test_there_is_a_test_mixture_for_every_one(experts: int, top_k: int, shared: int) -> None:
    found = nearest_bank((experts, min(top_k, experts), shared))
    assert found[0] <= 128
    assert 1 <= found[1] <= found[0]
    RunSpec(experts=found[0], top_k=found[1], shared=found[2])


def test_defaults_are_choices() -> None:
    assert all(DEFAULTS[field] in choices for field, choices in CHOICES.items() if field in DEFAULTS)
    assert read({field: [str(value)] for field, value in DEFAULTS.items()}, NAMES) == []


@pytest.mark.parametrize("field", CHOICES)
def test_every_choice_is_a_valid_run(field: str) -> None:
    """The widgets offer nothing the spec refuses."""
    for value in CHOICES[field]:
        assert Scenario(**{field: value}).run_spec().top_k >= 1


def test_a_bad_value_is_named_with_its_rule_and_what_is_used() -> None:
    (sentence,) = one("experts", "17")
    assert sentence == "experts (17): must be one of 1, 2, 4, 8, 16, 32; 16 is used"
    (sentence,) = one("hardware", "H900")
    assert sentence == "hardware (H900): must be one of H100, this machine; H100 is used"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-1",
        "0",
        "1e9",
        "16.0",
        "016",
        "９",
        "sixteen",
        "16; DROP TABLE runs",
        "<script>alert(1)</script>",
        "\x00",
    ],
)
def test_hostile_values_get_one_short_sentence(value: str) -> None:
    (sentence,) = one("experts", value)
    assert sentence.startswith("experts (")
    assert sentence.endswith("16 is used")
    assert len(sentence) < 140
    assert "\x00" not in sentence


def test_unknown_fields_and_repeated_ones_are_named() -> None:
    assert one("colour", "red") == ["colour (red): must be a setting of the scenario; it is ignored"]
    found = read({"experts": ["8", "16"]}, NAMES)
    assert found == ["experts (8, 16): must be given once; the last one, 16, is used"]


def test_keys_of_pages_and_of_streamlit_are_left_alone() -> None:
    assert read({"view": ["Text"], "embed": ["true"], "layer": ["3"]}, NAMES) == []


@given(st.dictionaries(st.text(max_size=60), st.lists(st.text(max_size=300), max_size=3), max_size=8))
def test_no_url_breaks_it(parameters: dict[str, list[str]]) -> None:
    found = read(parameters, NAMES)
    assert len(found) <= 5
    assert all(len(sentence) < 240 for sentence in found)


@given(st.text(max_size=80))
def test_escaped_text_keeps_no_markdown(text: str) -> None:
    """Every character that could start a link, image, directive or formula is preceded by a backslash."""
    escaped = escape(text)
    for position, character in enumerate(escaped):
        if character in "[]()!<>*_`$:~|#":
            assert escaped[position - 1] == "\\"


@given(st.integers(1, 200), st.integers(1, 200))
def test_top_k_is_clamped_in_sight(top_k: int, experts: int) -> None:
    used, notice = clamp_top_k(top_k, experts)
    assert used == min(top_k, experts)
    assert (notice is not None) == (top_k > experts)
    if notice:
        assert f"top_k ({top_k})" in notice
        assert f"experts ({experts})" in notice


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e99", "", "much"])
def test_a_number_is_above_zero_or_named(value: str) -> None:
    (sentence,) = one("traffic", value)
    assert sentence.endswith("must be a number above zero; none is used")
    assert one("traffic", "2.5") == []


def test_the_knobs_stand_at_the_published_values_until_they_are_moved() -> None:
    assert Scenario("DBRX").bank == Scenario("DBRX").published == (16, 4, 0)
    assert not Scenario("DBRX", experts=16).edited
    moved = Scenario("DBRX", experts=32)
    assert (moved.bank, moved.edited) == ((32, 4, 0), True)
    assert Scenario("DBRX", experts=2).bank == (2, 2, 0)  # top-k is at most the experts


def test_an_upload_must_be_text() -> None:
    assert decode_text("notes.txt", "Größe".encode()) == ("Größe", None)
    text, problem = decode_text("photo.png", b"\x89PNG\r\n\x1a\n\xff\xfe")
    assert text is None
    assert problem == "photo.png (10 bytes): must be text in UTF-8; byte 0 is not UTF-8"
    assert (
        decode_text("zeros.bin", b"a\x00b")[1] == "zeros.bin (3 bytes): must be text; it contains zero bytes"
    )
    assert "at most 10 characters" in str(decode_text("long.txt", b"x" * 11, limit=10)[1])


def test_blank_text_is_not_a_question() -> None:
    assert check_text(" \n\t")[0] is None
    assert check_text("a")[0] == "a"


def test_formats_the_scale_model_cannot_compute_in_run_as_auto() -> None:
    dtypes = [
        Scenario("DBRX", "H100", precision=p).run_spec().dtype
        for p in ("auto", "fp32", "bf16", "fp8", "int4")
    ]
    assert dtypes == ["auto", "fp32", "bf16", "auto", "auto"]


def test_words() -> None:
    assert scenario.describe(1, 1, 0) == "1 expert, top-1"
    assert Scenario("DBRX").mixture() == "16 experts, top-4"
