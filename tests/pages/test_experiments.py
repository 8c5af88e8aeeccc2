"""Balancing, Conversion, Experiments: an answer from the runs there are, a designed state where none is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from moe_core.errors import MoEScopeError
from moe_core.jobs import live
from moe_core.jobs.queue import JobQueue
from moe_core.labs.training.picks import strategy
from moe_core.labs.training.table import TABLE, question
from moe_core.settings import Settings
from tests import synthetic
from tests.pages.conftest import open_page, words

PAGES = ("balancing", "conversion", "experiments")
Write = Callable[..., Path]


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Path:
    """No shipped runs: what each test has, it writes."""
    return ships(monkeypatch, Path("none"))


def ships(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Path:
    """Take the shipped runs from another directory."""
    monkeypatch.setattr("moe_core.store.ingest.refresh.__defaults__", (directory,))
    return directory


@pytest.fixture
def queue(settings: Settings) -> JobQueue:
    return JobQueue(settings)


def tab(app: AppTest, key: str, name: str) -> AppTest:
    """Open a tab as a click does."""
    app.session_state[key] = name
    app.run()
    assert not app.exception, app.exception
    return app


def plain(text: str) -> str:
    return text.replace("\\", "")


@pytest.mark.parametrize("page", PAGES)
def test_without_a_run_the_page_says_so_and_how_to_make_one(app: AppTest, page: str, queue: JobQueue) -> None:
    open_page(app, page)
    assert not app.error
    assert len(app.title) == 1
    assert any(button.label.endswith(("run it here, quick", "Quick")) for button in app.button)
    assert not queue.list_jobs()  # opening a page starts nothing


@pytest.mark.parametrize(
    ("page", "key", "name"),
    [
        *(
            ("balancing", "balance", name)
            for name in ("The load, step by step", "What it costs", "Bias", "Gates")
        ),
        *(
            ("conversion", "convert", name)
            for name in ("Train dense, infer sparse", "Drift after fine-tuning")
        ),
        ("experiments", "top", "One experiment"),
    ],
)
def test_every_tab_has_a_state_without_runs(app: AppTest, page: str, key: str, name: str) -> None:
    open_page(app, page)
    tab(app, key, name)
    assert not app.error
    assert "run" in words(app)


def test_balancing_answers_from_the_runs(app: AppTest, bundle_dir: Write) -> None:
    bundle_dir(question("collapse", "full"))
    open_page(app, "balancing")
    answer = plain(app.title[0].value)
    late = [
        math.sin(seed + step) for seed in range(3) for step in (90, 100)
    ]  # the last quarter of ten windows
    share = 1 + 4 * (1 + 0.05 * sum(late) / len(late))
    # k = 2 is nearest to the scenario's 8
    assert answer.startswith(
        f"At k = 2 the busiest expert does {share:.3g}× its fair share without balancing"
    )
    assert answer.endswith("the loss does not tell them apart")
    assert len(app.metric) == 4
    assert all("test model" in one.label or "full size" in one.label for one in app.metric)
    badges = re.findall(r"-badge\[[^\]]*(measured here|measured elsewhere|published|modelled)", words(app))
    assert len(badges) >= len(app.metric) + len(app.get("vega_lite_chart"))


def test_one_seed_is_never_told_as_a_law(app: AppTest, bundle_dir: Write) -> None:
    bundle_dir(question("collapse"))
    open_page(app, "balancing")
    assert "one seed cannot say" in plain(app.title[0].value)
    assert "one seed: no interval" in plain(words(app))


@pytest.mark.parametrize(
    "name",
    ["Your strategies", "The load, step by step", "What it costs", "Two ways to fail", "Auxiliary loss"],
)
def test_every_tab_of_balancing_draws(app: AppTest, bundle_dir: Write, name: str) -> None:
    bundle_dir(question("collapse", "full"))
    bundle_dir(question("auxiliary"))
    bundle_dir(question("balancing", strategies=[strategy("none")]))
    open_page(app, "balancing")
    tab(app, "balance", name)
    charts = app.get("vega_lite_chart")
    assert len(charts) > 1  # the one above the tabs, and the tab's own
    assert all(len(chart.proto.alt) > 20 for chart in charts)


def test_the_dual_is_drawn_beside_the_bias(app: AppTest, bundle_dir: Write) -> None:
    bundle_dir(question("bias", "full"))
    open_page(app, "balancing")
    tab(app, "balance", "Bias")
    assert "Each rule goes uphill on one dual problem" in words(app)
    titles = [plain(one.value) for one in app.header]
    (dual,) = (one for one in titles if one.startswith("The value of the dual ends"))
    assert "highest with dual, quantile" in dual
    assert any(one.startswith("The share of pairs above even ends") for one in titles)


def test_both_failures_are_named(app: AppTest, bundle_dir: Write) -> None:
    bundle_dir(question("collapse", "full"))
    open_page(app, "balancing")
    tab(app, "balance", "Two ways to fail")
    assert "none, k=1 and none, k=2 collapsed" in plain(words(app))


def test_the_price_follows_the_hardware(app: AppTest, bundle_dir: Write) -> None:
    bundle_dir(question("collapse", "full"))
    open_page(app, "balancing")
    before = app.metric[3].value
    app.selectbox(key="hardware").set_value("A100 80GB").run()
    assert not app.exception
    assert app.metric[3].value != before
    assert "A100" in words(app)


def test_a_button_starts_it_and_only_a_button(app: AppTest, queue: JobQueue) -> None:
    open_page(app, "balancing")
    app.button(key="run_quick_collapse").click().run()
    (job,) = queue.list_jobs()
    assert job.spec == question("collapse")
    assert job.lane == "training"
    assert queue.get(job.job_id) is not None
    assert "waiting for its worker" in str(app.progress[0].text)
    assert app.button(key="run_quick_collapse").disabled


def test_own_strategies_are_asked_as_they_are_picked(app: AppTest, queue: JobQueue) -> None:
    open_page(app, "balancing")
    app.selectbox(key="arm_2").set_value("z-loss").run()
    assert app.number_input(key="strength_2").value == 0.001  # its usual number comes along
    app.button(key="run_balancing").click().run()
    (job,) = queue.list_jobs()
    assert job.spec.training is not None
    assert job.spec.training.strategies == (strategy("none"), strategy("z"), strategy("sign"))
    scenario = app.session_state["scenario_now"].run_spec()
    assert (scenario.experts, scenario.top_k) == (128, 8)
    assert (job.spec.experts, job.spec.top_k) == (32, 2)  # a quick run pays no more: the same share is active


def test_live_curves_are_drawn_while_it_trains(
    app: AppTest, queue: JobQueue, settings: Settings, bundle_dir: Write
) -> None:
    open_page(app, "balancing")
    app.button(key="run_quick_collapse").click().run()
    ticket = queue.take()
    assert ticket is not None
    job = queue.claim(ticket.job_id, "worker-training", "cpu-elsewhere")
    assert job is not None
    curve = {"arm": "none, k=1", "seed": 0, "metric": "maxvio_step", "axis": "step"}
    picture = {
        "lab": "collapse",
        "series": [{**curve, "x": [7.0, 14.0], "value": [2.0, 3.0]}],
        "loads": [{"arm": "none, k=1", "seed": 0, "step": 14, "load": [[1, 7], [4, 4]]}],
    }
    live.show(settings.data_dir, job.job_id, picture)
    queue.report(job.job_id, "train", 0.25, 30.0)
    app.run()
    assert not app.exception
    assert "training, 25%, about 30 s left" in plain(str(app.progress[0].text))
    assert len(app.get("vega_lite_chart")) == 2
    assert "is now at 3.00" in plain(words(app))
    run_id = synthetic.write_bundle(settings.runs_dir, job.spec, device_key="cpu-elsewhere").name
    queue.finish(job, "done", run_id=run_id)
    live.forget(settings.data_dir, job.job_id)
    app.run()
    assert not app.exception
    assert not app.progress
    assert "busiest expert does" in app.title[0].value  # what was trained answers at once


def test_cancelled_and_failed_are_told(app: AppTest, queue: JobQueue) -> None:
    open_page(app, "balancing")
    app.button(key="run_quick_collapse").click().run()
    app.button(key="cancel_collapse").click().run()
    app.run()
    assert "Collapse without balancing: cancelled" in plain(words(app))
    app.button(key="run_quick_collapse").click().run()
    for _ in range(2):  # the message of the cancelled one is dropped
        ticket = queue.take()
        job = queue.claim(ticket.job_id, "worker-training", None) if ticket else None
        if job:
            queue.finish(job, "failed", error=MoEScopeError("none, seed 0: loss is nan at step 7"))
    app.run()
    assert "loss is nan" in plain(app.error[0].value)


def test_shipped_and_own_stand_side_by_side(
    app: AppTest, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = ships(monkeypatch, tmp_path / "reference")
    shipped.mkdir()
    made = synthetic.write_bundle(tmp_path / "made", question("collapse", "full"), device_key="elsewhere")
    made.rename(shipped / "collapse-full")
    synthetic.write_bundle(settings.runs_dir, question("collapse"))
    open_page(app, "balancing")
    kinds = words(app)
    assert "measured elsewhere" in kinds
    assert "measured here" in kinds
    assert "line: trained here, points alone: shipped" in plain(kinds)
    app.switch_page("../pages/experiments.py").run()
    assert "1 of 14 experiments have a reference run, 1 was run here" in plain(app.title[0].value)


def test_all_experiments_are_listed_with_their_state(
    app: AppTest, bundle_dir: Write, queue: JobQueue
) -> None:
    bundle_dir(question("collapse", "full"))
    queue.submit(question("bias"))
    open_page(app, "experiments")
    said = plain(words(app))
    for name, row in TABLE.items():
        assert name == "balancing" or row.question in said
    assert "run here, full, 3 seeds" in said
    assert "queued, 0%" in said
    assert "not run yet" in said
    assert app.button(key="quick_bias").disabled
    assert not app.button(key="full_collapse").disabled


def test_an_experiment_is_opened_from_the_list(app: AppTest, bundle_dir: Write) -> None:
    bundle_dir(question("bias", "full"))
    open_page(app, "experiments")
    app.button(key="open_bias").click().run()
    assert not app.exception
    assert TABLE["bias"].question in plain(words(app))
    assert "What was found" in plain(words(app))


def test_a_replay_plays_from_the_start_to_the_end(app: AppTest, bundle_dir: Write) -> None:
    bundle_dir(question("bias", "full"))
    app.query_params["experiment"] = f"{TABLE['bias'].code} {TABLE['bias'].title}"
    open_page(app, "experiments")
    tab(app, "top", "One experiment")
    assert app.select_slider(key="step_bias").value == 100
    app.button(key="button_bias").click().run()
    shown = [app.select_slider(key="step_bias").value]
    while app.session_state["play_bias"]:
        app.run()
        shown.append(app.select_slider(key="step_bias").value)
        assert len(shown) < 20
    assert not app.exception
    assert shown == sorted(shown)
    assert shown[0] <= 20
    assert shown[-1] == 100
    app.run()
    assert app.button(key="button_bias").label == "Play"


def test_the_history_names_experiments_and_opens_them(
    app: AppTest, bundle_dir: Write, queue: JobQueue
) -> None:
    bundle_dir(question("collapse"))
    bundle_dir(question("collapse", "full"))
    queue.submit(question("gates"))
    open_page(app, "runs")
    assert "E1 Mask first or softmax first: quick" in plain(str(app.progress[0].text))
    table = app.dataframe[0].value
    assert set(table["question"]) == {"E2 Collapse without balancing"}
    assert set(table["work"]) == {"training, quick", "training, full"}
    app.session_state["runs_table"] = {"selection": {"rows": [0, 1], "columns": [], "cells": []}}
    app.run()
    assert not app.exception
    assert "setting" in plain(words(app))
    assert len(app.get("vega_lite_chart")) == 1
    app.session_state["runs_table"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    app.run()
    app.button(key="runs_open").click().run()
    assert not app.exception
    assert TABLE["collapse"].question in plain(words(app))


@pytest.mark.parametrize(
    ("page", "field", "value"),
    [
        ("balancing", "balance", "nope"),
        ("conversion", "convert", "nope"),
        ("experiments", "experiment", "E99"),
    ],
)
def test_what_a_link_asks_in_vain_is_named(app: AppTest, page: str, field: str, value: str) -> None:
    app.query_params[field] = value
    if page == "experiments":
        app.query_params["top"] = "One experiment"
    open_page(app, page)
    if page == "experiments":
        tab(app, "top", "One experiment")
    said = [plain(str(warning.value)) for warning in app.sidebar.warning]
    assert any(one.startswith(f"{field} ({value})") for one in said), said
