"""The runs page: history, open, export, delete, compare, queue and workers."""

from __future__ import annotations

import io
import zipfile
from typing import Any

from streamlit.testing.v1 import AppTest

from moe_core.jobs.queue import JobQueue
from moe_core.settings import REFERENCE, Settings
from tests.asked import asked
from tests.pages.conftest import SPECS, open_page, words

TRACES = 1
SHIPPED = sum(1 for _ in REFERENCE.glob("*/manifest.json")) - TRACES


def select(app: AppTest, *rows: int) -> AppTest:
    """Tick rows of the history as a browser would."""
    state: dict[str, Any] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    app.session_state["runs_table"] = state
    return app.run()


def test_every_run_is_listed_newest_first(filled: AppTest) -> None:
    open_page(filled, "runs")
    table = filled.dataframe[0].value
    assert len(table) == len(SPECS) + SHIPPED + TRACES
    assert table["when (UTC)"].is_monotonic_decreasing
    assert f"{len(SPECS)} runs made here, {SHIPPED} shipped, on " in filled.title[0].value.replace("\\", "")
    assert "and 1 trace of served models" in filled.title[0].value
    trace = table[table["question"] == "trace of a served model"].iloc[0]
    assert trace["mixture"] == "DeepSeek-V2-Lite: 64 experts, top-6, 2 shared"
    assert (trace["work"], trace["text"], trace["device"]) == (
        "33,279 tokens in 213 sequences",
        "its own",
        "served elsewhere",
    )


def test_one_run_can_be_opened(filled: AppTest) -> None:
    open_page(filled, "runs")
    select(filled, 3)
    assert "Synthetic CPU" in words(filled)
    filled.button(key="runs_open").click().run()
    assert filled.session_state["scenario_now"].experts == 32
    assert filled.session_state["scenario_now"].batch == 2


def test_a_bundle_can_be_exported(filled: AppTest) -> None:
    from app.runs import view

    open_page(filled, "runs")
    run_id = str(filled.session_state.get("live_last_bench") or _first(filled))
    names = zipfile.ZipFile(io.BytesIO(view.archive(run_id))).namelist()
    assert f"{run_id}/manifest.json" in names
    assert f"{run_id}/decisions.parquet" in names


def test_two_runs_are_compared(filled: AppTest) -> None:
    open_page(filled, "runs")
    select(filled, 0, 2)
    assert "experts 128 to 32" in words(filled).replace("\\", "")
    assert len(filled.get("vega_lite_chart")) == 1


def test_deleting_asks_first(filled: AppTest, settings: Settings) -> None:
    open_page(filled, "runs")
    before = sorted(path.name for path in settings.runs_dir.iterdir())
    select(filled, 0)
    filled.button(key="runs_delete").click().run()
    assert "go for good" in words(filled)
    assert sorted(path.name for path in settings.runs_dir.iterdir()) == before


def test_delete_removes_rows_and_files(filled: AppTest, settings: Settings) -> None:
    from app import data

    open_page(filled, "runs")
    run_id = _first(filled)
    data.delete(run_id)
    filled.run()
    assert len(filled.dataframe[0].value) == len(SPECS) - 1 + SHIPPED + TRACES
    assert not (settings.runs_dir / run_id).exists()


def test_the_queue_shows_progress_and_can_be_cancelled(filled: AppTest, settings: Settings) -> None:
    queue = JobQueue(settings)
    job = queue.submit(asked(experts=64))
    open_page(filled, "runs")
    assert "64 experts" in str(filled.progress[0].text)
    filled.button(key=f"runs_cancel_{job.job_id}").click().run()
    assert [found.status for found in queue.list_jobs()] == ["cancelled"]


def test_without_a_worker_it_says_how_to_start_one(filled: AppTest) -> None:
    open_page(filled, "runs")
    assert "no worker is alive; start one with: python -m moe_core worker" in words(filled).replace("\\", "")


def _first(app: AppTest) -> str:
    from app import data

    return str(data.history()["run_id"].iloc[0])


def test_a_long_queue_says_how_many_are_not_shown(filled: AppTest, settings: Settings) -> None:
    queue = JobQueue(settings)
    for batch in (1, 2, 4, 8, 16, 32, 64, 128):
        queue.submit(asked(batch=batch, seq=512))
    open_page(filled, "runs")
    assert "8 runs in the queue" in filled.title[0].value
    assert "2 runs behind these" in words(filled)
