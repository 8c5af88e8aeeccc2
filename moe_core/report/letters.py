"""Letters: how wide and high text is, in the font that is shipped. What a page or a slide is laid out by.

That font is wider than the ones a reader's office program takes instead of it, so that what fits here fits
there. Sizes are points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any
from unicodedata import east_asian_width

from PIL import ImageFont

from moe_core.report.text import clean
from moe_core.settings import DATA

FONTS = DATA / "fonts"
LEADING = 1.22  # height of a line over the size of its letters
_FILES = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}
_MISSING = 0.6  # of a letter's size: how wide the font draws one that it does not have
SLACK = 1.03  # of the longest word: a renderer rounds
_LOOK = 400  # characters of a cell that say how wide its column should be
_WIDEST = 0.5  # of a table, for one column


def wrap(words: str, size: float, room: float, bold: bool = False) -> list[str]:
    """Lines no wider than `room`; a word that is wider than a line is cut."""
    lines, now = [], ""
    for word in clean(words).split():
        for part in _cut(word, size, room, bold):
            longer = f"{now} {part}" if now else part
            if now and width(longer, size, bold) > room:
                lines.append(now)
                now = part
            else:
                now = longer
    return [*lines, now] if now else lines


def lines(words: str, size: float, room: float, bold: bool = False) -> list[str]:
    """`wrap`, with the line breaks that are there; an empty paragraph is an empty line."""
    return [one for part in clean(words).split("\n") for one in wrap(part, size, room, bold) or [""]]


def height(words: str, size: float, room: float, bold: bool = False) -> float:
    """Points that a paragraph takes."""
    return len(lines(words, size, room, bold)) * size * LEADING


def fitted(
    words: str, sizes: Sequence[float], room: float, high: float, bold: bool = False
) -> tuple[str, float]:
    """The text in the first of `sizes` that fits; in the last it is cut, with an ellipsis."""
    for size in sizes:
        if height(words, size, room, bold) <= high:
            return words, size
    least = sizes[-1]
    shown = lines(words, least, room, bold)[: max(int(high / (least * LEADING)), 1)]
    return f"{' '.join(shown)[:-1].rstrip()}\N{HORIZONTAL ELLIPSIS}", least


def columns(rows: Sequence[Sequence[str]], size: float, room: float, pad: float) -> list[float]:
    """Widths of a table's columns, `room` together: long texts take what short ones leave."""
    many = len(rows[0])
    natural, least = [], []
    for column in zip(*rows, strict=True):
        seen = [clean(words, _LOOK) for words in column]
        whole = max(width(line, size, True) for words in seen for line in words.split("\n"))
        longest = max((width(word, size, True) for words in seen for word in words.split()), default=0.0)
        least.append(min(SLACK * longest + pad, room / many))
        natural.append(max(SLACK * whole + pad, least[-1]))
    spare = room - sum(natural)
    if spare >= 0:
        return [one + spare / many for one in natural]
    wanted = [max(min(one, room * _WIDEST) - few, 0.1) for one, few in zip(natural, least, strict=True)]
    left = (room - sum(least)) / sum(wanted)
    return [few + left * more for few, more in zip(least, wanted, strict=True)]


def width(words: str, size: float, bold: bool = False) -> float:
    """Points a line takes in the font that is shipped."""
    found: float = _font(bold).getlength(words)
    wide = 0 if words.isascii() else sum(east_asian_width(letter) in "WF" for letter in words)
    return (found / 100 + wide * (1 - _MISSING)) * size


def _cut(word: str, size: float, room: float, bold: bool) -> Iterator[str]:
    while width(word, size, bold) > room and len(word) > 1:
        fits = max(1, int(len(word) * room / width(word, size, bold)))
        while fits > 1 and width(word[:fits], size, bold) > room:
            fits -= 1
        yield word[:fits]
        word = word[fits:]
    yield word


@cache
def _font(bold: bool) -> Any:
    return ImageFont.truetype(str(FONTS / _FILES[bold]), 100, layout_engine=ImageFont.Layout.BASIC)
