"""A page's Markdown as plain words, counts with their plural, links as what they are links to."""

from __future__ import annotations

import pytest
from hypothesis import given

from app.words import escape
from moe_core.report import archive, side
from moe_core.report.manifest import Origin, make
from moe_core.report.text import many, plain, unescaped
from tests.report.examples import anything, figure


@given(anything)
def test_what_a_page_escaped_is_itself_again(text: str) -> None:
    words = " ".join(text.split())
    if "\\" not in words and "\N{WORD JOINER}" not in words:
        assert plain(escape(words)).split() == words.split()


def test_what_a_page_draws_is_taken_off() -> None:
    said = ":material/forum: **Against it.** :small[:gray[Intel\\(R\\) Xeon\\(R\\)]] \\*as is\\*"
    assert plain(said) == "Against it. Intel(R) Xeon(R) *as is*"
    assert unescaped("Intel\\(R\\), **mine**, C:\\con") == "Intel(R), **mine**, C:\\con"


def test_no_escape_reaches_a_page_or_its_sources() -> None:
    page = archive.Page(
        "Fast on Intel\\(R\\)",
        (("time, Intel\\(R\\)", "1\\.5 ms", "recorded on Intel\\(R\\)", "measured here"),),
        {"memory": figure()},
    )
    made = make("page", page.lead, sources=[Origin(kind="measured here", detail="Intel\\(R\\) Xeon")])
    assert made.title == "Fast on Intel(R)"
    drawn = archive.html(page, made).decode()
    assert "\\(" not in drawn
    assert "1.5 ms" in drawn
    assert "Intel(R) Xeon" in drawn


@pytest.mark.parametrize(
    ("count", "nouns", "said"),
    [(1, "devices", "1 device"), (2, "devices", "2 devices"), (4_096, "tokens", "4,096 tokens"),
     (1, "tokens/s", "1 tokens/s"), (0, "sequences", "0 sequences"), (3, "", "3")],
)  # fmt: skip
def test_a_count_agrees_with_its_noun(count: int, nouns: str, said: str) -> None:
    assert many(count, nouns) == said


def test_a_link_is_what_it_is_a_link_to() -> None:
    inner = "architecture%3DMixtral-8x7B%26hardware%3DA100%2B80GB%26batch%3D16"
    assert side.spoken(f"See /compare?a={inner}.") == "See Mixtral-8x7B on A100 80GB, batch 16."
    assert side.spoken("See https://example.org/a?b=c%20d") == "See https://example.org/a?b=c%20d"
    assert side.spoken("Is it fast? a=b") == "Is it fast? a=b"
    assert side.spoken("/reviews?review=a%20b") == "/reviews?review=a b"
