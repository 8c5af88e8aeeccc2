"""Waiting, landing, failing, cancelling: what a page shows while its question is under way."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from moe_core.errors import MoEScopeError
from moe_core.jobs import records
from moe_core.jobs.queue import JobQueue
from moe_core.settings import Settings
from tests.asked import ASKED, asked
from tests.pages.conftest import open_page, words


@pytest.fixture
def queue(settings: Settings) -> JobQueue:
    """The installation's queue, as a worker sees it."""
    return JobQueue(settings)


def take(queue: JobQueue) -> str:
    """Claim the next job like a worker; its id."""
    while (ticket := queue.take()) is not None:
        if queue.claim(ticket.job_id, "worker", "Test device"):
            return ticket.job_id
    raise AssertionError("no job is waiting")


def test_a_change_asks_by_itself_and_shows_the_last_answer_dimmed(filled: AppTest, queue: JobQueue) -> None:
    open_page(filled, "overview")
    assert not queue.list_jobs()  # the default question is answered in the store
    filled.select_slider(key="experts").set_value(8).run()
    (job,) = queue.list_jobs()
    assert (job.spec.experts, job.status) == (8, "queued")
    assert "Waiting to run here" in str(filled.progress[0].text)
    assert "Dimmed below" in words(filled)
    dimmed = "".join(html.value for html in filled.html)
    assert "st-key-routing" in dimmed  # the stand-in, until the new one lands
    assert "st-key-result" not in dimmed  # the verdict is true for the load it was computed with
    assert filled.metric


def test_what_is_no_longer_wanted_is_cancelled(filled: AppTest, queue: JobQueue) -> None:
    open_page(filled, "overview")
    for experts in (8, 64, 16):
        filled.select_slider(key="experts").set_value(experts).run()
    assert {job.spec.experts: job.status for job in queue.list_jobs()} == {
        8: "cancelled",
        64: "cancelled",
        16: "queued",
    }


def test_going_back_asks_again(filled: AppTest, queue: JobQueue) -> None:
    """A question that was superseded is not one that the user stopped."""
    open_page(filled, "overview")
    for experts in (8, 64, 8):
        filled.select_slider(key="experts").set_value(experts).run()
    assert {job.spec.experts: job.status for job in queue.list_jobs()} == {64: "cancelled", 8: "queued"}


def test_progress_has_a_stage_and_the_time_left(filled: AppTest, queue: JobQueue) -> None:
    open_page(filled, "overview")
    filled.select_slider(key="experts").set_value(8).run()
    queue.report(take(queue), "time [x](y)", 0.4, 3.21)
    filled.run()
    line = str(filled.progress[0].text)
    assert "40%" in line
    assert "about 3.2 s left" in line
    assert "](" not in line
    assert filled.progress[0].value == 40


def test_the_answer_replaces_the_stand_in(
    filled: AppTest, queue: JobQueue, bundle_dir: Callable[..., Path]
) -> None:
    open_page(filled, "overview")
    filled.select_slider(key="experts").set_value(8).run()
    job_id = take(queue)
    run_id = bundle_dir(asked(experts=8), seed=9).name
    job = queue.get(job_id)
    assert job is not None
    queue.finish(job, "done", run_id=run_id)
    filled.run()
    assert not filled.progress
    assert "Dimmed below" not in words(filled)
    assert filled.session_state["live_last_bench"] == run_id


def test_the_routing_is_shown_while_the_rest_is_measured(
    filled: AppTest, queue: JobQueue, bundle_dir: Callable[..., Path]
) -> None:
    open_page(filled, "overview")
    filled.select_slider(key="experts").set_value(8).run()
    job_id = take(queue)
    run_id = bundle_dir(asked(experts=8), seed=9, complete=False).name
    queue.report(job_id, "time", 0.5, 3.0, run_id)
    filled.run()
    assert "The routing below was recorded here" in words(filled)
    assert "50%" in str(filled.progress[0].text)
    dimmed = " ".join(str(element.value) for element in filled.html)
    assert "st-key-evidence" in dimmed
    assert "st-key-routing" not in dimmed
    filled.switch_page("../pages/routing.py").run()
    assert not filled.exception
    assert "Dimmed below" not in words(filled)
    bundle_dir(asked(experts=8), seed=9)
    job = queue.get(job_id)
    assert job is not None
    queue.finish(job, "done", run_id=run_id)
    filled.run()
    assert not filled.progress
    assert "was recorded here a moment ago" not in words(filled)


def test_a_part_that_cannot_be_read_is_tried_once(filled: AppTest, queue: JobQueue) -> None:
    open_page(filled, "overview")
    filled.select_slider(key="experts").set_value(8).run()
    queue.report(take(queue), "time", 0.5, 3.0, "0123456789abcdef")  # there is no such bundle
    filled.run()
    assert not filled.exception
    assert "50%" in str(filled.progress[0].text)
    assert "was recorded here a moment ago" not in words(filled)


