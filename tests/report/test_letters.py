"""Text is measured before it is placed: nothing is wider or higher than what was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.report import letters
from tests.report.examples import ATTACKS, anything


@given(st.lists(st.lists(anything, min_size=3, max_size=3), min_size=1, max_size=5))
def test_columns_take_the_room_there_is(rows: list[list[str]]) -> None:
    found = letters.columns(rows, 10, 500, 8)
    assert sum(found) == pytest.approx(500)
    assert min(found) > 0


def test_a_long_text_gets_what_short_ones_leave() -> None:
    found = letters.columns([("factor", "a sentence of some length " * 9, "who")], 10, 500, 8)
    assert found[1] > found[0] + found[2]
    assert found[0] > letters.width("factor", 10, True)


@given(anything, st.floats(20, 200))
def test_what_is_fitted_fits(text: str, high: float) -> None:
    shown, size = letters.fitted(text, (14, 10), 300, high)
    assert letters.height(shown, size, 300) <= high
    assert size in (14, 10)


def test_what_is_cut_says_so() -> None:
    shown, size = letters.fitted("word " * 900, (14, 10), 300, 50)
    assert (size, shown[-1]) == (10, "…")
    assert letters.fitted("word", (14, 10), 300, 50) == ("word", 14)


def test_letters_that_the_font_lacks_are_counted_as_wide_as_they_are() -> None:
    assert letters.width("日本語", 10) >= 30


def test_lines_keep_the_breaks_that_are_there() -> None:
    assert letters.lines("a\n\nb", 10, 300) == ["a", "", "b"]
    for text in ATTACKS:
        assert all(letters.width(line, 10) <= 300 or len(line) == 1 for line in letters.lines(text, 10, 300))
