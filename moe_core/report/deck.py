"""Deck: a review as PowerPoint, to be shown as it is: native charts (`native`) and tables, notes in words.

No template, no network: 16:9, dark text on white, one finding a slide, the answer on the first one. Heights
are counted before anything is placed (`letters`): what does not fit goes on on another slide.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pptx import Presentation
from pptx.enum.text import MSO_ANCHOR
from pptx.opc.constants import CONTENT_TYPE, RELATIONSHIP_TYPE
from pptx.opc.package import Part
from pptx.opc.packuri import PackURI
from pptx.oxml import parse_xml
from pptx.oxml.ns import nsdecls
from pptx.util import Inches, Length, Pt

from moe_core.report import embed, letters, native
from moe_core.report.blocks import Grid, Words
from moe_core.report.manifest import Manifest
from moe_core.report.native import colour
from moe_core.report.palette import LIGHT
from moe_core.report.plots import Plot
from moe_core.report.story import Story
from moe_core.report.text import clean, is_rtl, line, many

WIDE, HIGH, EDGE = Inches(13.333), Inches(7.5), Inches(0.6)
TITLE, BODY, SOURCE, BOTTOM, FOOT = (Inches(at) for at in (0.4, 1.4, 6.35, 6.85, 7.0))
_COVER, NUMBER = Inches(1.4), Inches(0.8)  # where the cover begins; the width of a slide's number
ROOM = Length(WIDE - 2 * EDGE)
PAD = (14.4, 7.2)  # points of a box beside, and above and below its words, as PowerPoint has them
INNER, HEIGHT = ROOM.pt - PAD[0], Length(BOTTOM - BODY).pt  # points for words, and for what is below a title
TABLE, TEXT, SMALL, AFTER = 11, 16, 9, 5  # points; the last below a paragraph
TITLES, SCALES = (24, 21, 18, 16, 14), (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
LONG = 400  # characters of a cell
_FIELD = "{5A3C1F60-2B7D-4E0A-9C11-0D2B6A7E4F10}"


class Wrapped(NamedTuple):
    """A paragraph of a slide of words, and the height it takes."""

    text: str
    height: float


class Row(NamedTuple):
    """A row of a table, and the height it takes in points."""

    words: tuple[str, ...]
    height: float
    marked: bool


def deck(story: Story) -> bytes:
    """The story as a PowerPoint file, its manifest inside."""
    show = Presentation()
    show.slide_width, show.slide_height = WIDE, HIGH
    show.core_properties.title, show.core_properties.author = story.title, "MoEScope"
    show.core_properties.comments = "; ".join(story.manifest.lines)[:255]
    _cover(show, story)
    for block in story.blocks:
        if isinstance(block, Plot):
            _chart(show, block)
        elif isinstance(block, Words):
            _words(show, block)
        else:
            _grid(show, block)
    _words(show, Words("Sources", "\n".join((*story.manifest.lines, _how(story.manifest)))))
    _feet(show, story)
    _attach(show, story.manifest)
    sink = io.BytesIO()
    show.save(sink)
    return sink.getvalue()


# -- slides ----------------------------------------------------------------------------------------


def _cover(show: Any, story: Story) -> None:
    """Title, question and answer, as large as they fit together."""
    parts = (
        (clean(story.title, 240), 34.0, LIGHT.text, True),
        (clean(story.question), 20.0, LIGHT.faded, False),
        (clean(story.answer), 22.0, LIGHT.primary, True),
    )
    scale, heights = _scaled([(words, size, bold) for words, size, _, bold in parts])
    slide, top = show.slides.add_slide(show.slide_layouts[5]), _COVER.pt
    for (words, size, hue, bold), high in zip(parts, heights, strict=True):
        shown, points = letters.fitted(words, (size * scale,), INNER, high, bold)
        place = (Length(Pt(top)), Length(Pt(high + PAD[1])))
        if slide.shapes.title.text_frame.text:
            _text(slide, shown, place, points, hue, bold=bold)
        else:
            _title(slide, shown, place, points)
        top += high + 22 if words else 0
    _notes(slide, f"{story.title}. {story.question} {story.answer}")


def _scaled(parts: Sequence[tuple[str, float, bool]]) -> tuple[float, list[float]]:
    """The largest scale at which all parts fit the cover, and the height of each; none takes over half."""
    room = Length(BOTTOM - _COVER).pt - 3 * 22
    for scale in SCALES:
        tall = [letters.height(words, size * scale, INNER, bold) + 0.5 for words, size, bold in parts]
        if sum(tall) <= room:
            return scale, tall
    return SCALES[-1], [min(one, room / len(parts)) for one in tall]


def _chart(show: Any, plot: Plot) -> None:
    """One native chart, what it rests on under it, how it is read in the notes."""
    slide = _slide(show, plot.figure.title)
    native.add(slide, plot, (EDGE, BODY, ROOM, Length(SOURCE - BODY)))
    said, high = "; ".join(f"{one.kind}: {one.detail}" for one in plot.origins), Length(BOTTOM - SOURCE)
    words, size = letters.fitted(said, (SMALL, SMALL - 1), INNER, high.pt - PAD[1])
    _text(slide, words, (SOURCE, high), size, LIGHT.faded)
    _notes(slide, f"{plot.figure.title}. {plot.reading}\nWhere the numbers are from: {said}.")


def _words(show: Any, block: Words) -> None:
    """Text, on as many slides as it takes."""
    lines = list(_lines(clean(block.text, 50_000)))
    parts = list(_pages([one.height for one in lines], HEIGHT - PAD[1]))
    for at, part in enumerate(parts):
        slide = _slide(show, _heading(block.heading, at))
        words = "\n".join(one.text for one in lines[part])
        _text(slide, words, (BODY, Length(BOTTOM - BODY)), TEXT, LIGHT.text, after=AFTER)
        _notes(slide, f"{block.heading}. {_place(at, len(parts))}")


def _lines(text: str) -> Iterator[Wrapped]:
    """Paragraphs; one that is higher than a slide in several pieces."""
    most = int((HEIGHT - PAD[1] - AFTER) / (TEXT * letters.LEADING))
    for paragraph in text.split("\n"):
        rows = letters.wrap(paragraph, TEXT, INNER) or [""]
        for start in range(0, len(rows), most):
            piece = rows[start : start + most]
            words = paragraph if len(rows) <= most else " ".join(piece)
            yield Wrapped(words, len(piece) * TEXT * letters.LEADING + AFTER)


def _grid(show: Any, block: Grid) -> None:
    """A native table, on as many slides as it takes; rows that differ have a tint."""
    head = [block.head] if any(block.head) else []
    rows = [tuple(clean(words, LONG) for words in row) for row in (*head, *block.rows)]
    widths = letters.columns(rows or [block.head], TABLE, ROOM.pt, PAD[0])
    cells = [_row(row, widths, at - len(head) in block.marked) for at, row in enumerate(rows)]
    top = sum(one.height for one in cells[: len(head)])
    body = cells[len(head) :]
    parts = list(_pages([one.height for one in body], HEIGHT - top, even=True))
    for at, part in enumerate(parts):
        slide = _slide(show, _heading(block.heading, at))
        _table(slide, [*cells[: len(head)], *body[part]], widths, headed=bool(head))
        _notes(slide, f"{block.heading}. {_place(at, len(parts))}")


def _row(words: Sequence[str], widths: Sequence[float], marked: bool) -> Row:
    """A row whose words fit a slide, and its height."""
    rooms = [wide - PAD[0] for wide in widths]
    fitted = [
        letters.fitted(text, (TABLE,), room, HEIGHT * 0.75, True)[0]
        for text, room in zip(words, rooms, strict=True)
    ]
    tall = [letters.height(text, TABLE, room, True) for text, room in zip(fitted, rooms, strict=True)]
    return Row(tuple(fitted), max(tall) + PAD[1], marked)


def _table(slide: Any, rows: Sequence[Row], widths: Sequence[float], headed: bool) -> None:
    high = Length(Pt(sum(one.height for one in rows)))
    made = slide.shapes.add_table(max(len(rows), 1), len(widths), EDGE, BODY, ROOM, high).table
    made.first_row, made.horz_banding = headed, False
    for column, wide in zip(made.columns, widths, strict=True):
        column.width = Pt(wide)
    for at, row in enumerate(rows):
        made.rows[at].height = Pt(row.height)
        head = headed and at == 0
        fill = LIGHT.panel if head or row.marked else LIGHT.background
        for place, words in enumerate(row.words):
            _cell(made.cell(at, place), words, bold=head or (row.marked and place == 0), fill=fill)


def _cell(box: Any, words: str, *, bold: bool, fill: str) -> None:
    box.fill.solid()
    box.fill.fore_color.rgb = colour(fill)
    box.text_frame.text = words
    for paragraph in box.text_frame.paragraphs:
        _style(paragraph, TABLE, LIGHT.text, bold)


def _pages(heights: Sequence[float], room: float, even: bool = False) -> Iterator[slice]:
    """Which items stand on each slide; `even`: as many slides, filled alike."""
    parts, limit = _filled(heights, room), room
    if even and len(parts) > 1:
        limit = max(sum(heights) / len(parts), *heights)
        while len(_filled(heights, limit)) > len(parts):
            limit += room / 50
        parts = _filled(heights, min(limit, room))
    yield from parts


def _filled(heights: Sequence[float], room: float) -> list[slice]:
    found, start, used = [], 0, 0.0
    for at, high in enumerate(heights):
        if at > start and used + high > room:
            found.append(slice(start, at))
            start, used = at, 0.0
        used += high
    return [*found, slice(start, len(heights))]


def _heading(words: str, at: int) -> str:
    return f"{words} (continued)" if at else words


def _place(at: int, count: int) -> str:
    return f"Slide {at + 1} of {count} with it." if count > 1 else ""


# -- what every slide has --------------------------------------------------------------------------


def _slide(show: Any, title: str) -> Any:
    """A slide with a title placeholder, so that outlines and screen readers find it."""
    slide = show.slides.add_slide(show.slide_layouts[5])
    high = Length(BODY - TITLE - Inches(0.05))
    words, size = letters.fitted(line(title, 240), TITLES, INNER, high.pt - PAD[1], True)
    _title(slide, words, (TITLE, high), size)
    return slide


def _title(slide: Any, words: str, place: tuple[Length, Length], size: float) -> None:
    box = slide.shapes.title
    box.left, box.top, box.width, box.height = EDGE, place[0], ROOM, place[1]
    _put(box, words, size, LIGHT.text, bold=True)
    box.text_frame.vertical_anchor = MSO_ANCHOR.MIDDLE


def _text(
    slide: Any,
    words: str,
    place: tuple[Length, Length],
    size: float,
    hue: str,
    *,
    bold: bool = False,
    after: float = 0,
) -> None:
    """A box of text at (top, height), as wide as the slide's room."""
    if words.strip():
        _put(
            slide.shapes.add_textbox(EDGE, place[0], ROOM, place[1]), words, size, hue, bold=bold, after=after
        )