def test_a_busy_measurement_says_so_and_is_made_again_on_request(
    app: AppTest, queue: JobQueue, bundle_dir: Callable[..., Path]
) -> None:
    before = datetime.now(UTC) - timedelta(minutes=5)
    run_id = bundle_dir(ASKED, seed=0, created=before, others=1.37).name
    open_page(app, "overview")
    assert "other programs used 1.4 of 2 cores" in words(app)
    assert "busy machine" not in words(app)  # neither decisions nor quality depend on it
    app.button(key="live_idle_bench").click().run()
    (job,) = queue.list_jobs()
    assert (job.status, job.when_idle) == ("queued", True)
    assert "nothing else to do" in str(app.progress[0].text)
    taken = queue.get(take(queue))
    assert taken is not None
    bundle_dir(ASKED, seed=0)
    queue.finish(taken, "done", run_id=run_id)
    app.run()
    assert not app.progress
    assert "other programs used" not in words(app)


def test_cancel_stops_and_stays_stopped_until_asked_again(filled: AppTest, queue: JobQueue) -> None:
    open_page(filled, "overview")
    filled.select_slider(key="experts").set_value(8).run()
    filled.button(key="live_cancel_bench").click().run()
    filled.run()
    assert "You cancelled this run" in filled.info[0].value
    assert [job.status for job in queue.list_jobs()] == ["cancelled"]
    filled.button(key="live_again_bench").click().run()
    assert [job.status for job in queue.list_jobs()] == ["queued"]


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        ("failed", "error", "the worker died 2 times during this run"),
        ("cancelled", "error", "stopped in stage 'time': time_limit_s (120) ran out; ask for fewer tokens"),
        ("infeasible", "warning", "needs 93.4 GB, the device has 80.0 GB"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_a_way_on(
    filled: AppTest, queue: JobQueue, status: str, kind: str, error: str
) -> None:
    open_page(filled, "overview")
    filled.select_slider(key="experts").set_value(8).run()
    job = queue.get(take(queue))
    assert job is not None
    queue.finish(job, status, error=MoEScopeError(error))  # type: ignore[arg-type]
    filled.run()
    (shown,) = filled.get(kind)
    assert shown.value.replace("\\", "") == error
    assert filled.button(key="live_again_bench")
    assert not filled.exception
    assert len(queue.list_jobs()) == 1  # it does not ask again by itself


@pytest.mark.parametrize("status", ["failed", "cancelled", "infeasible"])
def test_a_failure_is_of_the_session_that_saw_it(filled: AppTest, queue: JobQueue, status: str) -> None:
    """A new session never sees it: it asks again, quietly and once."""
    error = MoEScopeError("stopped in stage 'time': time_limit_s (120) ran out; ask for fewer tokens")
    job = queue.submit(asked(experts=8))
    taken = queue.get(take(queue))
    assert taken is not None
    queue.finish(taken, status, error=error)  # type: ignore[arg-type]
    open_page(filled, "overview")
    filled.select_slider(key="experts").set_value(8).run()
    assert "ran out" not in words(filled)
    assert "Waiting to run here" in str(filled.progress[0].text)
    again = queue.get(take(queue))
    assert again is not None
    assert again.job_id == job.job_id
    queue.finish(again, status, error=error)  # type: ignore[arg-type]
    filled.run()
    assert "ran out" in words(filled)  # this one is its own
    filled.run()
    ended = queue.get(job.job_id)
    assert ended is not None
    assert ended.status == status


def test_a_closed_tab_withdraws_what_it_asked(
    filled: AppTest, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page(filled, "overview")
    filled.select_slider(key="experts").set_value(8).run()
    (job,) = queue.list_jobs()
    assert job.status == "queued"
    later = time.time() + records.PATIENCE_S + 1
    monkeypatch.setattr(records.time, "time", lambda: later)
    (job,) = queue.list_jobs()
    assert job.status == "cancelled"
    filled.run()  # a tab that was hidden and comes back asks again
    (job,) = queue.list_jobs()
    assert job.status == "queued"


def test_a_shipped_run_paints_first_and_says_where_it_is_from(
    filled: AppTest, queue: JobQueue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same question recorded elsewhere is shown undimmed while this device answers."""
    from app import data

    monkeypatch.setattr(data, "answer", lambda spec: None)
    open_page(filled, "overview")
    assert len(queue.list_jobs()) == 1
    assert "This is the same question recorded on Synthetic CPU" in words(filled)
    assert "opacity" not in "".join(html.value for html in filled.html)


def test_the_sweep_is_asked_only_when_its_tab_is_open(filled: AppTest, queue: JobQueue) -> None:
    open_page(filled, "routing")
    assert not queue.list_jobs()
    filled.query_params["view"] = "Quality against k"
    filled.session_state["view"] = "Quality against k"
    filled.select_slider(key="experts").set_value(32).run()
    assert [job.spec.lab for job in queue.list_jobs()] == ["topk_sweep"]


@pytest.mark.parametrize("page", ["decide", "economics", "compare", "reviews", "accuracy", "architectures"])
def test_a_page_that_needs_no_run_asks_for_none(filled: AppTest, queue: JobQueue, page: str) -> None:
    filled.query_params["experts"] = "8"  # nobody ran that
    open_page(filled, page)
    assert not queue.list_jobs()
    assert "Waiting to run here" not in " ".join(str(bar.text) for bar in filled.progress)
