"""Speed: answer first, then code against architecture, predictions, roof and real sizes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from moe_core.errors import MoEScopeError
from moe_core.jobs.job import Job
from moe_core.jobs.queue import JobQueue
from moe_core.perf import calibrate
from moe_core.settings import REFERENCE, Settings
from tests.asked import SWEEP
from tests.pages.conftest import open_page, words

TABS = ("Architecture or code", "Predicted", "Roofline", "Real sizes", "Components")


@pytest.fixture
def queue(settings: Settings) -> JobQueue:
    return JobQueue(settings)


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Only what a test puts there."""
    nothing = Path("none")
    monkeypatch.setattr("moe_core.store.ingest.refresh.__defaults__", (nothing,))
    return nothing


def show(app: AppTest, tab: str) -> AppTest:
    open_page(app, "speed")
    app.session_state["timing"] = tab
    app.run()
    assert not app.exception, app.exception
    return app


def of_lab(queue: JobQueue, lab: str) -> list[Job]:
    """Jobs of one lab: the overview, which opens first, may have asked for its own."""
    return [job for job in queue.list_jobs() if job.spec.lab == lab]


def claim(queue: JobQueue, lab: str) -> Job:
    """Take the job of a lab as a worker does."""
    while (ticket := queue.take()) is not None:
        job = queue.claim(ticket.job_id, "worker", "Test device")
        if job and job.spec.lab == lab:
            return job
    raise AssertionError(f"no {lab} is waiting")


def charts(app: AppTest) -> int:
    return len(app.get("vega_lite_chart"))


def test_an_empty_store_says_what_is_happening_and_asks(app: AppTest, queue: JobQueue) -> None:
    open_page(app, "speed")
    assert "under way" in app.title[0].value
    assert [job.status for job in of_lab(queue, "layer_sweep")] == ["queued"]
    assert not app.error


def test_the_answer_comes_first(filled: AppTest) -> None:
    open_page(filled, "speed")
    answer = filled.title[0].value.replace("\\", "")
    assert re.match(r"On this machine a mixture layer takes [\d.]+× a dense layer of the same active", answer)
    assert "Most of that is" in answer
    assert len(filled.metric) == 4
    assert all("test model" in metric.label for metric in filled.metric)
    assert charts(filled) >= 1
    assert not filled.error
    assert not filled.warning


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_of_a_filled_store(filled: AppTest, bundle_dir: Callable[..., Path], tab: str) -> None:
    from app.speed import view
    from moe_core.scenario.spec import Scenario

    bundle_dir(view.real_spec(Scenario()))
    show(filled, tab)
    assert charts(filled) >= 2
    assert all(len(chart.proto.alt) > 20 for chart in filled.get("vega_lite_chart"))
    assert not filled.error


def test_batch_and_length_do_not_ask_again(filled: AppTest, queue: JobQueue) -> None:
    open_page(filled, "speed")
    filled.select_slider(key="batch").set_value(64).run()
    assert not queue.list_jobs()
    filled.select_slider(key="experts").set_value(64).run()
    assert [job.spec.lab for job in queue.list_jobs()] == ["layer_sweep"]


def test_without_a_calibration_there_is_a_button_and_no_prediction(
    app: AppTest, queue: JobQueue, bundle_dir: Callable[..., Path]
) -> None:
    bundle_dir(SWEEP)
    show(app, "Predicted")
    assert "no calibration" in app.info[0].value
    assert charts(app) == 1
    app.button(key="ask_calibrate").click().run()
    assert [job.status for job in of_lab(queue, "calibrate")] == ["queued"]
    assert "Waiting to run here" in str(app.progress[0].text)


def test_a_calibration_that_lands_is_taken_in(
    app: AppTest, queue: JobQueue, bundle_dir: Callable[..., Path]
) -> None:
    bundle_dir(SWEEP)
    show(app, "Predicted")
    app.button(key="ask_calibrate").click().run()
    job = claim(queue, "calibrate")
    queue.finish(job, "done", run_id=bundle_dir(calibrate.question()).name)
    app.run()
    assert not app.progress
    assert charts(app) == 2
    assert "modelled" in words(app)


def test_calibrating_again_measures_anew(filled: AppTest, queue: JobQueue, settings: Settings) -> None:
    show(filled, "Predicted")
    assert "Done here" in words(filled)
    filled.button(key="ask_calibrate").click().run()
    assert [job.status for job in queue.list_jobs()] == ["queued"]
    assert not filled.exception


def test_real_sizes_that_do_not_fit_are_a_designed_state(filled: AppTest, queue: JobQueue) -> None:
    show(filled, "Real sizes")
    filled.button(key="ask_real_layers").click().run()
    job = claim(queue, "real_layers")
    queue.finish(job, "infeasible", error=MoEScopeError("Mixtral needs 3.96 GB, the device can give 1 GB"))
    filled.run()
    assert "Mixtral needs 3.96 GB" in filled.warning[0].value.replace("\\", "")
    assert filled.button(key="live_again_real_layers")


def test_a_layer_that_did_not_fit_is_named_beside_those_that_did(
    filled: AppTest, bundle_dir: Callable[..., Path]
) -> None:
    from app.speed import view
    from moe_core.scenario.spec import Scenario

    bundle_dir(view.real_spec(Scenario()))
    show(filled, "Real sizes")
    assert "DeepSeek-V3 needs 25.8 GB" in filled.warning[0].value.replace("\\", "")


def test_a_sweep_of_a_busy_machine_says_so(app: AppTest, bundle_dir: Callable[..., Path]) -> None:
    bundle_dir(SWEEP, others=1.37)
    open_page(app, "speed")
    badges = [badge for badge in app.markdown if "busy machine" in badge.value]
    assert len(badges) >= 6  # beside the answer, its four numbers and the chart
    assert any("other programs used 1.4 of 2 cores" in caption.value for caption in app.caption)


def test_the_shipped_sweep_paints_first_and_is_predicted(
    app: AppTest, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moe_core.store.ingest.refresh.__defaults__", (REFERENCE,))
    show(app, "Predicted")
    assert app.title[0].value.startswith("On Intel")
    assert "recorded on" in words(app)
    assert [job.status for job in of_lab(queue, "layer_sweep")] == ["queued"]
    assert charts(app) == 2
