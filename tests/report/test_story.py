"""A review told as deck, HTML and PDF: it opens, says what was saved; its charts hold the CSV's numbers."""

from __future__ import annotations

import csv
import html as html_words
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pptx import Presentation
from pptx.enum.chart import XL_CHART_TYPE
from pypdf import PdfReader

from moe_core.errors import ConfigError
from moe_core.report import deck, embed, formats, html, letters, pdf, story
from moe_core.report.manifest import Manifest
from moe_core.report.plots import Plot
from moe_core.report.story import Story
from moe_core.report.text import slug
from moe_core.review import Case, Decision, Review
from tests.report.examples import ATTACKS, anything
from tests.report.reviewed import kept, review, saved, verdict

pytestmark = pytest.mark.usefixtures("drawn_once")


@pytest.fixture(scope="module", params=["somebody's own", "decided here"])
def told(request: pytest.FixtureRequest) -> Story:
    """A review with a verdict that nothing here made, and one with a decision."""
    own = request.param == "somebody's own"
    return story.tell(saved() if own else saved(review(verdict=verdict().model_dump(mode="json"))))


@pytest.fixture(scope="module")
def show(told: Story) -> Any:
    return Presentation(io.BytesIO(deck.deck(told)))


def charts(show: Any) -> Iterator[Any]:
    return (shape.chart for slide in show.slides for shape in slide.shapes if shape.has_chart)


def workbook(chart: Any) -> tuple[list[float], list[str]]:
    """Numbers and formulas in the sheet behind a chart. Text stands elsewhere and is pointed to."""
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(io.BytesIO(chart.part.chart_workbook.xlsx_part.blob)) as file:
        cells = list(ElementTree.fromstring(file.read("xl/worksheets/sheet1.xml")).iter(f"{space}c"))
    plain = [cell.findtext(f"{space}v") for cell in cells if cell.get("t") in (None, "n")]
    numbers = [float(value) for value in plain if value]
    return numbers, [cell.get("r", "") for cell in cells if cell.find(f"{space}f") is not None]


def plots(told: Story) -> list[Plot]:
    return [block for block in told.blocks if isinstance(block, Plot)]


def test_a_chart_of_the_deck_holds_the_rows_of_the_csv(told: Story, show: Any) -> None:
    found = list(charts(show))
    assert len(found) == len(plots(told)) == 5 + len(told.manifest.decisions)
    for chart, plot in zip(found, plots(told), strict=True):
        rows = list(csv.DictReader(io.StringIO(formats.csv(plot.figure).decode("utf-8-sig"))))
        expected = {(row[plot.series], row[plot.category]): float(row[plot.value]) for row in rows}
        drawn = chart.plots[0]
        held = {
            (series.name, str(category).replace(",", "") if plot.kind == "lines" else str(category)): value
            for series in drawn.series
            for category, value in zip(drawn.categories, series.values, strict=True)
            if value is not None
        }
        assert held == expected


def test_the_workbook_behind_a_chart_has_the_same_numbers_and_no_formula(told: Story, show: Any) -> None:
    """PowerPoint edits the workbook, not the cache."""
    for chart, plot in zip(charts(show), plots(told), strict=True):
        numbers, formulas = workbook(chart)
        values = sorted(float(value) for value in plot.figure.data[plot.value])
        assert sorted(numbers) == pytest.approx(values)
        assert not formulas


def test_the_deck_says_what_was_saved(told: Story, show: Any) -> None:
    words = "\n".join(
        shape.text_frame.text for slide in show.slides for shape in slide.shapes if shape.has_text_frame
    )
    for said in (told.title, told.question, told.lead, "modelled", "שלום", told.manifest.date):
        assert said in words
    tables = [shape.table for slide in show.slides for shape in slide.shapes if shape.has_table]
    cells = {cell.text for table in tables for row in table.rows for cell in row.cells}
    assert {"Take Qwen3-30B-A3B", "46.7 B", "Devices needed"} <= cells
    assert all(slide.shapes.title.text_frame.text for slide in show.slides)


