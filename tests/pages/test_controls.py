"""The scenario in the sidebar: what the URL may do, what is clamped in sight, what survives a page switch."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from app.scenario import Scenario
from tests.pages.conftest import open_page, words


def scenario(app: AppTest) -> Scenario:
    found = app.session_state["scenario_now"]
    assert isinstance(found, Scenario)
    return found


def test_the_url_sets_the_scenario(filled: AppTest) -> None:
    filled.query_params.update(experts="32", batch="2", architecture="DBRX", hardware="L4", edit="true")
    open_page(filled, "overview")
    found = scenario(filled)
    assert (found.experts, found.batch, found.architecture, found.hardware) == (32, 2, "DBRX", "L4")
    assert found.edit
    assert not filled.warning


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("experts", "17"),
        ("experts", "-1"),
        ("experts", "1e9"),
        ("top_k", "0"),
        ("shared", "99999999999999999999"),
        ("batch", "NaN"),
        ("seq", "1; DROP TABLE runs"),
        ("precision", "fp7"),
        ("model", "gpt"),
        ("hardware", "![x](https://example.org/x.png)"),
        ("architecture", "<img src=x onerror=alert(1)>"),
        ("context", ""),
        ("edit", "perhaps"),
    ],
)
def test_a_bad_url_value_is_one_sentence_and_the_default_is_used(
    filled: AppTest, field: str, value: str
) -> None:
    filled.query_params[field] = value
    open_page(filled, "overview")
    (warning,) = filled.warning
    assert warning.value.replace("\\", "").startswith(f"{field} (")
    assert "is used" in warning.value
    assert scenario(filled) == Scenario("Qwen3-30B-A3B", "H100")


def test_a_url_cannot_smuggle_markdown(filled: AppTest) -> None:
    filled.query_params["hardware"] = "![x](https://example.org/x.png)"
    open_page(filled, "overview")
    assert "![" not in words(filled)
    assert "](" not in filled.warning[0].value


def test_an_unknown_url_value_is_named_and_ignored(filled: AppTest) -> None:
    filled.query_params["colour"] = "red"
    open_page(filled, "overview")
    assert "must be a setting of the scenario" in filled.warning[0].value


def test_the_notice_leaves_when_the_user_moves_on(filled: AppTest) -> None:
    filled.query_params["experts"] = "17"
    open_page(filled, "overview")
    filled.select_slider(key="batch").set_value(2).run()
    filled.run()
    assert not filled.warning


def test_top_k_above_experts_is_clamped_in_sight(filled: AppTest) -> None:
    filled.query_params.update(experts="2", top_k="8")
    open_page(filled, "overview")
    assert scenario(filled).top_k == 2
    assert filled.warning[0].value.replace("\\", "") == "top_k (8): must be at most experts (2); 2 is used"
    filled.select_slider(key="experts").set_value(16).run()
    assert scenario(filled).top_k == 8
    assert not filled.warning


def test_a_forged_widget_value_falls_back(filled: AppTest) -> None:
    """Bounds of a slider hold in the browser only."""
    filled.session_state["precision"] = "fp64"
    filled.session_state["hardware"] = "H900"
    open_page(filled, "overview")
    assert (scenario(filled).precision, scenario(filled).hardware) == ("auto", "H100")


def test_choosing_an_architecture_sets_its_mixture(filled: AppTest) -> None:
    open_page(filled, "memory")
    filled.selectbox(key="architecture").set_value("Mixtral-8x7B").run()
    found = scenario(filled)
    assert (found.experts, found.top_k, found.shared) == (8, 2, 0)
    assert "Mixtral" in filled.title[0].value.replace("\\", "")


def test_the_full_size_is_edited_only_when_asked(filled: AppTest) -> None:
    open_page(filled, "memory")
    assert "as published" in filled.title[0].value
    filled.toggle(key="edit").set_value(True).run()
    assert "edited: 16 experts" in filled.title[0].value.replace("\\", "")


def test_every_published_mixture_can_be_looked_at(filled: AppTest) -> None:
    """Sizes of all architectures, edited and not, on the smallest device: yes or no, never an error."""
    open_page(filled, "memory")
    for name in filled.selectbox(key="architecture").options[::5]:
        filled.selectbox(key="architecture").set_value(name)
        filled.selectbox(key="hardware").set_value("L4").run()
        assert not filled.exception, (name, filled.exception)
        filled.toggle(key="edit").set_value(True).run()
        assert not filled.exception, (name, filled.exception)


def test_the_scenario_survives_a_page_switch(filled: AppTest) -> None:
    open_page(filled, "overview")
    filled.select_slider(key="experts").set_value(32).run()
    filled.text_area(key="own_text").set_value("Hello there").run()
    filled.switch_page("../pages/memory.py").run()
    assert scenario(filled).experts == 32
    assert scenario(filled).text == "Hello there"


def test_the_trained_mixture_brings_its_experts(filled: AppTest) -> None:
    filled.query_params["experts"] = "64"
    open_page(filled, "overview")
    filled.segmented_control(key="model").set_value("trained").run()
    found = scenario(filled)
    assert (found.model, found.experts, found.shared) == ("trained", 16, 1)
    assert "The trained mixture has 16 experts" in words(filled)


def test_own_text_is_asked_and_blank_text_is_not(filled: AppTest) -> None:
    open_page(filled, "overview")
    filled.text_area(key="own_text").set_value("   ").run()
    assert scenario(filled).text is None
    assert "must hold at least one character" in words(filled)
    filled.text_area(key="own_text").set_value("To be, or not to be").run()
    assert scenario(filled).run_spec().text == "To be, or not to be"


def test_an_upload_becomes_the_text_or_a_sentence(filled: AppTest) -> None:
    open_page(filled, "overview")
    filled.file_uploader(key="own_file").upload("notes.txt", "Größe".encode()).run()
    assert scenario(filled).text == "Größe"
    filled.file_uploader(key="own_file").upload("photo.png", b"\x89PNG\xff").run()
    assert "must be text in UTF-8" in filled.error[0].value.replace("\\", "")
    assert not filled.exception
