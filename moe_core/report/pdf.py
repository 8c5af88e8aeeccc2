"""PDF report of a review: A4 pages drawn as SVG, so that one renderer shapes all text and charts.

The renderer embeds the letters it uses, turns right-to-left text around and keeps charts as vectors. The
fonts are shipped (`data/fonts`): two machines make the same pages. Sizes are points, from the top left.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import vl_convert
from PIL import ImageFont

from moe_core.report import embed, formats
from moe_core.report.blocks import Grid, Words
from moe_core.report.figure import Figure
from moe_core.report.manifest import Manifest
from moe_core.report.palette import LIGHT
from moe_core.report.plots import Plot
from moe_core.report.story import Story
from moe_core.report.text import clean, is_rtl, line

WIDE, HIGH, EDGE = 595.0, 842.0, 48.0
ROOM = WIDE - 2 * EDGE
BOTTOM = HIGH - 60
FAMILY = "DejaVu Sans"
_FILES = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}


class Piece(NamedTuple):
    """Something of a height that stands on a page: markup around the origin."""

    markup: str
    height: float
    keep: bool = False  # with what follows


def pdf(story: Story) -> bytes:
    """The story as a PDF, its manifest attached."""
    formats.fonts()
    pages = list(_paginate(list(_pieces(story))))
    drawn = [_page(found, at + 1, len(pages), story) for at, found in enumerate(pages)]
    return embed.into_pdf([bytes(vl_convert.svg_to_pdf(one)) for one in drawn], story.manifest)


def _pieces(story: Story) -> Iterator[Piece]:
    yield from _text(story.title, 20, bold=True)
    yield from _text(story.question, 11, LIGHT.faded, after=6)
    yield from _text(story.lead, 12, LIGHT.primary, bold=True, after=8)
    for block in story.blocks:
        if isinstance(block, Plot):
            yield _picture(block.figure, story.manifest)
            continue
        yield Piece("", 14, keep=True)
        yield from _text(block.heading, 13, bold=True, after=4, keep=True)
        yield from _grid(block) if isinstance(block, Grid) else _paragraphs(block)
    yield Piece("", 14, keep=True)
    yield from _text("Sources", 13, bold=True, after=4, keep=True)
    for words in (
        *story.manifest.lines,
        "The manifest is attached to this file: reproduce makes its numbers.",
    ):
        yield from _text(words, 8.5, LIGHT.faded)


def _paragraphs(block: Words) -> Iterator[Piece]:
    for paragraph in clean(block.text).split("\n"):
        yield from _text(paragraph, 10, after=3) if paragraph.strip() else [Piece("", 6)]


def _text(
    words: str,
    size: float,
    colour: str = LIGHT.text,
    *,
    bold: bool = False,
    after: float = 0,
    keep: bool = False,
) -> Iterator[Piece]:
    """A paragraph, line by line, so that a page may end inside it."""
    if not words.strip():
        return
    rtl, step = is_rtl(words), size * 1.4
    for one in wrap(words, size, ROOM, bold):
        yield Piece(_line(one, EDGE + (ROOM if rtl else 0), size, colour, bold, rtl), step, keep)
    if after:
        yield Piece("", after, keep)


def _grid(block: Grid) -> Iterator[Piece]:
    """A table, row by row; the first column takes a quarter, rows that differ have a tint."""
    columns = len(block.head)
    first = ROOM * (0.26 if columns > 2 else 0.34)
    widths = [first] + [(ROOM - first) / (columns - 1)] * (columns - 1)
    if any(block.head):
        yield _row(block.head, widths, bold=True, tint=LIGHT.panel, head=True)
    for at, row in enumerate(block.rows):
        marked = at in block.marked
        yield _row(row, widths, bold=marked, tint=LIGHT.panel if marked else None)


def _row(
    cells: Sequence[str], widths: Sequence[float], bold: bool, tint: str | None, head: bool = False
) -> Piece:
    size, x, markup, tallest = 8.0, EDGE, [], 1
    for words, width in zip(cells, widths, strict=True):
        rtl = is_rtl(words)
        heavy = head or (bold and x == EDGE)
        lines = [one for part in words.split("\n") for one in wrap(part, size, width - 8, heavy)][:40] or [""]
        tallest = max(tallest, len(lines))
        for at, one in enumerate(lines):
            drawn = _line(one, x + (width - 6 if rtl else 2), size, LIGHT.text, heavy, rtl)
            markup.append(f'<g transform="translate(0 {2.5 + at * size * 1.35:.2f})">{drawn}</g>')
        x += width
    height = tallest * size * 1.35 + 6
    back = f'<rect x="{EDGE}" width="{ROOM}" height="{height:.2f}" fill="{tint}"/>' if tint else ""
    rule = f'<path d="M{EDGE} {height:.2f}H{WIDE - EDGE}" stroke="{LIGHT.grid}" stroke-width=".6"/>'
    return Piece(back + "".join(markup) + rule, height)


def _picture(figure: Figure, manifest: Manifest) -> Piece:
    """A chart as an SVG inside the page's SVG, as wide as the text: still a vector drawing."""
    drawn = formats.svg(figure, manifest)
    wide, high = _size(drawn)
    scale = min(ROOM / wide, (BOTTOM - EDGE) / high, 1.0)
    data = base64.b64encode(drawn).decode()
    image = (
        f'<image x="{EDGE}" y="14" width="{wide * scale:.2f}" height="{high * scale:.2f}" '
        f'href="data:image/svg+xml;base64,{data}"/>'
    )
    return Piece(image, high * scale + 22)


