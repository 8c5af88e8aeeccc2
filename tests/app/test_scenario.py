"""The scenario: what a URL may hold, what a text may be, and the question that comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import scenario
from app.scenario import CHOICES, DEFAULTS, Scenario, check_text, clamp_top_k, decode_text, nearest, read
from app.words import escape
from moe_core.specs import RunSpec

NAMES = {"architecture": ("Qwen3-30B-A3B", "DBRX"), "hardware": ("H100", "this machine")}


def one(field: str, value: str) -> list[str]:
    return read({field: [value]}, NAMES)


def test_the_default_scenario_asks_the_default_question() -> None:
    assert Scenario("DBRX", "H100").run_spec() == RunSpec()


def test_defaults_are_choices() -> None:
    assert all(DEFAULTS[field] in choices for field, choices in CHOICES.items())
    assert read({field: [str(value)] for field, value in DEFAULTS.items()}, NAMES) == []


@pytest.mark.parametrize("field", CHOICES)
def test_every_choice_is_a_valid_run(field: str) -> None:
    """The widgets offer nothing the spec refuses (top-k stays below experts here)."""
    if field in ("context", "write"):
        return
    for value in CHOICES[field]:
        values = {"experts": 128, field: value} if field != "experts" else {"experts": value, "top_k": 1}
        assert getattr(Scenario("DBRX", "H100", **values).run_spec(), field) == value


def test_a_bad_value_is_named_with_its_rule_and_what_is_used() -> None:
    (sentence,) = one("experts", "17")
    assert sentence == "experts (17): must be one of 1, 2, 4, 8, 16, 32, 64, 128; 16 is used"
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


def test_the_nearest_choice() -> None:
    assert [nearest("experts", value) for value in (1, 60, 96, 160, 512)] == [1, 64, 128, 128, 128]
    assert nearest("top_k", 5) == 6


def test_an_upload_must_be_text() -> None:
    assert decode_text("notes.txt", "Größe".encode()) == ("Größe", None)
    text, problem = decode_text("photo.png", b"\x89PNG\r\n\x1a\n\xff\xfe")
    assert text is None
    assert problem == "photo.png (10 bytes): must be text in UTF-8; byte 0 is not"
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
    assert Scenario("DBRX", "H100").mixture() == "16 experts, top-4, 1 shared"
