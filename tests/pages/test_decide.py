"""Decide and the Overview built on it: the sidebar, the pickers and the weights move one verdict."""

from __future__ import annotations

import re

import pytest
from streamlit.testing.v1 import AppTest

from app import data
from moe_core.report import decided
from moe_core.report.decided import again
from moe_core.store import reviews
from tests.pages.conftest import open_page, words

HEADLINE = r"Mixture: |Dense: |Only |Too close to call: |Neither "
TABS = ("What would flip it", "Sensitivity", "Evidence", "Weights")


def decide(app: AppTest, tab: str = TABS[0], page: str = "decide", **query: str) -> AppTest:
    """The page with one tab open."""
    app.query_params.update(query)
    open_page(app, page)
    app.session_state["argue"] = tab
    app.run()
    assert not app.exception, app.exception
    return app


def title(app: AppTest) -> str:
    return str(app.title[0].value).replace("\\", "")


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("model", ["Mixtral-8x7B", "DeepSeek-V3", "Qwen3-Next-80B-A3B", "gpt-oss-20b"])
def test_every_tab_of_every_kind_of_model(filled: AppTest, model: str, tab: str) -> None:
    decide(filled, tab, architecture=model)
    assert re.match(HEADLINE, title(filled))
    assert model in title(filled)
    assert len(filled.metric) == 4
    assert filled.get("vega_lite_chart")
    assert not filled.error


@pytest.mark.parametrize("page", ["overview", "decide"])
def test_what_fits_nowhere_is_a_designed_state(filled: AppTest, page: str) -> None:
    decide(filled, page=page, architecture="Mixtral-8x7B", hardware="RTX 4090", many="1", rival="Llama-2-70B")
    assert title(filled).startswith("Neither fits one RTX 4090: Mixtral-8x7B needs")
    assert not filled.metric
    assert "Take more devices" in words(filled)
    assert not filled.error


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"hardware": "this machine"}, "hardware (this machine): is not known"),
        ({"architecture": "DeepSeek-V4-Flash"}, "no closed form"),
    ],
)
def test_what_cannot_be_decided_says_why(filled: AppTest, query: dict[str, str], said: str) -> None:
    decide(filled, **query)
    assert title(filled).startswith("This cannot be decided")
    assert said in title(filled)


def test_the_sidebar_moves_the_overview(filled: AppTest) -> None:
    open_page(filled, "overview")
    before = title(filled)
    assert "at batch 16" in before
    filled.select_slider(key="batch").set_value(1).run()
    assert "at batch 1" in title(filled)
    assert not filled.exception
    assert [m.label for m in filled.metric] == [
        "Time per token, full size",
        "Cost of a million tokens, full size",
        "Memory of all devices, full size",
        "First token, full size",
    ]
    assert len(filled.get("vega_lite_chart")) == 2  # the margin, and the load of the test model


def test_more_of_the_scale_model_is_one_click_away(filled: AppTest) -> None:
    open_page(filled, "overview")
    filled.session_state["scale_model"] = True
    filled.run()
    assert not filled.exception, filled.exception
    assert len(filled.get("vega_lite_chart")) >= 6


def test_a_kind_of_work_brings_its_batch_and_length(filled: AppTest) -> None:
    decide(filled)
    filled.selectbox(key="preset").set_value("device").run()
    assert not filled.exception, filled.exception
    assert filled.session_state["batch"] == 1
    assert filled.session_state["answer"] == 256
    assert "at batch 1" in title(filled)


def test_the_dense_side_is_the_users_and_its_rule_is_said(filled: AppTest) -> None:
    decide(filled)
    assert "by published benchmarks" in words(filled).replace("\\", "")
    filled.selectbox(key="rival").set_value("active").run()
    assert "by equal active parameters" in words(filled).replace("\\", "")
    filled.selectbox(key="rival").set_value("Llama-3.1-8B").run()
    assert "Llama-3.1-8B" in title(filled)
    assert "by your own pair" in words(filled).replace("\\", "")


