"""A review as PDF and as HTML: the answer first, numbered pages, words, colours of the house, both models."""

from __future__ import annotations

import base64
import html as html_words
import io
import re

import pytest
from pypdf import PdfReader

from moe_core.report import html, pdf, story
from moe_core.report.blocks import Grid
from moe_core.report.story import Story
from tests.report.reviewed import saved
from tests.report.test_deck import four, one


@pytest.fixture(scope="module", params=[one, four], ids=["one", "four"])
def told(request: pytest.FixtureRequest) -> Story:
    return story.tell(saved(request.param()))


@pytest.fixture(scope="module")
def pages(told: Story) -> list[str]:
    return [page.extract_text() for page in PdfReader(io.BytesIO(pdf.pdf(told))).pages]


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def test_every_page_has_its_number(pages: list[str]) -> None:
    for at, page in enumerate(pages):
        assert f"{at + 1} / {len(pages)}" in page


def test_the_first_page_has_the_answer_and_all_is_words(told: Story, pages: list[str]) -> None:
    assert squeezed(told.answer) in squeezed(pages[0])
    for mark in ("%2", "%3", "\\("):
        assert not any(mark in page for page in pages)


def test_the_html_answers_first_in_words(told: Story) -> None:
    found = html_words.unescape(re.sub(r"<script.*?</script>|<[^>]+>", " ", html.html(told).decode()))
    assert told.answer in found[: found.index("side by side")]
    assert "%2" not in found
    assert "\\(" not in found


def test_the_charts_inside_have_the_colours_of_the_house(told: Story) -> None:
    images = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html.html(told).decode())
    drawn = "".join(base64.b64decode(image).decode() for image in images).upper()
    assert "#D55E00" in drawn
    assert "#0072B2" in drawn


def test_both_candidates_are_in_every_table_and_chart_of_one_scenario() -> None:
    told = story.tell(saved(one()))
    grid = next(block for block in told.blocks if isinstance(block, Grid) and "side by side" in block.heading)
    assert grid.head == ("", "DeepSeek-V3", "Llama-3.1-405B")
    words = squeezed("".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf.pdf(told))).pages))
    assert words.count("Llama-3.1-405B") > 4


def test_the_head_of_a_table_stands_above_it_on_every_page() -> None:
    head, row = pdf.Piece("head", 20.0, keep=True), pdf.Piece("row", 100.0)
    placed = list(pdf._paginate([head, *[row._replace(head=head)] * 20]))
    assert len(placed) > 2
    assert all(page[0][1].markup == "head" for page in placed)
    assert all(y + piece.height <= pdf.BOTTOM for page in placed for y, piece in page)
