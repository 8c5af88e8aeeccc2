"""Architectures: answer first, hostile URLs, junk imports, edits, and what reaches the scenario."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import streamlit
from streamlit.testing.v1 import AppTest

from app import models
from app.architectures import frames
from moe_core.errors import ConfigError
from moe_core.hf import sizes
from moe_core.hf.sizes import Sized
from moe_core.perf.precision import words as forms
from moe_core.scenario import subjects
from tests.hf.test_checkpoint import write
from tests.pages.conftest import open_page, words
from tests.scenario.test_subjects import CONFIG

TABS = ("This model", "Edit", "Dense twins", "Compare", "Catalogue", "Over the years", "Import")


def look(app: AppTest, tab: str, **query: str) -> AppTest:
    """The page with one tab open."""
    app.query_params.update(query)
    open_page(app, "architectures")
    app.session_state["look"] = tab
    app.run()
    assert not app.exception, app.exception
    return app


def plain(text: str) -> str:
    return text.replace("\\", "")


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("model", ["DeepSeek-V3", "Llama-3.1-8B", "DeepSeek-V4-Flash", "MiniMax-M1"])
def test_every_tab_of_every_kind_of_model(app: AppTest, model: str, tab: str) -> None:
    """Closed form, dense, built on meta, from its record; an empty store does not matter here."""
    look(app, tab, subject=model)
    assert plain(app.title[0].value).startswith(model)
    assert re.search(r"\d", app.title[0].value)
    assert len(app.metric) == 4
    assert all("full size" in metric.label for metric in app.metric)
    assert not app.error
    charts = app.get("vega_lite_chart")
    assert charts
    assert all(len(chart.proto.alt) > 20 for chart in charts)
    badges = re.findall(r"-badge\[[^\]]*(published|modelled)", words(app))
    assert len(badges) >= len(app.metric) + len(charts)


def test_the_answer_is_exact_and_the_method_is_named(app: AppTest) -> None:
    look(app, "This model", subject="DeepSeek-V3")
    said = plain(words(app))
    assert "671,026,404,352 parameters, closed form" in said
    assert "409,663,695,276,000" in said
    assert "github.com/ai-dynamo/aiconfigurator" in said
    assert "Stored in:** fp8_block, but embedding, head and router in bf16, the cache in bf16" in said
    assert "quantization_config (fp8), of github:ai-dynamo/aiconfigurator" in said
    look(app, "This model", subject="DeepSeek-V4-Pro")
    app.selectbox(key="subject").set_value("DeepSeek-V4-Pro").run()
    assert "built on the meta device" in plain(words(app))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subject", "<img src=x onerror=alert(1)>"),
        ("subject", "GPT-4 (rumoured)"),
        ("convention", "![x](https://example.org/x.png)"),
        ("look", "nothing"),
        ("rumours", "perhaps"),
        ("changes", "experts:-5,top_k:1e99,<b>:3"),
        ("mix", "[x](https://example.org)"),
    ],
)
def test_a_hostile_url_is_harmless(app: AppTest, field: str, value: str) -> None:
    look(app, "Edit", **{field: value})
    assert plain(app.title[0].value).startswith("Qwen3-30B-A3B")
    assert "](https://example" not in words(app)
    assert "![" not in words(app)
    if field == "subject":
        assert "must be a known subject" in plain(app.warning[0].value)
    if field == "changes":
        assert all("is ignored" in plain(warning.value) for warning in app.warning)
        assert len(app.warning) == 3


def test_rumours_are_hidden_until_asked_for_and_cannot_be_chosen(app: AppTest) -> None:
    look(app, "Catalogue")
    assert "GPT-4" not in words(app)
    assert len(app.dataframe) == 1
    app.toggle(key="rumours").set_value(True).run()
    assert "Rumoured" in words(app)
    assert "hollow: rumoured" in plain(words(app))
    assert not any("rumour" in name for name in app.selectbox(key="subject").options)
    assert "GPT-4 (rumoured)" not in set(app.dataframe[0].value["name"])


# -- edit ------------------------------------------------------------------------------------------


def test_an_edit_shows_its_consequence_at_once_and_stands_in_the_url(app: AppTest) -> None:
    look(app, "Edit", subject="Mixtral-8x7B")
    app.number_input(key="edit_experts").set_value(16).run()
    table = app.dataframe[0].value.set_index("what")
    assert table.loc["parameters", "as it is"] == "46,702,792,704"
    assert int(table.loc["parameters", "edited"].replace(",", "")) > 90_000_000_000
    assert table.loc["sets of experts in a layer", "edited"] == "120"
    assert app.query_params["changes"] == "experts:16"
    app.button(key="edit_reset").click().run()
    assert app.number_input(key="edit_experts").value == 8
    assert "changes" not in app.query_params


def test_a_link_carries_the_edit(app: AppTest) -> None:
    look(app, "Edit", subject="Mixtral-8x7B", changes="experts:64,top_k:8,kv:mla")
    assert app.number_input(key="edit_top_k").value == 8
    assert app.segmented_control(key="edit_kv").value == "mla"
    assert (
        app.dataframe[0].value.set_index("what").loc["sets of experts in a layer", "edited"]
        == "4,426,165,368"
    )


def test_an_edit_that_cannot_be_is_one_sentence(app: AppTest) -> None:
    look(app, "Edit", subject="Mixtral-8x7B")
    app.number_input(key="edit_top_k").set_value(9).run()
    assert plain(app.error[0].value) == "top_k (9) must be at most experts (8)"
    assert not app.exception


def test_the_edited_model_goes_into_the_scenario_and_to_memory(app: AppTest) -> None:
    look(app, "Edit", subject="Mixtral-8x7B", changes="experts:16")
    app.button(key="edit_keep").click().run()
    assert plain(app.title[0].value).startswith("Mixtral-8x7B, edited keeps")
    app.button(key="subject_use").click().run()
    scenario = app.session_state["scenario_now"]
    assert scenario.architecture == "Mixtral-8x7B, edited"
    assert scenario.own is not None
    assert (scenario.experts, scenario.top_k) == (16, 2)
    app.switch_page("../pages/memory.py").run()
    assert not app.exception, app.exception
    assert plain(app.title[0].value).startswith("Mixtral-8x7B, edited as given fits each of")


def test_choosing_another_architecture_is_looked_at_too(app: AppTest) -> None:
    look(app, "This model", subject="DeepSeek-V3")
    app.selectbox(key="architecture").set_value("DBRX").run()
    assert plain(app.title[0].value).startswith("DBRX")


# -- import ----------------------------------------------------------------------------------------


def paste(app: AppTest, text: str, name: str = "") -> AppTest:
    look(app, "Import")
    app.text_input(key="import_name").set_value(name)
    app.text_area(key="import_text").set_value(text)
    app.button(key="import_go").click().run()
    assert not app.exception, app.exception
    return app


def test_a_pasted_config_is_looked_at(app: AppTest) -> None:
    paste(app, json.dumps(CONFIG), "My *model*")
    assert plain(app.title[0].value).startswith("My *model* keeps 46.7 B")
    assert "closed form" in app.success[0].value
    assert "My *model*" in app.selectbox(key="subject").options


def test_a_model_beyond_every_knob_can_be_looked_at_and_edited(app: AppTest) -> None:
    huge = {"num_hidden_layers": 10_000, "hidden_size": 500_000, "intermediate_size": 1, "head_dim": 1}
    paste(app, json.dumps({**CONFIG, **huge}), "Huge")
    assert plain(app.title[0].value).startswith("Huge keeps")
    app.session_state["look"] = "Edit"
    app.run()
    assert not app.exception, app.exception


def test_an_upload_is_looked_at(app: AppTest) -> None:
    look(app, "Import")
    app.file_uploader(key="import_file").upload("grok.json", json.dumps(CONFIG).encode()).run()
    assert plain(app.title[0].value).startswith("grok keeps 46.7 B")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "Paste a config.json or upload one first"),
        ("not json", "is not JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "is an empty object"),
        ('{"peft_type": "LORA"}', "the configuration of an adapter"),
        (json.dumps({**CONFIG, "num_experts_per_tok": 99}), "must be at most experts"),
        (json.dumps({**CONFIG, "num_local_experts": 10**6, "hidden_size": 10**6}), "must be at most 1e+16"),
        (json.dumps({**CONFIG, "vocab_size": "![x](https://example.org/x.png)"}), "whole number"),
    ],
)
def test_junk_is_one_clear_sentence(app: AppTest, text: str, rule: str) -> None:
    paste(app, text)
    (error,) = app.error
    assert rule in plain(error.value)
    assert "![" not in error.value
    assert plain(app.title[0].value).startswith("Qwen3-30B-A3B")


def test_too_large_a_file_is_one_clear_sentence(app: AppTest) -> None:
    look(app, "Import")
    app.file_uploader(key="import_file").upload("big.json", b" " * 3_999_999 + b"{}").run()
    assert "at most 4,000,000" in plain(app.error[0].value)


def test_an_unknown_family_is_counted_apart_and_only_when_asked(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def count(config: Any, folder: Any, name: str) -> Sized:
        asked.append(folder.name)
        return sizes.registered("Jamba-1.5-Large")

    monkeypatch.setattr(frames.apart, "built_apart", count)
    paste(app, json.dumps({**CONFIG, "model_type": "jamba"}), "hybrid")
    assert "has no closed form here" in plain(app.warning[0].value)
    assert not asked
    app.button(key="import_count").click().run()
    assert asked == ["counts"]
    assert plain(app.title[0].value).startswith("hybrid")
    assert "built on the meta device" in plain(app.success[0].value)


def test_what_cannot_be_counted_apart_is_said(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ConfigError("model_type (never): is not known to transformers")

    monkeypatch.setattr(frames.apart, "built_apart", refuse)
    paste(app, json.dumps({**CONFIG, "model_type": "never"}))
    app.button(key="import_count").click().run()
    assert plain(app.error[0].value) == "model_type (never): is not known to transformers"
    assert not app.exception


def test_a_session_keeps_a_dozen_models(app: AppTest) -> None:
    look(app, "Import")
    for number in range(models.MOST_OWN + 2):
        app.text_input(key="import_name").set_value(f"model {number}")
        app.text_area(key="import_text").set_value(json.dumps({**CONFIG, "vocab_size": 32000 + number}))
        app.button(key="import_go").click().run()
        assert not app.exception, app.exception
    kept = list(app.session_state["own_models"])
    assert len(kept) == models.MOST_OWN
    assert kept[-1] == f"model {models.MOST_OWN + 1}"


def folder(app: AppTest, path: str) -> AppTest:
    look(app, "Import")
    app.text_input(key="import_folder").set_value(path)
    app.button(key="import_headers").click().run()
    assert not app.exception, app.exception
    return app


def test_a_checkpoint_folder_shows_what_is_on_disk_and_its_model(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "models" / "mine"
    place.mkdir(parents=True)
    write(place / "model.safetensors", {"lm_head.weight": ("BF16", [10, 2], 40)})
    (place / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    monkeypatch.setenv("MOE_CHECKPOINT_DIRS", str(tmp_path / "models"))
    streamlit.cache_resource.clear()
    folder(app, "mine")
    assert "40.0 B in 1 file, 1 tensor," in plain(words(app))
    assert app.dataframe[0].value["nbytes"].tolist() == [40]
    assert plain(app.title[0].value).startswith("mine keeps 46.7 B")
    folder(app, str(tmp_path))
    assert "must lie in" in plain(app.error[0].value)
    folder(app, "nowhere")
    assert "is not a folder" in plain(app.error[0].value)


@pytest.mark.parametrize("name", ["overview", "decide", "memory", "economics"])
def test_every_page_says_how_an_import_is_stored_and_what_was_not_understood(app: AppTest, name: str) -> None:
    given = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    found = subjects.understand(CONFIG | {"quantization_config": given}, "brought")
    note = "quantization_config: some_key is not understood"
    app.session_state["own_models"] = {"brought": found._replace(notes=(note,))}
    app.query_params["architecture"] = "brought"
    open_page(app, name)
    said = plain(words(app))
    assert f"As stored: weights in {forms(found.formats[0])}; cache in bf16" in said
    assert "int4" in forms(found.formats[0])
    assert note in said


def test_an_import_says_its_format_and_an_edit_keeps_it(app: AppTest) -> None:
    look(app, "Import")
    given = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    app.text_area(key="import_text").set_value(json.dumps(CONFIG | {"quantization_config": given}))
    app.button(key="import_go").click().run()
    assert "stored in int4" in plain(app.success[0].value)
    look(app, "Edit")
    table = next(one.value for one in app.dataframe if "as it is" in one.value.columns)
    row = table.set_index("what").loc["weights, as stored"]
    assert row["as it is"] == row["edited"] == "24.7 GB"
