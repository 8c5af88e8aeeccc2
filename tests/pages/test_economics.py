"""The economics page: a sentence, four numbers, the curve, tabs; a no is a designed state."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from moe_core import hardware
from tests.asked import asked
from tests.pages.conftest import open_page, words

TABS = (
    *("Read and write", "Bytes and roofs", "Dollars", "Quality and time", "Against others"),
    *("Uneven load", "Over devices"),
)


def economics(app: AppTest, tab: str = TABS[0], **query: str) -> AppTest:
    """The page with one tab open."""
    app.query_params.update(query)
    open_page(app, "economics")
    app.session_state["cost"] = tab
    app.run()
    assert not app.exception, app.exception
    return app


def title(app: AppTest) -> str:
    return str(app.title[0].value).replace("\\", "")


def number(app: AppTest, label: str) -> str:
    return next(metric.value for metric in app.metric if metric.label.startswith(label))


def test_times_that_are_compared_are_of_as_many_devices(filled: AppTest) -> None:
    economics(filled, architecture="DeepSeek-V3", hardware="H200")
    assert title(filled).startswith("No. At batch 16, on 6 × H200 each, DeepSeek-V3 takes 2.")


def test_it_answers_first(filled: AppTest) -> None:
    economics(filled, batch="32")
    assert re.fullmatch(
        r"No\. At batch 32 Qwen3-30B-A3B takes 2\.\d× the time of a dense model of its active size for a "
        r"token: its tokens wake \d+ of 128 experts, and all of those must be read\. Only at batch 1, and "
        r"again in long prompts, does it come near \(1\.\d×( and 1\.\d×)?\)",
        title(filled),
    )
    assert [metric.label.split(",")[0] for metric in filled.metric] == [
        "Time per token",
        "Cost of a million tokens",
        "One expert layer",
        "Ridge batch",
    ]
    assert all("full size" in metric.label for metric in filled.metric)


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("model", ["Mixtral-8x7B", "DeepSeek-V3", "gpt-oss-120b", "Qwen3-Next-80B-A3B"])
def test_every_tab_of_every_kind_of_model(filled: AppTest, model: str, tab: str) -> None:
    economics(filled, tab, architecture=model)
    assert model in title(filled)
    assert filled.get("vega_lite_chart")
    assert not filled.error
    badges = re.findall(r"-badge\[[^\]]*(measured here|measured elsewhere|published|modelled)", words(filled))
    assert len(badges) >= len(filled.metric) + len(filled.get("vega_lite_chart"))


def test_the_batch_moves_the_answer(filled: AppTest) -> None:
    economics(filled)
    before = title(filled), number(filled, "Time per token")
    filled.select_slider(key="batch").set_value(64).run()
    assert not filled.exception
    assert "At batch 64" in title(filled)
    assert (title(filled), number(filled, "Time per token")) != before


def test_the_price_is_the_users(filled: AppTest) -> None:
    economics(filled)
    listed = float(number(filled, "Cost of").lstrip("$"))
    filled.number_input(key="price").set_value(5.0).run()
    assert float(number(filled, "Cost of").lstrip("$")) == pytest.approx(2 * listed, rel=0.01)


def test_the_ridge_is_the_data_sheets(filled: AppTest) -> None:
    """H100: 989.5 TFLOP/s over 3.35 TB/s, two bytes a weight; 128 experts, 8 of them visited."""
    economics(filled)
    assert number(filled, "Ridge") == f"{989.5e12 / 3.35e12 * 128 / 8:,.0f}"


def test_another_model_beside(filled: AppTest) -> None:
    economics(filled, "Against others", beside="Llama-3.1-8B")
    said = words(filled).replace("\\", "")
    assert "Decode, against Llama-3.1-8B" in said
    assert "Prefill, against dense twin, equal total" in said


def test_the_load_of_the_scale_model_is_named(filled: AppTest) -> None:
    economics(filled, "Uneven load")
    assert "recorded on" in words(filled)


def test_this_machine_cannot_be_priced_and_that_is_said(filled: AppTest) -> None:
    economics(filled, hardware="this machine")
    assert "This cannot be priced. hardware (this machine): must be a listed device" in title(filled)
    assert not filled.error
    assert not filled.metric


def test_what_does_not_fit_is_an_answer_with_numbers(filled: AppTest) -> None:
    economics(filled, architecture="DeepSeek-V3", many="2")
    assert re.search(
        r"no price for what does not fit: DeepSeek-V3 needs .*B of 81\.2 GB .* \d+ devices would do",
        title(filled),
    )
    assert filled.selectbox(key="many")  # the way on is there


def test_a_device_without_a_price_has_none(filled: AppTest) -> None:
    """Nobody says: then there is no price, and no dollar either."""
    assert not hardware.get("MI355X").usd_per_hour
    filled.query_params["hardware"] = "MI355X"
    economics(filled, "Dollars")
    assert number(filled, "Cost of") == "no price"
    assert "has no price" in words(filled)


def test_a_format_that_hopper_multiplies(filled: AppTest) -> None:
    economics(filled, precision="fp8")
    assert float(number(filled, "Ridge").replace(",", "")) == pytest.approx(
        4726, abs=2
    )  # twice the peak, half the bytes


def test_hostile_values_fall_back(filled: AppTest) -> None:
    economics(filled, framework="<script>", beside="![x](y)", unit="-1", cost="%00")
    assert "Qwen3-30B-A3B" in title(filled)
    assert "![" not in words(filled)


@pytest.mark.parametrize(
    ("lab", "series"),
    [("layer_sweep", "the test model's layer on this device"), ("real_layers", "on this device")],
)
def test_the_curve_of_this_device_is_on_the_chart(
    filled: AppTest, bundle_dir: Callable[..., Path], lab: str, series: str
) -> None:
    bundle_dir(asked(lab=lab), seed=3)
    economics(filled)
    rows = filled.session_state["page_drawn"][2]["dense_equivalent"][0].data
    live = rows[rows["kind"] == "measured here"]
    assert len(live) > 2
    assert live["series"].str.endswith(series).all()
    assert (live["width"] > 0).all()
    assert {"measured elsewhere", "modelled"} < set(rows["kind"])
