"""A deck can be shown as it is: inside its slides, the answer first, house colours, notes in words."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pptx import Presentation
from pptx.enum.chart import XL_CHART_TYPE

from moe_core.report import deck, letters, side, story
from moe_core.report.answer import sentence
from moe_core.report.plots import Plot
from moe_core.report.story import Story
from moe_core.review import Review
from tests.report.examples import anything
from tests.report.reviewed import kept, review, saved, verdict

BLUE, VERMILION = "0072B2", "D55E00"
QUERIES = (
    "architecture=Mixtral-8x7B&hardware=A100 80GB&precision=int8&batch=16",
    "architecture=Llama-2-70B&hardware=A100 80GB&precision=int8&batch=16",
    "architecture=DeepSeek-V3&hardware=H200&precision=fp8&batch=64",
    "architecture=Qwen3-30B-A3B&hardware=H100&batch=64",
)


def one() -> Review:
    """One scenario, and a verdict on it against a model that is none."""
    found = verdict("DeepSeek-V3", "Llama-3.1-405B", hardware="H200", precision="fp8", preset="retrieval")
    return compared(QUERIES[2:3], "DeepSeek-V3 for retrieval?", verdict=found.model_dump(mode="json"))


def four() -> Review:
    """A comparison as the Compare page puts it into a review: the answer and its link are the note."""
    return compared(QUERIES, "Four ways to serve the chat")


def compared(queries: tuple[str, ...], title: str, **values: Any) -> Review:
    from urllib.parse import urlencode

    sides = [side.read(query)[0] for query in queries]
    link = f"/compare?{urlencode(side.link(sides))}"
    assert "%2" in link
    note = "Measured beside an Intel\\(R\\) Xeon\\(R\\)"
    made = Review.parse({"title": title, "notes": f"{note}.\n\nThe comparison: {link}", **values})
    for found in sides:
        made = made.with_case(found.kept(note))
    return made


@pytest.fixture(scope="module", params=[one, four, review], ids=["one", "four", "notes"])
def told(request: pytest.FixtureRequest) -> Story:
    return story.tell(saved(request.param()))


@pytest.fixture(scope="module")
def show(told: Story) -> Any:
    return opened(told)


def opened(told: Story) -> Any:
    return Presentation(io.BytesIO(deck.deck(told)))


def charts(show: Any) -> list[Any]:
    return [shape.chart for slide in show.slides for shape in slide.shapes if shape.has_chart]


def plots(told: Story) -> list[Plot]:
    return [block for block in told.blocks if isinstance(block, Plot)]


def texts(show: Any) -> Iterator[str]:
    """Everything that a slide and its speaker's notes say."""
    for slide in show.slides:
        yield slide.notes_slide.notes_text_frame.text
        for shape in slide.shapes:
            if shape.has_text_frame:
                yield shape.text_frame.text
            if shape.has_table:
                yield from (cell.text for row in shape.table.rows for cell in row.cells)


def inside(show: Any) -> None:
    """Every shape is on its slide, every text in its shape, as high as the widest usual font makes it."""
    for slide in show.slides:
        for shape in slide.shapes:
            high = sum(row.height for row in shape.table.rows) if shape.has_table else shape.height
            assert shape.left >= 0 <= shape.top
            assert shape.left + shape.width <= show.slide_width
            assert shape.top + high <= show.slide_height
            if shape.has_table:
                assert sum(column.width for column in shape.table.columns) <= show.slide_width - shape.left
                rows(shape.table)
            elif shape.has_text_frame and shape.text_frame.text:
                assert tall(shape.text_frame, shape.width) <= shape.height.pt + 0.5, shape.text_frame.text


def rows(table: Any) -> None:
    for row in table.rows:
        for cell, column in zip(row.cells, table.columns, strict=True):
            assert tall(cell.text_frame, column.width) <= row.height.pt + 0.5, cell.text_frame.text


def tall(frame: Any, wide: Any) -> float:
    """Points that the text of a shape takes, its margins counted."""
    used = deck.PAD[1]
    for paragraph in frame.paragraphs:
        size = next((run.font.size.pt for run in paragraph.runs), deck.SMALL)
        bold = any(run.font.bold for run in paragraph.runs)
        used += letters.height(paragraph.text, size, wide.pt - deck.PAD[0], bold)
        used += paragraph.space_after.pt if paragraph.space_after is not None else 0
    return used


