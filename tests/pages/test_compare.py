"""The Compare page: empty, from a link, forms, saving, reviews; hostile text is only text."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import urlencode

import pytest
from streamlit.testing.v1 import AppTest

from app import data
from moe_core.report import side
from moe_core.store import reviews, scenarios
from tests.pages.conftest import open_page, words
from tests.report.reviewed import review

HOSTILE = "=cmd|' /C calc'!A0 <script>alert(1)</script> [x](javascript:alert(1)) http://example.com"
QUERIES = (
    "architecture=Mixtral-8x7B&hardware=A100 80GB&batch=1",
    "architecture=Llama-2-70B&hardware=H100&batch=1",
    "architecture=DeepSeek-V3&hardware=RTX 4090&context=1000000&batch=4096",
)


def by_link(app: AppTest, *queries: str) -> AppTest:
    for letter, query in zip("abcd", queries, strict=False):
        app.query_params[letter] = query
    return open_page(app, "compare")


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return app.run()


def fill(app: AppTest, form: str, field: str, value: object) -> None:
    """A field of a form by the ends of its key; the middle changes with what is shown."""
    kinds = (*app.text_input, *app.selectbox, *app.number_input, *app.text_area)
    keys = {one.key: one for one in kinds if one.key}
    next(one for key, one in keys.items() if key.startswith(form) and key.endswith(field)).set_value(value)


def compared(app: AppTest) -> list[side.Side]:
    found: list[side.Side] = app.session_state["compared"]
    return found


def test_the_empty_page_says_what_to_do_and_begins_with_the_sidebar(app: AppTest) -> None:
    open_page(app, "compare")
    assert app.title[0].value.startswith("No scenario is compared yet")
    press(app, "Add the sidebar's scenario")
    assert not app.exception
    assert app.title[0].value.startswith("Scenario A writes a token in")
    assert compared(app)[0].parameters["architecture"] == "Qwen3-30B-A3B"
    assert "architecture=Qwen3-30B-A3B" in str(app.query_params["a"])


def test_an_example_is_one_click(app: AppTest) -> None:
    open_page(app, "compare")
    press(app, "Show me an example")
    assert [one.name for one in compared(app)] == [
        "Mixtral-8x7B on H100, batch 16",
        "Llama-2-70B on H100, batch 16",
    ]
    assert re.search(r"because|equally fast", app.title[0].value)


def test_the_longest_scenario_that_a_link_may_hold_can_be_changed(app: AppTest) -> None:
    by_link(app, f"architecture=DBRX&hardware=H100&batch=1000000&prompt={2**24 - 1}&answer=1")
    assert not app.exception
    assert compared(app)[0].case.context == 2**24


def test_a_link_opens_the_comparison(app: AppTest) -> None:
    by_link(app, *QUERIES[:2])
    title = app.title[0].value
    assert "faster than" in title
    assert re.search(r"because|equally fast", title)
    assert [one.label for one in app.metric] == [
        "A Mixtral\\-8x7B, full size",
        "B Llama\\-2\\-70B, full size",
    ]
    assert len(app.get("vega_lite_chart")) == 1
    table = app.table[0].value
    assert len(table.columns) == 4
    assert "badge" in table.to_string()
    assert "≠" in table.to_string()
    assert not app.error
    assert not app.warning


def test_an_infeasible_scenario_is_an_answer(app: AppTest) -> None:
    by_link(app, *QUERIES)
    assert "C DeepSeek-V3 takes at most" in app.title[0].value.replace("\\", "")
    assert app.metric[2].value == "no time"
    assert not app.error


@pytest.mark.parametrize("tab", ["Side by side", "Memory", "Save and review", "Share"])
def test_every_tab(app: AppTest, tab: str) -> None:
    app.session_state["compare_tab"] = tab
    by_link(app, *QUERIES[:2])
    app.session_state["compare_tab"] = tab
    app.run()
    assert not app.exception
    assert not app.error


def test_a_broken_scenario_of_a_link_is_one_sentence_and_the_others_stay(app: AppTest) -> None:
    by_link(app, QUERIES[0], "architecture=Mixtrl", "batch=0", HOSTILE)
    said = words(app)
    assert "Scenario B of this link" in said.replace("\\", "")
    assert "Scenario C of this link" in said.replace("\\", "")
    assert "<script>" not in said
    assert len(compared(app)) == 1


def test_a_dense_model_is_added_and_changed_and_removed(app: AppTest) -> None:
    by_link(app, QUERIES[0])
    app.session_state["compare_from"] = "A model"
    app.run()
    fill(app, "compare_new", "_model", "Llama-2-70B")
    fill(app, "compare_new", "_batch", 3)
    press(app, "Add it")
    assert not app.exception
    assert compared(app)[1].case.batch == 3
    assert compared(app)[1].name == "Llama-2-70B on H100, batch 3"
    fill(app, "compare_0", "_price", "free")
    press(app, "Change it")
    assert "price" in app.error[0].value
    press(app, "Remove it")
    assert [one.name for one in compared(app)] == ["Llama-2-70B on H100, batch 3"]


def test_a_pasted_link_adds_what_it_holds(app: AppTest) -> None:
    by_link(app, QUERIES[0])
    app.session_state["compare_from"] = "A link"
    app.run()
    pasted = urlencode(side.link([side.read(one)[0] for one in QUERIES[:2]]))
    next(area for area in app.text_area if "link" in area.label).set_value("http://x/compare?" + pasted)
    press(app, "Add what it holds")
    assert len(compared(app)) == 3
    next(area for area in app.text_area if "link" in area.label).set_value("hello")
    press(app, "Add what it holds")
    assert "must be a link of this dashboard" in app.error[0].value.replace("\\", "")


def test_four_are_enough(app: AppTest) -> None:
    by_link(app, *(QUERIES[0],) * 4)
    assert len(app.metric) == 4
    assert not [button for button in app.button if button.label == "Add the sidebar's scenario"]


def open_keep(app: AppTest, *queries: str) -> AppTest:
    by_link(app, *queries)
    app.session_state["compare_tab"] = "Save and review"
    return app.run()


def test_saving_names_it_here_too_and_a_second_save_is_a_version(app: AppTest) -> None:
    open_keep(app, *QUERIES[:2])
    next(one for one in app.text_input if one.placeholder == "as it is called here").set_value(HOSTILE[:60])
    press(app, "Save the scenario")
    assert not app.exception
    table = scenarios.listing(data.door().store)
    assert table["name"].tolist() == [HOSTILE[:60]]
    assert compared(app)[0].name == HOSTILE[:60]
    assert "<script>" not in words(app)
    identity = table["scenario_id"].iloc[0]
    next(box for box in app.selectbox if box.label == "Save it as").set_value(identity)
    press(app, "Save the scenario")
    assert scenarios.read(data.door().store, identity).version == 2


def test_a_saved_scenario_is_added(app: AppTest) -> None:
    open_keep(app, QUERIES[0])
    press(app, "Save the scenario")
    app.session_state["compare_from"] = "Saved"
    app.run()
    press(app, "Add it")
    assert [one.case for one in compared(app)] == [compared(app)[0].case] * 2


def test_a_review_takes_them_all(app: AppTest) -> None:
    open_keep(app, *QUERIES[:2])
    next(one for one in app.text_input if one.label == "Title of a new one").set_value("Chat?")
    press(app, "Put them there")
    assert not app.exception
    assert not app.error
    found = reviews.listing(data.door().store)
    saved = reviews.read(data.door().store, found["review_id"].iloc[0])
    assert [len(saved.review.scenarios), saved.review.title] == [2, "Chat?"]
    assert "/compare?a=" in saved.review.notes
    open_page(app, "reviews")
    assert not app.exception
    assert not app.error


def test_a_full_review_says_so(app: AppTest) -> None:
    app.run()
    identity = reviews.create(data.door().store, review(verdict=None), "Ada")
    open_keep(app, *QUERIES[:2])
    next(box for box in app.selectbox if box.label == "Review").set_value(identity)
    press(app, "Put them there")
    assert "a review holds 4" in app.error[0].value
    assert reviews.read(data.door().store, identity).version == 1


def test_names_of_a_link_are_only_text(app: AppTest) -> None:
    hostile = [urlencode({"name": HOSTILE, "architecture": "Mixtral-8x7B"}), urlencode({"name": "a|b\n# c"})]
    by_link(app, *hostile)
    shown = [
        *words(app).splitlines(),
        *(one.label for one in app.metric),
        *map(str, app.table[0].value.columns),
    ]
    assert not [text for text in shown if "<script>" in text or "](javascript" in text]
    assert "A \\=cmd\\|" in str(app.table[0].value.columns.tolist()).replace("\\\\", "\\")
    assert not app.error


def test_what_fits_nowhere_alone_has_every_tab_and_can_be_removed(app: AppTest) -> None:
    """Nothing to draw anywhere, then nothing at all: both are designed states."""
    by_link(app, QUERIES[2])
    for tab in ("Side by side", "Memory", "Save and review", "Share"):
        app.session_state["compare_tab"] = tab
        app.run()
        assert not app.exception, (tab, app.exception)
    assert [metric.value for metric in app.metric] == ["no time"]
    next(button for button in app.button if "Remove" in (button.help or button.label)).click()
    app.run()
    assert not app.exception
    assert app.title[0].value.startswith("No scenario is compared yet")


@pytest.mark.slow
def test_a_change_among_four_takes_at_most_400_ms(app: AppTest) -> None:
    """The server's own work: seconds of this process, beside a yardstick that slows down as it does."""
    by_link(
        app, *QUERIES[:2], "architecture=DeepSeek-V3&hardware=H200", "architecture=Qwen3-30B-A3B&batch=64"
    )
    taken, pace = [], []
    for batch in (2, 3, 5, 7, 9):
        pace.append(_yardstick())
        fill(app, "compare_0", "_batch", batch)
        next(button for button in app.button if button.label == "Change it").click()
        began = time.process_time()
        app.run()
        taken.append(time.process_time() - began)
        assert compared(app)[0].case.batch == batch
    slower = max(1.0, sorted(pace)[2] / YARDSTICK)  # other work takes the half of a core that it shares
    assert sorted(taken)[2] <= 0.4 * slower, (taken, pace)


YARDSTICK = 0.03  # seconds, of an idle core of the machine that the 400 ms are promised on


def _yardstick() -> float:
    """Seconds of this process that a fixed piece of plain Python takes now."""
    began = time.process_time()
    rows = [{"number": number, "text": str(number) * 3} for number in range(20_000)]
    sorted(json.loads(json.dumps(rows)), key=lambda row: row["text"])
    return time.process_time() - began