def test_lines_differ_in_more_than_colour(show: Any) -> None:
    lines = [chart for chart in charts(show) if chart.chart_type == XL_CHART_TYPE.LINE_MARKERS]
    assert len(lines) == 3
    for chart in lines:
        series = chart.plots[0].series
        assert len({one.marker.style for one in series}) == len(series)
        assert len({one.format.line.dash_style for one in series}) == len(series)


@pytest.mark.parametrize("write", [deck.deck, html.html, pdf.pdf])
def test_the_manifest_comes_back(told: Story, write: Any, tmp_path: Path) -> None:
    path = tmp_path / "review"
    path.write_bytes(write(told))
    made = embed.read(path)
    assert made == told.manifest
    assert len(made.scenarios) == 4 + len(told.manifest.decisions)  # the rival, which no scenario is
    assert made.review is not None
    assert made.review["version"] == 2
    assert set(made.rows) == {plot.name for plot in plots(told)}


def test_the_pdf_has_pages_with_text_that_can_be_found(told: Story) -> None:
    found = PdfReader(io.BytesIO(pdf.pdf(told)))
    words = "\n".join(page.extract_text() for page in found.pages)
    assert len(found.pages) >= 3
    for said in ("side by side", "Take Qwen3-30B-A3B", "memory (GB)", f"1 / {len(found.pages)}"):
        assert said in words
    fonts = {str(font.get_object()["/BaseFont"]) for page in found.pages
             for font in page["/Resources"].get("/Font", {}).values()}  # fmt: skip
    assert any("DejaVuSans" in name for name in fonts)


def test_no_line_of_the_pdf_is_wider_than_the_page() -> None:
    for text in (*ATTACKS, "word " * 400, "x" * 900, "שלום " * 200):
        for bold in (False, True):
            for line in letters.wrap(text, 10, 300, bold):
                assert letters.width(line, 10, bold) <= 300 or len(line) == 1


def test_the_html_has_no_script_but_the_manifest(told: Story) -> None:
    text = html.html(told).decode()
    assert re.findall(r"<script[^>]*>", text) == ['<script type="application/json" id="moescope-manifest">']
    assert "default-src 'none'" in text
    assert text.count("<figure>") == 5 + len(told.manifest.decisions)


def test_a_verdict_is_told_in_every_file() -> None:
    found = verdict()
    told = story.tell(saved(review(verdict=found.model_dump(mode="json"))))
    assert told.lead == found.sentence
    drawn = plots(told)[0].figure.data
    assert drawn["score"].tolist() == [one.score for one in found.weighed]
    show = Presentation(io.BytesIO(deck.deck(told)))
    shapes = [shape for slide in show.slides for shape in slide.shapes]
    in_deck = [shape.text_frame.text for shape in shapes if shape.has_text_frame]
    in_deck += [cell.text for s in shapes if s.has_table for row in s.table.rows for cell in row.cells]
    in_pdf = "".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf.pdf(told))).pages)
    in_html = html_words.unescape(html.html(told).decode())
    plain = [re.sub(r"\s+", "", text) for text in ("".join(in_deck), in_html, in_pdf)]
    said = [found.sentence, found.pair, found.against[0].sentence, found.factors[0].evidence]
    for text in (*said, *(turn.sentence for turn in found.turns)):
        assert all(re.sub(r"\s+", "", text) in one for one in plain), text


def test_bars_of_one_factor_lie_on_one_another_and_show_their_side(told: Story) -> None:
    show = Presentation(io.BytesIO(deck.deck(told)))
    for chart, plot in zip(charts(show), plots(told), strict=True):
        if plot.kind == "sides":
            assert chart.plots[0].overlap == 100
            colours = {one.name: str(one.format.fill.fore_color.rgb) for one in chart.plots[0].series}
            assert colours.items() <= {"mixture": "D55E00", "dense": "0072B2", "even": "767676"}.items()


@given(anything, anything)
@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_name_in_a_verdict_breaks_a_report_or_runs_in_it(name: str, evidence: str) -> None:
    values = verdict().model_dump(mode="json")
    values |= {"name": name, "pair": evidence, "reason": name, "sentence": evidence}
    values["factors"][1] |= {"title": name, "evidence": evidence}
    values["turns"][0] |= {"title": name, "sentence": evidence}
    values["against"][0] |= {"title": name, "sentence": evidence}
    found = review(verdict=values)
    told = story.tell(saved(found))
    assert len(told.manifest.decisions) == 1
    assert len(re.findall(r"<script", html.html(told).decode())) == 1
    for chart in charts(Presentation(io.BytesIO(deck.deck(told)))):
        assert not workbook(chart)[1]
    assert len(PdfReader(io.BytesIO(pdf.pdf(told))).pages) > 1
    assert Manifest.parse_json(told.manifest.to_json()) == told.manifest


