"""The memory page: formats, splits and devices decide the answer; what cannot be is said."""

from __future__ import annotations

import re

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.conftest import open_page, words

TABS = ("Every device", "Formats", "Split", "KV cache", "Experts on the host", "Training", "Start command")


def memory(app: AppTest, tab: str = "Every device", **query: str) -> AppTest:
    """The page with one tab open."""
    app.query_params.update(query)
    open_page(app, "memory")
    app.session_state["budget"] = tab
    app.run()
    assert not app.exception, app.exception
    return app


def title(app: AppTest) -> str:
    return str(app.title[0].value).replace("\\", "")


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("model", ["Mixtral-8x7B", "DeepSeek-V3", "DeepSeek-V4-Flash", "Qwen3-Next-80B-A3B"])
def test_every_tab_of_every_kind_of_model(filled: AppTest, model: str, tab: str) -> None:
    memory(filled, tab, architecture=model)
    assert title(filled).startswith(f"{model} fits each of ")
    in_tab = tab != "Start command"
    assert len(filled.get("vega_lite_chart")) >= 3 + in_tab  # budget, the tab, and the test model twice
    assert not filled.error


def test_the_format_decides(filled: AppTest) -> None:
    memory(filled, architecture="gpt-oss-120b", batch="1")
    assert "fits H100" in title(filled)  # as it is stored: experts in mxfp4
    filled.selectbox(key="mix").set_value("bf16").run()
    assert "fits each of 3 × H100" in title(filled)
    filled.selectbox(key="tensor").set_value(1).run()
    assert "needs 2.88× what H100 can give" in title(filled)
    filled.selectbox(key="format_attention").set_value("fp32").run()
    assert not filled.exception
    assert "fp32" in filled.markdown[0].proto.help  # the badge says which formats


def test_a_split_holds_less_on_each_device(filled: AppTest) -> None:
    memory(filled, architecture="Mixtral-8x7B")
    assert "fits each of 2 × H100" in title(filled)  # as it is served
    filled.selectbox(key="expert_ways").set_value(1).run()
    assert "needs 1.28× what H100 can give" in title(filled)
    filled.selectbox(key="expert_ways").set_value(8).run()
    assert "fits each of 8 × H100" in title(filled)
    assert filled.metric[0].label == "Weights, a device, full size"


def test_a_split_that_cannot_be_is_one_sentence(filled: AppTest) -> None:
    memory(filled, architecture="Mixtral-8x7B")
    filled.selectbox(key="expert_ways").set_value(16).run()
    said = filled.warning[0].value.replace("\\", "")
    assert said == "8 experts cannot be split over 16 devices; expert 8 works; shown on one device."
    assert not filled.exception


def test_a_hostile_url_falls_back(filled: AppTest) -> None:
    memory(filled, mix="<script>", kv_format="![x](https://example.org)", tensor="-8", expert_ways="1e9")
    assert "Qwen3-30B-A3B fits H100" in title(filled)
    assert "![" not in words(filled)


def test_this_machine_has_no_known_host_link(filled: AppTest) -> None:
    memory(filled, "Experts on the host", hardware="this machine")
    assert "choose a listed device" in words(filled)


def test_what_is_typed_into_the_price_list_does_not_change_its_input(filled: AppTest) -> None:
    """Or the browser draws a new table under the user's hands, and loses what he clicks meanwhile."""
    memory(filled, architecture="Mixtral-8x7B")
    before = [table.value.to_csv() for table in filled.dataframe if table.proto.id]
    filled.session_state["device_prices"] = {"H100": 0.01}
    filled.run()
    assert before
    assert [table.value.to_csv() for table in filled.dataframe if table.proto.id] == before
    assert any((table.value == 0.02).any().any() for table in filled.dataframe)  # beside it: 2 × $0.01


def test_prices_are_the_users(filled: AppTest) -> None:
    memory(filled, architecture="Mixtral-8x7B")
    filled.session_state["device_prices"] = {"H100": 0.01}
    filled.run()
    assert "the cheapest by the hour is 2 × H100, $0.0200" in words(filled).replace("\\", "")


@pytest.mark.parametrize("many", ["5", "7"])
def test_too_few_devices_are_not_said_to_be_enough(filled: AppTest, many: str) -> None:
    """The number that would do is the one of Decide, and more than were asked for."""
    memory(filled, architecture="DeepSeek-V3", hardware="H100", many=many)
    found = re.search(r"can give: .* too much; it takes (\d+) of them", title(filled))
    assert found
    assert int(found[1]) > int(many)
    assert [one.value for one in filled.metric[2:4]] == ["does not fit"] * 2
    open_page(filled, "decide")
    assert f"{found[1]} devices would do" in title(filled)


def test_the_weights_say_their_format(filled: AppTest) -> None:
    memory(filled, architecture="gpt-oss-120b")
    said = words(filled).replace("\\", "")
    assert "weights in mxfp4, but embedding, head, attention and router in bf16; cache in bf16" in said
    assert "any number of devices, up to 256" in said
