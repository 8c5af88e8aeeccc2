"""The Reviews page: begin, add, note, decide, export, delete; hostile text is only text."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from app import data
from app.reviews import view
from app.words import escape
from moe_core.report import decided, story
from moe_core.review import Case, Decision, Review
from moe_core.store import reviews, scenarios
from tests.pages.conftest import open_page, words
from tests.report.examples import case
from tests.report.reviewed import kept, review, verdict

HOSTILE = "=cmd|' /C calc'!A0 <script>alert(1)</script> [x](javascript:alert(1)) http://example.com"


def add(app: AppTest, found: Review | None = None) -> str:
    """A saved review; the app has run once."""
    app.run()
    return reviews.create(data.door().store, found or review(verdict=None), "Ada")


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return app.run()


def field(app: AppTest, label: str, value: str, last: bool = True) -> None:
    """Fill the last field of that name: forms come after one another."""
    fields = [one for one in (*app.text_input, *app.text_area) if one.label == label]
    fields[-1 if last else 0].set_value(value)


def test_without_a_review_the_page_says_how_to_begin(app: AppTest) -> None:
    open_page(app, "reviews")
    assert app.title[0].value.startswith("No review is saved yet")
    assert any(button.label == "Save the review" for button in app.button)


def test_a_review_is_begun_with_the_scenario_in_the_sidebar(app: AppTest) -> None:
    open_page(app, "reviews")
    field(app, "Title", "Chat?")
    press(app, "Save the review")
    assert not app.exception
    found = reviews.listing(data.door().store)
    assert found["title"].tolist() == ["Chat?"]
    saved = reviews.read(data.door().store, found["review_id"].iloc[0])
    assert saved.review.scenarios[0].parameters["experts"] == "128"
    verdict = decided.read(saved.review.verdict)
    assert verdict is not None
    assert app.title[0].value.replace("\\", "") == verdict.sentence


def test_a_kept_verdict_is_read_in_words_and_as_a_chart(app: AppTest) -> None:
    found = verdict()
    add(app, review(verdict=found.model_dump(mode="json")))
    open_page(app, "reviews")
    app.session_state["review_tab"] = "Verdict"
    app.run()
    assert not app.exception
    said = words(app).replace("\\", "")
    for part in (found.pair, found.reason, found.against[0].sentence, found.answer.capitalize()):
        assert part in said
    drawn = app.session_state["page_drawn"]
    assert "review-factors" in drawn[2]
    assert drawn[3]() == found
    factors, flips = (frame.value for frame in app.table)
    assert factors["factor"].tolist() == [escape(one.title) for one in found.weighed]
    assert flips["flip"].tolist() == [escape(one.sentence) for one in found.turns]


def test_a_review_without_a_title_is_one_sentence(app: AppTest) -> None:
    open_page(app, "reviews")
    press(app, "Save the review")
    assert "title" in app.error[0].value
    assert reviews.listing(data.door().store).empty


def test_an_open_review_answers_first_and_has_a_badge_for_every_number(app: AppTest) -> None:
    add(app, review())
    open_page(app, "reviews")
    assert app.title[0].value == "Mixture\\: Qwen3\\-30B\\-A3B fits one device"
    assert len(app.metric) == 4
    assert all("full size" in one.label for one in app.metric)
    assert app.get("vega_lite_chart")
    assert words(app).count("-badge[") >= 6


@pytest.mark.parametrize(
    "tab",
    ["Scenarios", "Verdict", "Charts", "Notes", "Decisions", "Export", "Versions", "Saved scenarios"],
)
def test_every_tab(app: AppTest, tab: str) -> None:
    add(app)
    app.session_state["review_tab"] = tab
    open_page(app, "reviews")
    app.session_state["review_tab"] = tab
    app.run()
    assert not app.exception
    assert not app.error


def test_the_sidebars_scenario_is_added_as_a_new_version(app: AppTest) -> None:
    identity = add(app, review(scenarios=(kept("One"),)))
    open_page(app, "reviews")
    field(app, "Name", "Two")
    press(app, "Add")
    assert not app.exception
    saved = reviews.read(data.door().store, identity)
    assert [case.name for case in saved.review.scenarios] == ["One", "Two"]
    assert saved.version == 2
    press(app, "Remove")
    assert [case.name for case in reviews.read(data.door().store, identity).review.scenarios] == ["Two"]


TABS = ("Scenarios", "Verdict", "Charts", "Notes", "Decisions", "Export", "Versions", "Saved scenarios")


def test_the_only_scenario_is_removed_and_another_added(app: AppTest) -> None:
    """Every tab of a review with nothing in it: no scenario, no notes, no decision, no verdict."""
    identity = add(app, Review.parse({"title": "Bare", "scenarios": (kept("Only"),)}))
    open_page(app, "reviews")
    press(app, "Remove")
    assert reviews.read(data.door().store, identity).review.scenarios == ()
    for tab in TABS:
        app.session_state["review_tab"] = tab
        app.run()
        assert not app.exception, (tab, app.exception)
        assert not app.error, tab
    assert app.title[0].value == "Not decided yet\\: there is no scenario to compare"
    assert not app.metric
    app.session_state["review_tab"] = "Scenarios"
    app.run()
    field(app, "Name", "Two")
    press(app, "Add")
    assert len(app.metric) == 2  # the sidebar's verdict came along, so the rival is there too
    assert not app.exception


def nowhere() -> Case:
    """A scenario that fits no number of devices: it has no memory, no time and no chart of either."""
    resolved = case("DeepSeek-V3").model_dump(mode="json") | {
        "context": 1_000_000,
        "capacity": 1_000_000_000,
    }
    return Case.parse({"name": "Nowhere", "parameters": {}, "resolved": resolved})


def test_a_review_of_what_fits_nowhere_has_every_tab_and_every_file(app: AppTest) -> None:
    identity = add(app, Review.parse({"title": "Huge", "scenarios": (nowhere(),)}))
    open_page(app, "reviews")
    for tab in TABS:
        app.session_state["review_tab"] = tab
        app.run()
        assert not app.exception, (tab, app.exception)
        assert not app.error, tab
    told = story.tell(reviews.read(data.door().store, identity))
    for _, write in view.WRITERS.values():
        assert len(write(told)) > 1_000


def test_a_full_review_says_so(app: AppTest) -> None:
    add(app)
    open_page(app, "reviews")
    assert "at most 4 scenarios" in words(app)
    assert not [button for button in app.button if button.label == "Add"]


def test_a_decision_is_logged_and_becomes_the_answer(app: AppTest) -> None:
    identity = add(app)
    open_page(app, "reviews")
    app.session_state["review_tab"] = "Decisions"
    app.run()
    field(app, "Who", "Ada")
    field(app, "What was decided", HOSTILE)
    press(app, "Log it")
    assert not app.exception
    assert reviews.read(data.door().store, identity).log[0].decision.what == HOSTILE
    shown = app.title[0].value
    assert "\\<script\\>" in shown
    assert "](" not in shown
    assert "http\\:\u2060" in shown


def test_an_older_version_is_read_and_not_changed(app: AppTest) -> None:
    identity = add(app, review(verdict=None, notes="first"))
    reviews.save(data.door().store, identity, review(verdict=None, notes="second"), base=1)
    open_page(app, "reviews")
    app.session_state["review_version"] = 1
    app.session_state["review_tab"] = "Notes"
    app.run()
    notes = next(area for area in app.text_area if area.label == "Notes")
    assert notes.value == "first"
    press(app, "Save as a new version")
    assert "version 2 was saved meanwhile" in app.error[0].value
    assert reviews.read(data.door().store, identity).version == 2


def test_deleting_asks_first(app: AppTest) -> None:
    identity = add(app)
    open_page(app, "reviews")
    app.session_state["review_tab"] = "Versions"
    app.run()
    press(app, "Delete this review")
    assert not reviews.listing(data.door().store).empty
    press(app, "Delete it")
    assert identity not in reviews.listing(data.door().store)["review_id"].tolist()
    assert app.title[0].value.startswith("No review is saved yet")


def test_a_scenario_is_saved_and_opened(app: AppTest) -> None:
    open_page(app, "reviews")
    field(app, "Name", "Now", last=True)
    press(app, "Save the scenario")
    assert not app.exception
    table = scenarios.listing(data.door().store)
    assert table["name"].tolist() == ["Now"]
    case = scenarios.read(data.door().store, table["scenario_id"].iloc[0]).case
    other = case.model_copy(update={"parameters": {**case.parameters, "batch": "2", "experts": "9"}})
    scenarios.save(data.door().store, other, "", table["scenario_id"].iloc[0], base=1)
    app.run()
    press(app, "Open")
    assert app.session_state["batch"] == 2
    assert app.session_state["experts"] == 128  # nine is no choice


def test_names_and_notes_are_only_text(app: AppTest) -> None:
    found = review(
        title=HOSTILE, question=HOSTILE, notes=HOSTILE, scenarios=(kept(HOSTILE[:60]),), verdict=None
    )
    identity = add(app, found)
    reviews.log(data.door().store, identity, Decision(who="x", what="y"))
    open_page(app, "reviews")
    for text in [str(part.value) for part in (*app.markdown, *app.title, *app.caption)]:
        assert "<script>" not in text
        assert "](javascript" not in text
    assert not app.error
