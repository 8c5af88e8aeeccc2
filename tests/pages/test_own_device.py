"""A device of one's own in the sidebar: typed in or read from TOML, chosen, and whole in the link."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from moe_core import hardware
from moe_core.scenario import link
from moe_core.scenario.spec import Scenario
from tests.pages.conftest import open_page, words
from tests.test_hardware import CARD, LINE


def plain(text: str) -> str:
    return text.replace("\\", "")


def use(app: AppTest) -> Scenario:
    next(one for one in app.button if one.label == "Use it").click()
    app.run()
    assert not app.exception
    found = app.session_state["scenario_now"]
    assert isinstance(found, Scenario)
    return found


def type_in(app: AppTest, **fields: float) -> None:
    for name, value in fields.items():
        app.number_input(key=f"device_{name}").set_value(value)


def test_fields_make_a_device(filled: AppTest) -> None:
    open_page(filled, "overview")
    filled.text_input(key="device_name").set_value("My card")
    type_in(filled, capacity_gb=32.0, bandwidth_gbs=1000.0, host_gbs=32.5, link_gbs=64.0)
    type_in(filled, usd_per_hour=0.4, watts=300.0, bf16=100.0, fp8=200.0)
    assert use(filled).hardware == LINE
    assert filled.selectbox(key="hardware").value == LINE
    assert "My card (your own device)" in plain(words(filled))


def test_toml_makes_the_same(filled: AppTest) -> None:
    open_page(filled, "overview")
    filled.text_area(key="device_toml").set_value(CARD)
    assert use(filled).hardware == LINE


def test_a_link_brings_it_whole(filled: AppTest) -> None:
    shared = link.spoken(Scenario(hardware=LINE))
    assert shared["hardware"] == LINE
    assert link.scenario(shared).hardware == LINE
    filled.query_params.update(shared)
    open_page(filled, "decide")
    assert filled.session_state["scenario_now"].hardware == LINE
    assert not filled.warning
    assert "J a token written, at the power limit" in plain(words(filled))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"capacity_gb": 32.0}, "bandwidth_gbs: field required"),
        ({"capacity_gb": 32.0, "bandwidth_gbs": 1.0, "host_gbs": 1.0}, "peak_tflops must hold bf16 or fp16"),
    ],
)
def test_what_is_missing_is_one_sentence(filled: AppTest, fields: dict[str, float], sentence: str) -> None:
    open_page(filled, "overview")
    type_in(filled, **fields)
    assert use(filled).hardware == "H100"
    assert sentence in plain(filled.error[0].value)


@pytest.mark.parametrize("line", ["x: memory=", "x: memory=1 bandwidth=nan host=1 bf16=1"])
def test_a_forged_line_is_named(filled: AppTest, line: str) -> None:
    filled.query_params["hardware"] = line
    open_page(filled, "overview")
    assert filled.session_state["scenario_now"].hardware == "H100"
    assert plain(filled.warning[0].value).startswith("hardware (x: memory")


@pytest.mark.parametrize("page", ["memory", "economics", "accuracy", "compare"])
def test_every_page_takes_it(filled: AppTest, page: str) -> None:
    big = hardware.from_toml(CARD.replace("capacity_gb = 32", "capacity_gb = 320"))
    filled.query_params["hardware"] = big.name
    open_page(filled, page)
    assert filled.session_state["scenario_now"].hardware == big.name