def _size(drawn: bytes) -> tuple[float, float]:
    from xml.etree import ElementTree

    root = ElementTree.fromstring(drawn)
    return float(root.attrib["width"]), float(root.attrib["height"])


def _paginate(pieces: list[Piece]) -> Iterator[list[tuple[float, Piece]]]:
    """Pieces at their height on each page. What must stay with the next goes over with it."""
    page: list[tuple[float, Piece]] = []
    y = EDGE
    for at, piece in enumerate(pieces):
        need = piece.height
        following = at
        while pieces[following].keep and following + 1 < len(pieces):
            following += 1
            need += pieces[following].height
        if page and y + min(need, BOTTOM - EDGE) > BOTTOM:
            yield page
            page, y = [], EDGE
        page.append((y, piece))
        y += piece.height
    yield page


def _page(placed: list[tuple[float, Piece]], number: int, count: int, story: Story) -> str:
    body = "".join(f'<g transform="translate(0 {y:.2f})">{piece.markup}</g>' for y, piece in placed)
    left = _line(line(story.title, 80), EDGE, 7.5, LIGHT.faded, False, False)
    right = _line(f"{number} / {count}", WIDE - EDGE, 7.5, LIGHT.faded, False, False, end=True)
    foot = f'<g transform="translate(0 {HIGH - 40})">{left}{right}</g>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{HIGH}" viewBox="0 0 {WIDE} {HIGH}">'
        f'<rect width="{WIDE}" height="{HIGH}" fill="{LIGHT.background}"/>{body}{foot}</svg>'
    )


def _line(words: str, x: float, size: float, colour: str, bold: bool, rtl: bool, end: bool = False) -> str:
    """One line of text, its baseline `size` under the origin."""
    weight = ' font-weight="bold"' if bold else ""
    anchor = ' text-anchor="end"' if rtl or end else ""
    return (
        f'<text x="{x:.2f}" y="{size:.2f}" font-family="{FAMILY}" font-size="{size}" fill="{colour}"'
        f"{weight}{anchor}>{html.escape(words)}</text>"
    )


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


def _cut(word: str, size: float, room: float, bold: bool) -> Iterator[str]:
    while width(word, size, bold) > room and len(word) > 1:
        fits = max(1, int(len(word) * room / width(word, size, bold)))
        while fits > 1 and width(word[:fits], size, bold) > room:
            fits -= 1
        yield word[:fits]
        word = word[fits:]
    yield word


def width(words: str, size: float, bold: bool = False) -> float:
    """Points a line takes in the font that is shipped."""
    found: float = _font(bold).getlength(words)
    return found * size / 100


@cache
def _font(bold: bool) -> Any:
    return ImageFont.truetype(str(formats.FONTS / _FILES[bold]), 100, layout_engine=ImageFont.Layout.BASIC)