def margin(app: AppTest) -> float:
    """Of the verdict that the page's exports carry."""
    return float(app.session_state["page_drawn"][3]().margin)


def test_weights_move_the_margin_and_can_be_reset(filled: AppTest) -> None:
    decide(filled, "Weights")
    usual = margin(filled)
    filled.slider(key="weight_chat_budget").set_value(3.0).run()
    assert margin(filled) != usual
    assert not filled.exception
    reset = next(button for button in filled.button if button.label == "Reset the weights")
    reset.click().run()
    assert margin(filled) == usual


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return app.run()


def test_the_verdict_goes_into_a_new_review_and_then_into_that_one(filled: AppTest) -> None:
    decide(filled, architecture="Mixtral-8x7B", many="4")
    next(field for field in filled.text_input if field.label.startswith("Title")).set_value("Chat?")
    press(filled, "Add scenario and verdict")
    assert not filled.exception, filled.exception
    store = data.door().store
    identity = reviews.listing(store)["review_id"].iloc[0]
    first = reviews.read(store, identity)
    found = decided.read(first.review.verdict)
    assert found is not None
    assert title(filled).startswith(found.sentence.split(";")[0])
    assert found.asked.spec.devices == 4
    assert found.asked.heard is not None
    filled.select_slider(key="batch").set_value(1).run()
    next(box for box in filled.selectbox if box.label == "Review").set_value(identity)
    press(filled, "Add scenario and verdict")
    assert not filled.exception, filled.exception
    second = reviews.read(store, identity)
    assert (second.version, len(second.review.scenarios)) == (2, 2)
    newer = decided.read(second.review.verdict)
    assert newer is not None
    assert newer.asked.spec.workload.batch == 1
    press(filled, "Add scenario and verdict")  # the same once more: it is there already
    assert len(reviews.read(store, identity).review.scenarios) == 2
    next(box for box in filled.selectbox if box.label == "Review").set_value("")
    next(field for field in filled.text_input if field.label.startswith("Title")).set_value("")
    press(filled, "Add scenario and verdict")
    assert "title" in filled.error[0].value


def test_an_exported_chart_carries_the_verdict(filled: AppTest) -> None:
    decide(filled)
    found = filled.session_state["page_drawn"][3]()
    assert title(filled).startswith(found.sentence.split(";")[0])
    assert again(found.asked.model_dump(mode="json")) == found


def test_every_flip_is_listed_when_asked_for(filled: AppTest) -> None:
    decide(filled)
    few = words(filled).count("swap_horiz")
    filled.session_state["every_flip"] = True
    filled.run()
    assert not filled.exception, filled.exception
    assert words(filled).count("swap_horiz") > few


def test_a_counter_argument_is_always_there(filled: AppTest) -> None:
    for rival in ("active", "Llama-3.1-405B"):
        decide(filled, architecture="Mixtral-8x7B", hardware="H200", rival=rival)
        said = words(filled).replace("\\", "")
        assert "The strongest counter-argument" in said
        assert re.search(r"Reuse fragmentation|KV headroom|Active compute|speaks against it", said)


def test_traffic_takes_the_place_of_the_batch(filled: AppTest) -> None:
    decide(filled)
    filled.number_input(key="traffic").set_value(2.0).run()
    assert not filled.exception, filled.exception
    assert "at 2 requests/s" in title(filled)
    filled.session_state["knob"] = "traffic"
    filled.run()
    assert not filled.exception, filled.exception


@pytest.mark.parametrize("key", ["preset", "rival", "many", "task", "training", "skill", "knob", "argue"])
def test_a_forged_address_breaks_nothing(filled: AppTest, key: str) -> None:
    decide(filled, **{key: "<script>alert(1)</script>"})
    assert re.match(HEADLINE, title(filled))
