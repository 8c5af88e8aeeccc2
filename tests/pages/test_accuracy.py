"""The accuracy page: progress while errors are computed, then the answer, its cuts and its worst cases."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.accuracy import frames
from moe_core.settings import Settings
from moe_core.silicon.workshop import errors
from moe_core.silicon.workshop.errors import TABLES
from tests.pages.conftest import open_page, words

TABS = ("By hardware", "By case", "Distribution", "Served models", "Worst cases")


@pytest.fixture(scope="module")
def computed() -> dict[str, pd.DataFrame]:
    """Two real groups, and served samples of two made-up models."""
    groups = [errors.of_group("h100_sxm", "vllm", form) for form in ("bf16", "fp8_block")]
    found = {name: pd.concat([one[name] for one in groups], ignore_index=True) for name in TABLES[:5]}
    rows = [(i, kind) for i in range(12) for kind in ("dense", "mixture")]
    found["served"] = pd.DataFrame(
        [
            {
                "model": f"a {kind} model",
                "framework": "vllm",
                "device": "H100",
                "kind": kind,
                "id": f"row {i}",
            }
            | {"configuration": f"{kind} {i}", "sequences": 2**i, "devices": 1, "isl": 1024, "osl": 256}
            | {"queued": i == 11, "tpot": 0.01 * (i + 1), "tpot_predicted": 0.011 * (i + 1)}
            | {"ttft": 0.1 * (i + 1), "ttft_predicted": 0.15 * (i + 1)}
            for i, kind in rows
        ]
    )
    found["left_out"] = pd.DataFrame({"reason": ["no record of a model"], "rows": [7]})
    return found


@pytest.fixture
def ready(filled: AppTest, settings: Settings, computed: dict[str, pd.DataFrame]) -> AppTest:
    target = Path(settings.data_dir) / "accuracy" / errors.fingerprint()
    target.mkdir(parents=True)
    for name, frame in computed.items():
        frame.to_parquet(target / f"{name}.parquet", index=False)
    return filled


def opened(app: AppTest, tab: str = TABS[0]) -> AppTest:
    open_page(app, "accuracy")
    app.session_state["error"] = tab
    app.run()
    assert not app.exception, app.exception
    return app


def test_it_answers_first(ready: AppTest, computed: dict[str, pd.DataFrame]) -> None:
    opened(ready)
    mape = 100 * computed["groups"]["mape"].iloc[0]
    assert f"our layer model is {mape:.3g}" in ready.title[0].value.replace("\\", "")
    assert "H100, vLLM, bf16" in ready.title[0].value.replace("\\", "")
    assert len(ready.metric) == 4
    assert ready.metric[2].value.startswith("10.0")  # every made-up prediction is a tenth too high
    assert ready.metric[3].value == "1.000"


@pytest.mark.parametrize("tab", TABS)
def test_every_tab(ready: AppTest, tab: str) -> None:
    opened(ready, tab)
    assert not ready.error
    assert ready.get("vega_lite_chart")
    assert all(len(chart.proto.alt) > 20 for chart in ready.get("vega_lite_chart"))


def test_worst_cases_are_named(ready: AppTest) -> None:
    opened(ready, "Worst cases")
    layers, served = (frame.value for frame in ready.dataframe)
    assert re.fullmatch(r"\d+/\d+/\d+/\d+", layers["shape"].iloc[0])
    assert served["model"].iloc[0].startswith("a ")
    assert served["queued"].any()


def test_dense_and_mixture_apart(ready: AppTest) -> None:
    opened(ready, "Served models")
    scores = ready.dataframe[0].value
    assert scores["models"].tolist() == ["both", "both", "mixture", "mixture", "dense", "dense"]
    assert scores["samples"].tolist() == [24, 24, 12, 12, 12, 12]
    assert "7 rows: no record of a model" in words(ready).replace("\\", "")


def test_another_table(ready: AppTest) -> None:
    opened(ready)
    ready.selectbox(key="table").set_value("H100, vLLM, fp8_block").run()
    assert "H100, vLLM, fp8_block" in ready.title[0].value.replace("\\", "")


def test_while_it_is_computed_there_is_progress_in_words(
    filled: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = frames.State(0.25, "layers of h100_sxm, vllm, bf16", None)
    monkeypatch.setattr(frames, "state", lambda: state)
    open_page(filled, "accuracy")
    assert "being computed" in filled.title[0].value
    assert not filled.metric
    assert not filled.error


def test_a_failed_computation_can_be_started_again(filled: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    state = frames.State(0.0, "", "The computation ended with code 1")
    monkeypatch.setattr(frames, "state", lambda: state)
    open_page(filled, "accuracy")
    assert "code 1" in filled.error[0].value
    assert any("again" in button.label for button in filled.button)