def _put(box: Any, words: str, size: float, hue: str, *, bold: bool = False, after: float = 0) -> None:
    box.text_frame.word_wrap = True
    box.text_frame.text = words
    for paragraph in box.text_frame.paragraphs:
        paragraph.space_after = Pt(after)
        _style(paragraph, size, hue, bold)


def _style(paragraph: Any, size: float, hue: str, bold: bool) -> None:
    properties = paragraph._p.get_or_add_pPr()
    rtl = is_rtl(paragraph.text)
    properties.set("algn", "r" if rtl else "l")
    properties.set("rtl", "1" if rtl else "0")
    if not paragraph.runs:  # else an empty line is as high as the largest letters
        paragraph._p.get_or_add_endParaRPr().set("sz", str(int(size * 100)))
    for run in paragraph.runs:
        run.font.size, run.font.bold, run.font.color.rgb = Pt(size), bold, colour(hue)


def _notes(slide: Any, words: str) -> None:
    """What a speaker says, in words."""
    slide.notes_slide.notes_text_frame.text = clean(words).strip()


def _feet(show: Any, story: Story) -> None:
    """Under every slide whose it is and what made it, and its number, which follows it when it is moved."""
    made = f"{line(story.title, 60)}; {story.manifest.lines[-1]}"
    for at, slide in enumerate(show.slides):
        left = slide.shapes.add_textbox(EDGE, FOOT, Length(ROOM - NUMBER), HIGH - FOOT - Inches(0.1))
        _put(left, letters.fitted(made, (SMALL,), INNER - NUMBER.pt, SMALL * 1.5)[0], SMALL, LIGHT.faded)
        right = slide.shapes.add_textbox(WIDE - EDGE - NUMBER, FOOT, NUMBER, HIGH - FOOT - Inches(0.1))
        right.name = "Slide number"
        _number(right.text_frame.paragraphs[0], at + 1)


def _number(paragraph: Any, number: int) -> None:
    paragraph._p.get_or_add_pPr().set("algn", "r")
    fill = f'<a:solidFill><a:srgbClr val="{LIGHT.faded[1:]}"/></a:solidFill>'
    field = (
        f'<a:fld {nsdecls("a")} id="{_FIELD}" type="slidenum">'
        f'<a:rPr lang="en-US" sz="{SMALL * 100}">{fill}</a:rPr><a:t>{number}</a:t></a:fld>'
    )
    paragraph._p.append(parse_xml(field))


def _how(manifest: Manifest) -> str:
    count = many(len(manifest.numbers), "numbers")
    verb = "is" if len(manifest.numbers) == 1 else "are"
    return f"{count} {verb} in this file: python -m moe_core reproduce FILE makes them again."


def _attach(show: Any, manifest: Manifest) -> None:
    """The manifest as a custom XML part, which every reader of the format keeps or ignores."""
    part = Part(PackURI(f"/{embed.PART}"), CONTENT_TYPE.XML, show.part.package, embed.xml(manifest))
    show.part.relate_to(part, RELATIONSHIP_TYPE.CUSTOM_XML)
