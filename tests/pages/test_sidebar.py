"""The scenario in the sidebar: what the URL may do, what is clamped in sight, what survives a page switch."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from streamlit.testing.v1 import AppTest

from app import sidebar
from moe_core.errors import StoreError
from moe_core.scenario.link import spoken
from moe_core.scenario.spec import Scenario, work
from moe_core.settings import ROOT
from tests.pages.conftest import open_page, words


def scenario(app: AppTest) -> Scenario:
    found = app.session_state["scenario_now"]
    assert isinstance(found, Scenario)
    return found


FIRST = Scenario(experts=128, top_k=8, shared=0)


def test_the_first_screen_is_a_preset_as_published(filled: AppTest) -> None:
    open_page(filled, "overview")
    assert scenario(filled) == FIRST
    assert not FIRST.edited


def test_an_old_link_is_understood(filled: AppTest) -> None:
    filled.query_params.update(architecture="DBRX", context="8192", write="256", experts="64", edit="false")
    open_page(filled, "overview")
    found = scenario(filled)
    assert (found.architecture, found.bank, found.answer) == ("DBRX", (16, 4, 0), 256)
    assert found.prompt in (7936, 8192)
    assert not filled.warning


def test_the_url_sets_the_scenario(filled: AppTest) -> None:
    filled.query_params.update(
        experts="32", batch="2", architecture="DBRX", hardware="L4", traffic="2.5", many="4", prompt="1024"
    )
    open_page(filled, "overview")
    found = scenario(filled)
    assert (found.experts, found.architecture, found.hardware) == (32, "DBRX", "L4")
    assert (found.traffic, found.devices, found.prompt, found.context) == (2.5, 4, 1024, 1536)
    assert found.edited
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
        ("prompt", ""),
        ("answer", "-1"),
        ("many", "300"),
        ("rival", "GPT-9"),
        ("preset", "nope"),
        ("traffic", "nan"),
        ("budget_usd", "much"),
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
    assert scenario(filled) == FIRST


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


def test_the_list_of_mixtures_says_size_and_experts(filled: AppTest) -> None:
    open_page(filled, "overview")
    listed = filled.selectbox(key="architecture").options
    assert "Qwen3-30B-A3B · 30.5 B · 128/8" in listed
    assert "Mixtral-8x7B · 46.7 B · 8/2" in listed
    assert listed == sorted(listed, key=str.lower)


@pytest.mark.parametrize("name", ["Mixtral-8x7B", "Mixtral-8x7B · 46.7 B · 8/2"])
def test_the_address_bar_has_the_list_s_words_and_a_link_the_name(filled: AppTest, name: str) -> None:
    filled.query_params.update(architecture=name, experts="16")
    open_page(filled, "overview")
    assert (scenario(filled).architecture, scenario(filled).bank) == ("Mixtral-8x7B", (16, 2, 0))
    assert not filled.warning


@pytest.mark.parametrize(
    ("link", "address"),
    [
        ({"experts": "16", "layer": "3"}, {"experts": "16", "layer": "3"}),
        ({"rival": "total"}, {"rival": "made up: equal total parameters"}),
        ({"rival": "Qwen3-32B", "skill": "expert"}, {"rival": "Qwen3-32B", "skill": "often"}),
        ({"rival": "GPT-9"}, {"rival": "GPT-9"}),  # named as unusable, so it stays
        (
            {"context": "8192", "write": "256", "view": "Text"},
            {"answer": "256", "prompt": "7936", "view": "Text"},
        ),
        ({"experts": "64", "edit": "false"}, {}),
        ({"model": "grid"}, {"model": "Trained"}),
        ({"model": "trained"}, {"model": "Trained, larger"}),  # of a link from before there was a grid
    ],
)
def test_a_link_is_sent_to_the_address_of_the_widgets(
    filled: AppTest, link: dict[str, str], address: dict[str, str]
) -> None:
    found = sidebar._address({field: [value] for field, value in link.items()})
    assert found == {field: [value] for field, value in address.items()}
    assert sidebar._address(found) == found  # once is enough


def test_choosing_an_architecture_sets_its_mixture(filled: AppTest) -> None:
    open_page(filled, "memory")
    filled.selectbox(key="architecture").set_value("Mixtral-8x7B").run()
    found = scenario(filled)
    assert (found.experts, found.top_k, found.shared) == (8, 2, 0)
    assert "Mixtral" in filled.title[0].value.replace("\\", "")


def test_a_moved_knob_renames_the_model_everywhere_and_can_be_taken_back(filled: AppTest) -> None:
    open_page(filled, "memory")
    assert "64 experts" not in filled.title[0].value
    filled.select_slider(key="experts").set_value(64).run()
    for page in ("memory", "overview", "decide", "economics"):
        filled.switch_page(f"../pages/{page}.py").run()
        assert not filled.exception, filled.exception
        assert "Qwen3-30B-A3B, 64 experts" in filled.title[0].value.replace("\\", "")
    filled.button(key="reset_knobs").click().run()
    assert scenario(filled) == FIRST
    assert "64 experts" not in filled.title[0].value


def test_undo_takes_back_one_move_after_the_other(filled: AppTest) -> None:
    open_page(filled, "overview")
    assert filled.button(key="scenario_undo").disabled
    filled.select_slider(key="batch").set_value(2).run()
    filled.selectbox(key="architecture").set_value("Mixtral-8x7B").run()
    filled.button(key="scenario_undo").click().run()
    assert scenario(filled) == FIRST._replace(batch=2)
    filled.button(key="scenario_undo").click().run()
    assert scenario(filled) == FIRST
    filled.select_slider(key="batch").set_value(4).run()
    filled.button(key="scenario_reset").click().run()
    assert scenario(filled) == FIRST


def test_a_click_that_reaches_the_server_twice_takes_back_one_move(
    filled: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser may send it once more with a part of the page that draws itself anew."""
    undo = sidebar._undo
    monkeypatch.setattr(sidebar, "_undo", lambda before: (undo(before), undo(before)))
    open_page(filled, "overview")
    filled.select_slider(key="batch").set_value(2).run()
    filled.select_slider(key="batch").set_value(4).run()
    filled.button(key="scenario_undo").click().run()
    assert scenario(filled) == FIRST._replace(batch=2)
    filled.button(key="scenario_undo").click().run()
    assert scenario(filled) == FIRST


