"""PDF report of a review: A4 pages drawn as SVG, so that one renderer shapes all text and charts.

The renderer embeds the letters it uses, turns right-to-left text around and keeps charts as vectors. The
fonts are shipped (`data/fonts`): two machines make the same pages. Sizes are points, from the top left.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import vl_convert

from moe_core.report import embed, formats
from moe_core.report.blocks import Grid, Words
from moe_core.report.figure import Figure
from moe_core.report.letters import columns, wrap
from moe_core.report.manifest import Manifest
from moe_core.report.palette import LIGHT
from moe_core.report.plots import Plot
from moe_core.report.story import Story
from moe_core.report.text import clean, is_rtl, line

WIDE, HIGH, EDGE = 595.0, 842.0, 48.0
ROOM = WIDE - 2 * EDGE
BOTTOM = HIGH - 60
FAMILY = "DejaVu Sans"
CELL, BESIDE = 8.0, 8.0  # points: letters of a table, and the room between its columns


class Piece(NamedTuple):
    """Something of a height that stands on a page: markup around the origin.

    keep: with what follows. head: what stands above it where a page begins with it.
    """

    markup: str
    height: float
    keep: bool = False
    head: Piece | None = None


def pdf(story: Story) -> bytes:
    """The story as a PDF, its manifest attached."""
    formats.fonts()
    pages = list(_paginate(list(_pieces(story))))
    drawn = [_page(found, at + 1, len(pages), story) for at, found in enumerate(pages)]
    return embed.into_pdf([bytes(vl_convert.svg_to_pdf(one)) for one in drawn], story.manifest)


def _pieces(story: Story) -> Iterator[Piece]:
    yield from _text(story.title, 20, bold=True)
    yield from _text(story.question, 11, LIGHT.faded, after=6)
    yield from _text(story.answer, 12, LIGHT.primary, bold=True, after=8)
    for block in story.blocks:
        if isinstance(block, Plot):
            yield _picture(block.figure, story.manifest.of(block.origins))
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
    """A table, row by row, its head again on every page; rows that differ have a tint."""
    head = [block.head] if any(block.head) else []
    widths = columns([*head, *block.rows] or [block.head], CELL, ROOM, BESIDE)
    top = _row(block.head, widths, bold=True, tint=LIGHT.panel, head=True) if head else None
    if top is not None:
        yield top._replace(keep=True)
    for at, row in enumerate(block.rows):
        marked = at in block.marked
        yield _row(row, widths, bold=marked, tint=LIGHT.panel if marked else None)._replace(head=top)


def _row(
    cells: Sequence[str], widths: Sequence[float], bold: bool, tint: str | None, head: bool = False
) -> Piece:
    x, markup, tallest = EDGE, [], 1
    for words, width in zip(cells, widths, strict=True):
        rtl = is_rtl(words)
        heavy = head or (bold and x == EDGE)
        lines = [one for part in words.split("\n") for one in wrap(part, CELL, width - BESIDE, heavy)]
        tallest = max(tallest, len(lines[:40]))
        for at, one in enumerate(lines[:40]):
            drawn = _line(one, x + (width - 6 if rtl else 2), CELL, LIGHT.text, heavy, rtl)
            markup.append(f'<g transform="translate(0 {2.5 + at * CELL * 1.35:.2f})">{drawn}</g>')
        x += width
    height = tallest * CELL * 1.35 + 6
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
            if piece.head is not None:
                page.append((y, piece.head))
                y += piece.head.height
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