def test_everything_is_inside_its_slide(show: Any) -> None:
    inside(show)


@given(anything, anything, anything)
@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_text_leaves_its_slide(title: str, note: str, question: str) -> None:
    values = {
        "title": f"x{title * 9}"[:150],
        "question": f"y{question * 9}"[:900],
        "notes": (note * 20)[:4_000],
    }
    inside(opened(story.tell(saved(review(**values)))))


def test_value_axes_of_bars_start_at_zero_or_in_the_middle(show: Any, told: Story) -> None:
    for chart, plot in zip(charts(show), plots(told), strict=True):
        axis = chart.value_axis
        if plot.kind == "sides":
            assert (axis.minimum_scale, axis.maximum_scale) == (-1, 1)
        else:
            assert axis.minimum_scale == 0


def test_a_mixture_is_vermilion_and_a_dense_model_blue(show: Any, told: Story) -> None:
    hues = {"mixture": VERMILION, "dense": BLUE}
    for chart, plot in zip(charts(show), plots(told), strict=True):
        for series in chart.plots[0].series:
            if plot.kind == "lines":
                assert str(series.format.line.color.rgb) == hues[plot.models[series.name]]
                assert str(series.marker.format.fill.fore_color.rgb) == hues[plot.models[series.name]]
            if plot.kind == "sides" and series.name in hues:
                assert str(series.format.fill.fore_color.rgb) == hues[series.name]
            if plot.kind == "bars" and series.name == "active":
                drawn = [str(point.format.fill.fore_color.rgb) for point in
                         (series.points[at] for at in range(len(plot.models)))]  # fmt: skip
                assert drawn == [hues[kind] for kind in plot.models.values()]
            if plot.kind == "stacked" and series.name in ("experts", "dense FFN"):
                kind = "mixture" if series.name == "experts" else "dense"
                assert str(series.format.fill.fore_color.rgb) == hues[kind]


def test_every_slide_has_its_number_as_a_field_that_follows_it(show: Any) -> None:
    for at, slide in enumerate(show.slides):
        fields = slide._element.xpath(".//a:fld[@type='slidenum']/a:t")
        assert [field.text for field in fields] == [str(at + 1)]


def test_the_first_slide_has_the_answer(show: Any, told: Story) -> None:
    shapes = [shape.text_frame.text for shape in show.slides[0].shapes if shape.has_text_frame]
    assert told.answer
    assert told.answer in shapes
    if not told.lead:
        assert told.answer == sentence(story.resolve(saved(four())), named=True)
        assert told.answer.startswith("Qwen3-30B-A3B writes a token ")


def test_what_is_said_is_words(show: Any) -> None:
    for said in texts(show):
        assert "%2" not in said
        assert "%3" not in said
        assert "\\(" not in said


def test_every_slide_has_notes_and_those_of_a_chart_say_how_it_is_read(show: Any, told: Story) -> None:
    notes = [slide.notes_slide.notes_text_frame.text for slide in show.slides]
    assert all(notes)
    for plot in plots(told):
        assert plot.reading
        assert any(plot.figure.title in note and plot.reading in note for note in notes)


def test_both_candidates_are_in_a_review_of_one_scenario() -> None:
    told = story.tell(saved(one()))
    assert list(told.manifest.scenarios) == ["DeepSeek-V3", "Llama-3.1-405B"]
    show = opened(told)
    for chart, plot in zip(charts(show), plots(told), strict=True):
        if plot.kind in ("stacked", "bars"):
            assert list(chart.plots[0].categories) == ["DeepSeek-V3", "Llama-3.1-405B"]
    decode = next(chart for chart in charts(show) if chart.chart_type == XL_CHART_TYPE.LINE_MARKERS)
    assert [series.name for series in decode.plots[0].series] == ["DeepSeek-V3", "Llama-3.1-405B"]


def test_numbers_have_three_figures_and_nouns_their_number() -> None:
    one_of_each = kept("Only", "Qwen3-30B-A3B").model_dump()
    one_of_each["resolved"] |= {"batch": 1}
    said = "\n".join(texts(opened(story.tell(saved(review(scenarios=(one_of_each,)))))))
    assert "1 sequence\n" in said
    assert " 1 sequences" not in said
    rate = next(words for words in said.split("\n") if words.endswith(" tokens/s"))
    assert len(rate.removesuffix(" tokens/s").replace(",", "").replace(".", "").strip("0")) <= 3