def test_a_copied_link_opens_the_same_scenario(filled: AppTest) -> None:
    filled.query_params.update(
        architecture="Mixtral-8x7B", experts="16", many="4", ttft_ms="250", rival="sqrt"
    )
    open_page(filled, "overview")
    found, title = scenario(filled), filled.title[0].value
    said = dict(parse_qsl(str(filled.code[0].value).removeprefix("/?")))
    assert said == spoken(found)
    filled.button(key="scenario_reset").click().run()
    assert scenario(filled) != found
    other = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=300)
    other.query_params.update(said)
    open_page(other, "overview")
    assert scenario(other) == found
    assert other.title[0].value == title


def test_choosing_a_preset_brings_its_work_and_drops_targets_of_ones_own(filled: AppTest) -> None:
    open_page(filled, "overview")
    filled.number_input(key="latency_ms").set_value(7.0).run()
    for name in ("agentic", "batch", "chat"):
        filled.selectbox(key="preset").set_value(name).run()
        assert not filled.exception, filled.exception
        found = scenario(filled)
        assert {field: getattr(found, field) for field in work(name)} == work(name)
        assert found.latency_ms is None
        assert found.devices is None


def test_a_link_that_names_a_preset_alone_means_all_of_it(filled: AppTest) -> None:
    filled.query_params.update(preset="device", answer="512")
    open_page(filled, "overview")
    found = scenario(filled)
    assert (found.preset, found.batch, found.devices, found.prompt) == ("device", 1, 1, 3840)
    assert found.answer == 512
    assert not filled.warning


def test_every_published_mixture_can_be_looked_at(filled: AppTest) -> None:
    """Sizes of all architectures, edited and not, on the smallest device: yes or no, never an error."""
    open_page(filled, "memory")
    for name in filled.selectbox(key="architecture").options[::5]:
        filled.selectbox(key="architecture").set_value(name.split(" · ")[0])
        filled.selectbox(key="hardware").set_value("L4").run()
        assert not filled.exception, (name, filled.exception)
        if len(filled.select_slider) > 5:
            filled.select_slider(key="experts").set_value(16).run()
            assert not filled.exception, (name, filled.exception)


def test_the_scenario_survives_a_page_switch(filled: AppTest) -> None:
    open_page(filled, "overview")
    filled.select_slider(key="experts").set_value(32).run()
    filled.text_area(key="own_text").set_value("Hello there").run()
    filled.switch_page("../pages/memory.py").run()
    assert scenario(filled).experts == 32
    assert scenario(filled).text == "Hello there"


def test_the_trained_mixture_brings_its_experts(filled: AppTest) -> None:
    open_page(filled, "overview")
    filled.segmented_control(key="model").set_value("trained").run()
    found = scenario(filled)
    assert (found.model, found.bank) == ("trained", (128, 8, 0))
    asked = found.run_spec()
    assert (asked.experts, asked.top_k, asked.shared) == (16, 8, 1)
    assert "Runs its own mixture" in words(filled)


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


def test_a_length_of_a_link_that_is_no_choice_is_kept(filled: AppTest) -> None:
    """What a link says is what is computed, not the nearest that the slider has."""
    filled.query_params.update({"prompt": "3000", "answer": "700", "cached": "500"})
    open_page(filled, "overview")
    now = scenario(filled)
    assert (now.prompt, now.answer, now.cached) == (3000, 700, 500)
    assert not [one.value for one in filled.warning if "prompt" in one.value]
    filled.select_slider(key="prompt").set_value(4096).run()
    assert scenario(filled).prompt == 4096


def test_the_weights_of_a_link_are_those_of_the_verdict(filled: AppTest) -> None:
    filled.query_params.update({"weights": "memory:2.5"})
    open_page(filled, "overview")
    assert ("memory", 2.5) in scenario(filled).weights


def test_a_scenario_is_saved_from_any_page(filled: AppTest) -> None:
    open_page(filled, "memory")
    filled.text_input(key="save_name").set_value("Ours").run()
    filled.button(key="save_now").click().run()
    assert not filled.exception
    assert any("Kept as Ours" in one.value.replace("\\", "") for one in filled.success)


def test_a_scenario_that_cannot_be_saved_says_why_where_it_was_asked(
    filled: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("the disk is full")

    open_page(filled, "overview")
    monkeypatch.setattr("moe_core.store.scenarios.save", refuse)
    filled.button(key="save_now").click().run()
    assert not filled.exception
    assert [one.value for one in filled.error] == ["the disk is full"]
