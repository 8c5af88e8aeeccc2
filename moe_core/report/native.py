"""Native: a plot as a chart of PowerPoint's own, which can be edited. Its data are the CSV's.

Colour says the kind of model, dash and marker which of them; bars start at zero, or at the middle where
both sides have one. Text a spreadsheet would compute is kept text in the chart's workbook.
"""

from __future__ import annotations

from typing import Any

from pptx.chart.data import CategoryChartData
from pptx.dml.color import RGBColor
from pptx.enum.chart import (
    XL_CHART_TYPE,
    XL_LABEL_POSITION,
    XL_LEGEND_POSITION,
    XL_MARKER_STYLE,
    XL_TICK_LABEL_POSITION,
)
from pptx.enum.dml import MSO_LINE
from pptx.oxml import parse_xml
from pptx.oxml.ns import nsdecls
from pptx.util import Length, Pt

from moe_core.report.palette import GROUPS, LIGHT, ROLES, STACK
from moe_core.report.plots import Plot
from moe_core.report.text import cell, clean

THREE = "[>=99.95]#,##0;[>=9.995]0.0;0.00"  # significant figures, in a spreadsheet's own words
PALE = 0.65  # of the way to white
_KINDS = {
    "stacked": XL_CHART_TYPE.BAR_STACKED,
    "bars": XL_CHART_TYPE.BAR_CLUSTERED,
    "lines": XL_CHART_TYPE.LINE_MARKERS,
    "sides": XL_CHART_TYPE.BAR_CLUSTERED,
}
_DASHES = (
    MSO_LINE.SOLID,
    MSO_LINE.DASH,
    MSO_LINE.ROUND_DOT,
    MSO_LINE.DASH_DOT,
    MSO_LINE.LONG_DASH,
    MSO_LINE.LONG_DASH_DOT,
)
_MARKERS = (
    XL_MARKER_STYLE.CIRCLE,
    XL_MARKER_STYLE.SQUARE,
    XL_MARKER_STYLE.TRIANGLE,
    XL_MARKER_STYLE.DIAMOND,
    XL_MARKER_STYLE.PLUS,
    XL_MARKER_STYLE.X,
)


def add(slide: Any, plot: Plot, place: tuple[Length, Length, Length, Length]) -> None:
    """The chart at (left, top, width, height), with its description for who cannot see it."""
    names, series = rows(plot)
    data = CategoryChartData(number_format="#,##0.###")
    data.categories = [_label(name) for name in names]
    for name, values in series.items():
        data.add_series(_label(name), values)
    frame = slide.shapes.add_chart(_KINDS[plot.kind], *place, data)
    frame.name = clean(plot.name)
    frame._element.nvGraphicFramePr.cNvPr.set("descr", clean(plot.figure.alt))
    _dress(frame.chart, plot)


def rows(plot: Plot) -> tuple[list[str], dict[str, list[float | None]]]:
    """Categories, and the values of each series in their order: what the chart holds."""
    data = plot.figure.data
    order = data.sort_values(plot.category, kind="stable") if plot.kind == "lines" else data
    names = [str(name) for name in dict.fromkeys(order[plot.category])]
    series: dict[str, list[float | None]] = {}
    for name, part in data.groupby(plot.series, sort=False):
        values = zip(part[plot.category], part[plot.value], strict=True)
        known = {str(key): float(value) for key, value in values}
        series[str(name)] = [known.get(category) for category in names]
    if plot.kind == "stacked":
        series = {part: series[part] for part in STACK if part in series}
    return [f"{int(name):,}" for name in names] if plot.kind == "lines" else names, series


def colour(value: str) -> RGBColor:
    """A colour of the palette as PowerPoint takes it."""
    return RGBColor.from_string(value.removeprefix("#"))


def pale(value: str) -> str:
    """The same hue, most of the way to white."""
    parts = [int(value[at : at + 2], 16) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * PALE):02X}" for part in parts)


# -- axes and legend -------------------------------------------------------------------------------


def _dress(chart: Any, plot: Plot) -> None:
    chart.font.size, chart.font.color.rgb = Pt(12), colour(LIGHT.text)
    many = len(chart.plots[0].series) > 1
    chart.has_title, chart.has_legend = False, many and plot.kind != "bars"
    if chart.has_legend:
        chart.legend.position, chart.legend.include_in_layout = XL_LEGEND_POSITION.TOP, False
    _values(chart.value_axis, plot)
    _categories(chart.category_axis, plot)
    if plot.kind != "lines":
        chart.plots[0].gap_width = 60
    if plot.kind == "sides":  # one bar a category
        chart.plots[0].overlap = 100
    for at, series in enumerate(chart.plots[0].series):
        _line(series, plot, at) if plot.kind == "lines" else _bar(series, plot)


