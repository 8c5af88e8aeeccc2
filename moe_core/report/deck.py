"""Deck: a review as PowerPoint with native charts, which can be edited. The charts' data are the CSV's.

No template, no network: 16:9, dark text on white, one finding a slide. python-pptx writes what PowerPoint,
Keynote and LibreOffice open. Text a spreadsheet would compute is kept text in the charts' workbooks.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.dml.color import RGBColor
from pptx.enum.chart import XL_CHART_TYPE, XL_LEGEND_POSITION, XL_MARKER_STYLE, XL_TICK_LABEL_POSITION
from pptx.enum.dml import MSO_LINE
from pptx.opc.constants import CONTENT_TYPE, RELATIONSHIP_TYPE
from pptx.opc.package import Part
from pptx.opc.packuri import PackURI
from pptx.util import Inches, Pt

from moe_core.report import embed
from moe_core.report.blocks import Grid, Words
from moe_core.report.manifest import Manifest
from moe_core.report.palette import LIGHT, ROLES
from moe_core.report.plots import SERIES, Plot
from moe_core.report.story import Story
from moe_core.report.tables import GROUPS, STACK
from moe_core.report.text import cell, clean, is_rtl

WIDE, HIGH, EDGE = Inches(13.333), Inches(7.5), Inches(0.6)
ROWS, LINES, LETTERS = 13, 16, 105  # of a table and of text on one slide
_KINDS = {
    "stacked": XL_CHART_TYPE.BAR_STACKED,
    "bars": XL_CHART_TYPE.BAR_CLUSTERED,
    "lines": XL_CHART_TYPE.LINE_MARKERS,
    "sides": XL_CHART_TYPE.BAR_CLUSTERED,
}
_DASHES = (MSO_LINE.SOLID, MSO_LINE.DASH, MSO_LINE.ROUND_DOT, MSO_LINE.DASH_DOT)
_MARKERS = (XL_MARKER_STYLE.CIRCLE, XL_MARKER_STYLE.SQUARE, XL_MARKER_STYLE.TRIANGLE, XL_MARKER_STYLE.DIAMOND)


def deck(story: Story) -> bytes:
    """The story as a PowerPoint file, its manifest inside."""
    show = Presentation()
    show.slide_width, show.slide_height = WIDE, HIGH
    show.core_properties.title, show.core_properties.author = story.title, "MoEScope"
    show.core_properties.comments = "; ".join(story.manifest.lines)[:255]
    _cover(show, story)
    for block in story.blocks:
        if isinstance(block, Plot):
            _chart(show, block, story.manifest)
        elif isinstance(block, Words):
            _words(show, block)
        else:
            _grid(show, block)
    _words(show, Words("Sources", "\n".join((*story.manifest.lines, *_how(story.manifest)))))
    _attach(show, story.manifest)
    sink = io.BytesIO()
    show.save(sink)
    return sink.getvalue()


def rows(plot: Plot) -> tuple[list[str], dict[str, list[float | None]]]:
    """Categories, and the values of each series in their order: what the native chart holds."""
    data = plot.figure.data
    names = [str(name) for name in dict.fromkeys(data[plot.category])]
    series: dict[str, list[float | None]] = {}
    for name, part in data.groupby(plot.series, sort=False):
        known = {
            str(key): float(value) for key, value in zip(part[plot.category], part[plot.value], strict=True)
        }
        series[str(name)] = [known.get(category) for category in names]
    if plot.kind == "stacked":
        series = {part: series[part] for part in STACK if part in series}
    return names, series


def _cover(show: Any, story: Story) -> None:
    slide = _slide(show, story.title, size=34, top=Inches(2.2))
    _text(slide, story.question, Inches(3.6), 20, LIGHT.faded)
    _text(slide, story.lead, Inches(4.5), 20, LIGHT.primary, bold=True)
    _text(slide, story.manifest.lines[-1], Inches(6.7), 12, LIGHT.faded)


def _chart(show: Any, plot: Plot, manifest: Manifest) -> None:
    """One native chart, its provenance under it, its description in the notes."""
    slide = _slide(show, plot.figure.title)
    names, series = rows(plot)
    data = CategoryChartData(number_format="#,##0.###")
    data.categories = [_label(name) for name in names]
    for name, values in series.items():
        data.add_series(_label(name), values)
    frame = slide.shapes.add_chart(_KINDS[plot.kind], EDGE, Inches(1.35), WIDE - 2 * EDGE, Inches(5.3), data)
    frame.name = clean(plot.name)
    frame._element.nvGraphicFramePr.cNvPr.set("descr", clean(plot.figure.alt))
    _dress(frame.chart, plot)
    _text(slide, "; ".join(manifest.lines), Inches(6.85), 10, LIGHT.faded)
    slide.notes_slide.notes_text_frame.text = clean(plot.figure.alt)


def _dress(chart: Any, plot: Plot) -> None:
    chart.font.size, chart.font.color.rgb = Pt(12), _colour(LIGHT.text)
    chart.has_title, chart.has_legend = False, True
    chart.legend.position, chart.legend.include_in_layout = XL_LEGEND_POSITION.TOP, False
    category, value = chart.category_axis, chart.value_axis
    value.major_gridlines.format.line.color.rgb = _colour(LIGHT.grid)
    value.format.line.fill.background()
    for axis, words in ((value, plot.unit), (category, plot.axis)):
        axis.has_title = True
        axis.axis_title.text_frame.text = words
        axis.axis_title.text_frame.paragraphs[0].runs[0].font.size = Pt(12)
    if plot.kind != "lines":
        category.reverse_order = True
        chart.plots[0].gap_width = 60
    if plot.kind == "sides":  # one bar a category, its name clear of what points to the left
        chart.plots[0].overlap = 100
        category.tick_label_position = XL_TICK_LABEL_POSITION.LOW
        value.minimum_scale, value.maximum_scale = -1, 1
    for at, series in enumerate(chart.plots[0].series):
        _series(series, plot, at)


def _series(series: Any, plot: Plot, at: int) -> None:
    """Its colour, and what tells it from the others in grey: dash and marker, or an outline."""
    if plot.kind == "lines":
        colour = _colour(LIGHT.role(SERIES[at % len(SERIES)]))
        series.smooth, series.format.line.width = False, Pt(2.25)
        series.format.line.color.rgb, series.format.line.dash_style = colour, _DASHES[at % 4]
        series.marker.style, series.marker.size = _MARKERS[at % 4], 8
        series.marker.format.fill.solid()
        series.marker.format.fill.fore_color.rgb = colour
        return
    series.format.fill.solid()
    series.format.fill.fore_color.rgb = _colour(_bar(series.name, plot, at))
    series.format.line.color.rgb = _colour(LIGHT.background)
    labels = series.data_labels
    labels.show_value = plot.kind in ("bars", "sides")
    labels.number_format, labels.number_format_is_linked = "#,##0.##", False


def _bar(name: str, plot: Plot, at: int) -> str:
    if plot.kind == "stacked":
        return LIGHT.categorical[list(GROUPS).index(name)] if name in GROUPS else LIGHT.role("limit")
    if plot.kind == "sides":
        return LIGHT.role(name if name in ROLES else "limit")
    return (LIGHT.grid, LIGHT.role("teal"))[at % 2]


def _words(show: Any, block: Words) -> None:
    """Text, on as many slides as it takes."""
    lines = [
        piece
        for paragraph in clean(block.text).split("\n")
        for piece in (textwrap.wrap(paragraph, LETTERS) or [""])
    ]
    for part, first in _pages(lines, LINES):
        slide = _slide(show, block.heading if first else f"{block.heading} (continued)")
        _text(slide, "\n".join(part), Inches(1.4), 16, LIGHT.text)


def _grid(show: Any, block: Grid) -> None:
    """A native table, on as many slides as it takes; rows that differ have a tint."""
    numbered = list(enumerate(block.rows))
    for part, first in _pages(numbered, ROWS):
        slide = _slide(show, block.heading if first else f"{block.heading} (continued)")
        top = 1 if any(block.head) else 0
        size = (
            len(part) + top,
            len(block.head),
            EDGE,
            Inches(1.35),
            WIDE - 2 * EDGE,
            Inches(0.4) * len(part),
        )
        made = slide.shapes.add_table(*size).table
        made.first_row, made.horz_banding = bool(top), False
        for at, words in enumerate(block.head if top else ()):
            _cell(made.cell(0, at), words, bold=True, fill=LIGHT.panel)
        for row, (number, words_of_row) in enumerate(part):
            marked = number in block.marked
            for at, words in enumerate(words_of_row):
                _cell(
                    made.cell(row + top, at),
                    words,
                    bold=marked,
                    fill=LIGHT.panel if marked else LIGHT.background,
                )


def _cell(box: Any, words: str, *, bold: bool, fill: str) -> None:
    box.fill.solid()
    box.fill.fore_color.rgb = _colour(fill)
    box.text_frame.text = clean(words, 400)
    for paragraph in box.text_frame.paragraphs:
        _style(paragraph, 11, LIGHT.text, bold)


def _slide(show: Any, title: str, size: int = 24, top: Any = EDGE) -> Any:
    """A slide with a title placeholder, so that outlines and screen readers find it."""
    slide = show.slides.add_slide(show.slide_layouts[5])
    box = slide.shapes.title
    box.left, box.top, box.width, box.height = EDGE, top, WIDE - 2 * EDGE, Inches(0.8)
    box.text_frame.word_wrap = True
    box.text_frame.text = clean(title, 240)
    for paragraph in box.text_frame.paragraphs:
        _style(paragraph, size if len(title) < 100 else size - 6, LIGHT.text, True)
    return slide


def _text(slide: Any, words: str, top: Any, size: int, colour: str, bold: bool = False) -> None:
    if not words:
        return
    box = slide.shapes.add_textbox(EDGE, top, WIDE - 2 * EDGE, Inches(0.5))
    box.text_frame.word_wrap = True
    box.text_frame.text = clean(words)
    for paragraph in box.text_frame.paragraphs:
        _style(paragraph, size, colour, bold)


def _style(paragraph: Any, size: int, colour: str, bold: bool) -> None:
    properties = paragraph._p.get_or_add_pPr()
    rtl = is_rtl(paragraph.text)
    properties.set("algn", "r" if rtl else "l")
    properties.set("rtl", "1" if rtl else "0")
    for run in paragraph.runs:
        run.font.size, run.font.bold, run.font.color.rgb = Pt(size), bold, _colour(colour)


def _pages(items: Sequence[Any], most: int) -> Iterator[tuple[Sequence[Any], bool]]:
    for start in range(0, max(len(items), 1), most):
        yield items[start : start + most], start == 0


def _how(manifest: Manifest) -> tuple[str, ...]:
    count = len(manifest.numbers)
    return (f"{count} numbers are in this file: python -m moe_core reproduce FILE makes them again.",)


def _attach(show: Any, manifest: Manifest) -> None:
    """The manifest as a custom XML part, which every reader of the format keeps or ignores."""
    part = Part(PackURI(f"/{embed.PART}"), CONTENT_TYPE.XML, show.part.package, embed.xml(manifest))
    show.part.relate_to(part, RELATIONSHIP_TYPE.CUSTOM_XML)


def _label(name: str) -> str:
    """A label in a chart's workbook: never a formula, never empty."""
    return str(cell(clean(name, 120))) or " "


def _colour(value: str) -> RGBColor:
    return RGBColor.from_string(value.removeprefix("#"))