def test_a_review_with_nothing_in_it_is_told_too() -> None:
    told = story.tell(saved(Review.parse({"title": "Empty"}), log=()))
    assert told.blocks == ()
    assert len(Presentation(io.BytesIO(deck.deck(told))).slides) == 2
    assert len(PdfReader(io.BytesIO(pdf.pdf(told))).pages) == 1
    assert b"Empty" in html.html(told)


def test_one_scenario_is_no_comparison() -> None:
    told = story.tell(saved(review(scenarios=(kept("Only"),))))
    assert "does not fit one H100" in plots(told)[0].figure.title
    grid = next(block for block in told.blocks if isinstance(block, story.Grid))
    assert not grid.marked


def test_a_scenario_that_cannot_be_read_is_one_sentence() -> None:
    broken = Case.parse({"name": "B", "parameters": {}, "resolved": {"label": "x"}})
    with pytest.raises(ConfigError, match=r"scenario \(B\): hardware"):
        story.tell(saved(review(scenarios=(broken,))))


@given(anything, anything, anything, anything)
@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_text_breaks_a_report_or_runs_in_it(name: str, title: str, notes: str, verdict: str) -> None:
    told = story.tell(saved(hostile(name, title, notes, verdict), (decision(name, title, notes),)))
    text = html.html(told).decode()
    assert len(re.findall(r"<script", text)) == 1
    assert not re.findall(r"<(?:iframe|object|embed|form|a|svg|link (?!rel=.icon))", text)
    assert all(
        source.startswith("data:image/svg+xml;base64,") for source in re.findall(r'<img src="([^"]*)', text)
    )
    data = deck.deck(told)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert not [part for part in file.namelist() if ".." in part or part.startswith("/")]
        for part in file.namelist():
            if part.endswith((".xml", ".rels")):
                ElementTree.fromstring(file.read(part))
    for chart in charts(Presentation(io.BytesIO(data))):
        assert not workbook(chart)[1]
    found = PdfReader(io.BytesIO(pdf.pdf(told)))
    assert len(found.pages) >= 1
    assert Manifest.parse_json(found.attachments["moescope-manifest.json"][0]) == told.manifest
    assert not [page for page in found.pages if page.get("/Annots")]


@given(anything)
def test_a_file_name_is_never_a_path(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,47}", slug(text))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | anything,
        lambda c: st.lists(c) | st.dictionaries(anything, c),
    )
)
def test_a_verdict_is_kept_as_json_or_refused_in_a_sentence(value: Any) -> None:
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        with pytest.raises(ConfigError, match="verdict"):
            Review.parse({"title": "x", "verdict": {"value": value}})
        return
    found = Review.parse({"title": "x", "verdict": {"value": json.loads(text)}})
    assert Review.parse_json(found.model_dump_json()) == found
    json.dumps(found.verdict, allow_nan=False, ensure_ascii=False).encode()


def hostile(name: str, title: str, notes: str, verdict: str) -> Review:
    """A review of texts nobody checked; where a text cannot be a name, a plain one takes its place."""
    cases = []
    for at, text in enumerate((name, title)):
        try:
            one = kept(text[:70])
        except ConfigError:
            one = kept(f"plain {at}")
        cases.append(one if not cases or one.name != cases[0].name else kept(f"other {at}"))
    values = {"question": notes[:500], "notes": notes, "verdict": {"sentence": verdict, verdict: [verdict]}}
    try:
        return review(title=title[:150], scenarios=tuple(cases), **values)
    except ConfigError:
        return review(title="plain", scenarios=tuple(cases), **values)


def decision(who: str, what: str, why: str) -> Decision:
    try:
        return Decision.parse({"who": who[:60], "what": what[:300], "why": why})
    except ConfigError:
        return Decision(who="plain", what="plain", why="plain")