def _values(axis: Any, plot: Plot) -> None:
    """From zero; a share ends at 100 %, and scores have two sides."""
    axis.major_gridlines.format.line.color.rgb = colour(LIGHT.grid)
    axis.format.line.fill.background()
    axis.tick_labels.number_format, axis.tick_labels.number_format_is_linked = "#,##0.##", False
    axis.minimum_scale = -1 if plot.kind == "sides" else 0
    if plot.kind == "sides":
        axis.maximum_scale, axis.major_unit = 1, 0.5
        axis.tick_labels.number_format = "0.0"
    elif plot.unit.endswith("(%)"):
        axis.maximum_scale = 100
    else:
        axis.tick_labels.number_format = "#,##0"
    if plot.kind != "lines":
        _below(axis)
    _title(axis, plot.unit)


def _below(axis: Any) -> None:
    """The values under the bars though the first bar is on top; the library has no name for it."""
    for crosses in axis._element.xpath("c:crosses"):
        crosses.set("val", "max")


def _categories(axis: Any, plot: Plot) -> None:
    axis.format.line.color.rgb = colour(LIGHT.role("limit"))
    _title(axis, plot.axis)
    if plot.kind == "lines":
        return
    axis.reverse_order = True  # the first on top
    if plot.kind == "sides":  # its name clear of what points to the left
        axis.tick_label_position = XL_TICK_LABEL_POSITION.LOW


def _title(axis: Any, words: str) -> None:
    axis.has_title = bool(words)
    if words:
        axis.axis_title.text_frame.text = words
        font = axis.axis_title.text_frame.paragraphs[0].runs[0].font
        font.size, font.bold = Pt(12), False


# -- series ----------------------------------------------------------------------------------------


def _line(series: Any, plot: Plot, at: int) -> None:
    """Its colour by kind, and what tells it from others of its kind and in grey: dash and marker."""
    hue = colour(LIGHT.role(plot.models.get(series.name, "limit")))
    series.smooth, series.format.line.width = False, Pt(2.25)
    series.format.line.color.rgb, series.format.line.dash_style = hue, _DASHES[at % len(_DASHES)]
    series.marker.style, series.marker.size = _MARKERS[at % len(_MARKERS)], 9
    series.marker.format.fill.solid()
    series.marker.format.fill.fore_color.rgb = hue
    series.marker.format.line.color.rgb = hue


def _bar(series: Any, plot: Plot) -> None:
    """Its colour, an outline that tells it from its neighbour in grey, and its number where there is room."""
    _fill(series.format, _hue(series.name, plot))
    if plot.kind == "bars":
        _kinds(series, plot)
    labels = series.data_labels
    labels.show_value = plot.kind != "stacked"
    labels.number_format_is_linked = False
    labels.number_format = THREE if plot.kind == "bars" else "+0.00;-0.00;0.00"
    if plot.kind == "bars":
        labels.show_series_name, labels.position = True, XL_LABEL_POSITION.OUTSIDE_END
        _separated(labels)


def _separated(labels: Any) -> None:
    """`total 671`: a name and its number have a space between them, wherever the file is opened."""
    after = labels._element.xpath("c:showBubbleSize")[0]
    after.addnext(parse_xml(f"<c:separator {nsdecls('c')}> </c:separator>"))


def _kinds(series: Any, plot: Plot) -> None:
    """Each bar in the colour of its model's kind, the total pale beside the active."""
    for at, name in enumerate(rows(plot)[0]):
        hue = LIGHT.role(plot.models.get(name, "limit"))
        _fill(series.points[at].format, pale(hue) if series.name == "total" else hue)


def _fill(form: Any, hue: str) -> None:
    form.fill.solid()
    form.fill.fore_color.rgb = colour(hue)
    form.line.color.rgb = colour(LIGHT.background)


def _hue(name: str, plot: Plot) -> str:
    if plot.kind == "stacked":
        return LIGHT.categorical[list(GROUPS).index(name)] if name in GROUPS else LIGHT.role("limit")
    if plot.kind == "sides":
        return LIGHT.role(name if name in ROLES else "limit")
    return LIGHT.role("mixture" if "mixture" in plot.models.values() else "dense")


def _label(name: str) -> str:
    """A label in a chart's workbook: never a formula, never empty."""
    return str(cell(clean(name, 120))) or " "
