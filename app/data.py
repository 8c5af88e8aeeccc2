"""Data: every cache, and the pages' only door to store, queue and registry.

A run never changes under its identity and the moment it was recorded, so what is read from one is
kept by both. Frames and figures are shared between sessions: nobody may change them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from app.figure import Figure
from app.words import measured_here
from moe_core.claims.findings import Findings
from moe_core.decide.case import Recorded
from moe_core.errors import ConfigError, MoEScopeError
from moe_core.jobs import heartbeat
from moe_core.jobs import live as live_file
from moe_core.jobs.heartbeat import Vital
from moe_core.jobs.job import Job
from moe_core.jobs.queue import JobQueue
from moe_core.report import measured
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.scenario import devices as machines
from moe_core.scenario import loads, origin
from moe_core.scenario import subject as fullsize
from moe_core.scenario.devices import Device
from moe_core.scenario.origin import ServedTrace
from moe_core.scenario.resolved import Resolved, resolve
from moe_core.scenario.spec import Scenario
from moe_core.scenario.subject import Full, Room
from moe_core.settings import REFERENCE, Settings
from moe_core.specs import RunSpec
from moe_core.store import copies, experiments, ingest, queries, routing, text
from moe_core.store.db import Store
from moe_core.store.findings import findings as stored_findings
from moe_core.store.queries import Run
from moe_core.version import question_id

_TABLES: dict[str, Callable[..., pd.DataFrame]] = {
    "load": routing.load,
    "load_curve": routing.load_curve,
    "balance": routing.balance,
    "probabilities": routing.probabilities,
    "lift": routing.lift,
    "flow": routing.flow,
    "coactivation": routing.coactivation,
    "distinct": routing.distinct,
    "raster": text.raster,
    "text": text.text,
    "sequences": text.sequences,
    "snippets": text.snippets,
    "timings": queries.timings,
    "layers": queries.layers,
    "memory": queries.memory,
    "quality": queries.quality,
    "series": experiments.series,
    "loads": experiments.loads,
    "findings": experiments.findings,
}


PATIENCE_S = 20.0  # a worker needs about five seconds to start


class Door(NamedTuple):
    """What one installation needs open: its settings, store and queue, and notices from opening them."""

    settings: Settings
    store: Store
    queue: JobQueue
    notices: tuple[str, ...]


def door() -> Door:
    """Open once per process and data directory. Raises StoreError or ConfigError, one sentence."""
    return _open(os.environ.get("MOE_DATA_DIR", ""))


@st.cache_resource(show_spinner=False, on_release=lambda opened: _close(opened))
def _open(_directory: str) -> Door:
    settings = Settings.load()
    store = Store.open(settings)
    report = ingest.refresh(store)
    copies.refill(store)
    return Door(settings, store, JobQueue(settings), (*store.notices, *report.problems))


def _close(opened: Door) -> None:
    opened.queue.close()
    opened.store.close()


# -- runs ------------------------------------------------------------------------------------------


def run(run_id: str) -> Run:
    """One run's question, device and summary. Raises ConfigError if the store does not have it."""
    return queries.run(door().store, run_id)


def frame(name: str, of: Run, **options: Any) -> pd.DataFrame:
    """A table of `_TABLES` for one run; shared, so not to be changed."""
    return _frame(name, _identity(of), tuple(sorted(options.items())))


def figure(drawn: Callable[..., Figure], of: Run, **options: Any) -> Figure:
    """A figure of one run, compiled once: `drawn` is a function of a page's `frames`."""
    name = f"{drawn.__module__}.{drawn.__qualname__}"
    return _figure(name, _identity(of), tuple(sorted(options.items())), drawn, of)


def _identity(of: Run) -> tuple[str, ...]:
    return (str(door().settings.data_dir), of.run_id, of.created.isoformat(), str(of.complete))


@st.cache_resource(show_spinner=False, max_entries=512)
def _frame(name: str, identity: tuple[str, ...], options: tuple[Any, ...]) -> pd.DataFrame:
    return _TABLES[name](door().store, identity[1], **dict(options))


@st.cache_resource(show_spinner=False, max_entries=512)
def _figure(
    name: str,
    identity: tuple[str, ...],
    options: tuple[Any, ...],
    _drawn: Callable[..., Figure],
    _of: Run,
) -> Figure:
    return _drawn(_of, **dict(options))


def history(lab: str | None = None) -> pd.DataFrame:
    """Every run, newest first. Not cached: it changes with every run, and takes 2 ms."""
    return queries.history(door().store, lab)


def experiments_run() -> pd.DataFrame:
    """The newest complete run of each experiment and setting, made here and shipped; shared."""
    return _experiments_run(door().store.state)


@st.cache_resource(show_spinner=False, max_entries=16)
def _experiments_run(state: str) -> pd.DataFrame:
    return experiments.newest(door().store)


def live(job_id: str) -> dict[str, Any] | None:
    """What an experiment that goes on has measured so far; None when there is nothing yet."""
    return live_file.read(door().settings.data_dir, job_id)


def calibration_of(device_key: str) -> Run | None:
    """The newest calibration of a device, one made here before a shipped one; None if there is none."""
    found = [run(run_id) for run_id in history("calibrate")["run_id"]]
    known = [one for one in found if one.provenance["device_key"] == device_key]
    return min(known, key=lambda one: one.reference is not None, default=None)


def diff(run_id_a: str, run_id_b: str) -> pd.DataFrame:
    """Two runs side by side: measurement by measurement, or finding by finding where both are experiments."""
    both = (run_id_a, run_id_b)
    findings = all("findings" in run(run_id).summary for run_id in both)
    return (experiments.diff if findings else queries.diff)(door().store, *both)


def delete(run_id: str) -> None:
    """Delete a run made here. Raises ConfigError for a shipped one."""
    ingest.delete(door().store, run_id)


def take_in(run_id: str) -> None:
    """Bring a finished run into the store. Raises StoreError if its bundle is corrupt."""
    with _writing():
        ingest.ingest_run(door().store, run_id)


def take_in_quietly(run_id: str) -> None:
    """Like `take_in`, for a run nobody looks at now: what is wrong with it shows when somebody does."""
    with suppress(MoEScopeError):
        take_in(run_id)


@st.cache_resource(show_spinner=False)
def _writing() -> threading.Lock:
    """Two sessions that wait for the same run would both insert it."""
    return threading.Lock()


def bundle_of(run_id: str) -> Bundle | None:
    """The bundle of a run made here or shipped; None if it is gone since."""
    with suppress(MoEScopeError):
        return measured.find(run_id, door().settings.runs_dir, REFERENCE)
    return None


def bundle_path(run_id: str) -> Path | None:
    """Where the bundle of a run made here lies; None for a shipped run."""
    path = door().settings.runs_dir / bundle.check_run_id(run_id)
    return path if path.is_dir() else None


# -- questions -------------------------------------------------------------------------------------


def answer(spec: RunSpec) -> str | None:
    """The run made here that answers this question with this code; None if there is none yet."""
    return _found("answer", spec)


def routing_of(spec: RunSpec) -> str | None:
    """The run made here whose routing answers this question, even if the rest is still being measured."""
    return _found("routing", spec)


def same_question(spec: RunSpec) -> str | None:
    """The newest run of the same spec by any version on any device; own runs before shipped ones."""
    return _found("same", spec)


def nearest(spec: RunSpec) -> str | None:
    """The run most like `spec`, a shipped one if there is any."""
    return _found("nearest", spec)


def _found(what: str, spec: RunSpec) -> str | None:
    return _looked_up(what, door().store.state, spec.fingerprint(), spec)


@st.cache_data(show_spinner=False, max_entries=4_096)
def _looked_up(what: str, state: str, question: str, _spec: RunSpec) -> str | None:
    """Asked once until somebody writes: a rerun wants the same run for its heatmap and for its verdict."""
    return _LOOKUPS[what](door().store, _spec)


def _own(store: Store, spec: RunSpec, whole: bool) -> str | None:
    found = queries.latest(store, question_id(spec), whole=whole)
    return found if found and queries.run(store, found).reference is None else None


_LOOKUPS: dict[str, Callable[[Store, RunSpec], str | None]] = {
    "answer": lambda store, spec: _own(store, spec, True),
    "routing": lambda store, spec: _own(store, spec, False),
    "same": queries.latest_for_spec,
    "nearest": lambda store, spec: (
        queries.nearest(store, spec) or queries.nearest(store, spec, reference_only=False)
    ),
}


def exists(run_id: str) -> bool:
    """Whether the store has this run."""
    try:
        return bool(queries.key(door().store, run_id))
    except ConfigError:
        return False


def job_of(spec: RunSpec) -> Job | None:
    """The job of a question, if it was ever submitted."""
    return door().queue.get(question_id(spec))


def job(job_id: str) -> Job | None:
    """One job as it is now."""
    return door().queue.get(job_id)


def jobs() -> list[Job]:
    """The last jobs, newest first."""
    return door().queue.list_jobs()


def submit(spec: RunSpec, *, when_idle: bool = False, while_wanted: bool = False) -> Job:
    """Ask. Raises ConfigError when too many wait, StoreError when the queue cannot be used.

    when_idle: measure again, as soon as the machine has nothing else to do. while_wanted: a page asks by
    itself, so the job is dropped when no page looks at it any more.
    """
    return door().queue.submit(spec, when_idle=when_idle, while_wanted=while_wanted)


def want(job_id: str) -> None:
    """An open page still waits for this job."""
    door().queue.want(job_id)


def cancel(job_id: str) -> None:
    """Wish a job away."""
    door().queue.cancel(job_id)


def workers() -> list[Vital]:
    """Every worker that ever lived here, the live ones first."""
    return heartbeat.workers(door().settings.data_dir)


def nobody_answers(job: Job) -> bool:
    """Whether a job has waited long while no worker lives: one that cannot start is restarted in silence."""
    waiting = time.time() - job.submitted
    return waiting > PATIENCE_S and not any(v.alive and v.beat.phase != "starting" for v in workers())


def worker_log() -> str:
    """Where a worker writes what went wrong."""
    return str(door().settings.data_dir / "worker.log")


def worker_words() -> str | None:
    """What keeps jobs from being taken, in words; None when a worker is alive and well."""
    vitals = [vital for vital in workers() if vital.alive]
    if not vitals:
        if door().settings.worker == "external":
            return "no worker is alive; start one with: python -m moe_core worker"
        return "the worker is starting"
    if all(vital.hung for vital in vitals):
        return f"the worker has been silent for {vitals[0].age_s:.0f} s and is being restarted"
    return "the worker is starting" if all(v.beat.phase == "starting" for v in vitals) else None


def validated(values: dict[str, Any]) -> RunSpec | None:
    """A recorded spec as this version reads it; None if it no longer can be asked."""
    try:
        return RunSpec.parse(values)
    except ConfigError:
        return None


# -- the load that was recorded --------------------------------------------------------------------


def traces() -> tuple[ServedTrace, ...]:
    """The traces of served models that are here, the newest first."""
    return _traces(door().store.state)


@st.cache_resource(show_spinner=False, max_entries=16)
def _traces(state: str) -> tuple[ServedTrace, ...]:
    found = [run(run_id) for run_id in history("trace")["run_id"]]
    titles = [one.spec["title"] for one in found]
    return tuple(
        ServedTrace(
            one.run_id,
            one.spec["title"] + (f" ({one.run_id[:6]})" if titles.count(one.spec["title"]) > 1 else ""),
            one.spec["model"],
            int(one.spec["experts"]),
            int(one.spec["top_k"]),
            one.created,
            one.reference is not None,
        )
        for one in found
    )


def hears(scenario: Scenario) -> Run | None:
    """The run whose recorded load is put on the full size; None is even. Raises ConfigError."""
    return heard(scenario.run_spec(), scenario.bank, scenario.load)


def heard(spec: RunSpec, bank: tuple[int, ...] | None, load: str) -> Run | None:
    """The same, for a mixture of so many experts and top-k."""
    which = origin.chosen(load, bank, traces())
    return None if which == origin.EVEN else tested(spec) if which == origin.TEST else run(which)


def tested(spec: RunSpec) -> Run | None:
    """The test model's answer: this question's own, else the nearest there is."""
    with suppress(ConfigError):
        found = answer(spec) or same_question(spec) or nearest(spec)
        return run(found) if found else None
    return None


def recorded(of: Run) -> Recorded:
    """What a run of the test model tells of the load on the experts."""
    return _recorded(_identity(of), of)


@st.cache_resource(show_spinner=False, max_entries=256)
def _recorded(identity: tuple[str, ...], _of: Run) -> Recorded:
    here = not _of.reference and not _of.served
    return Recorded(loads.recorded(frame("load", _of)), measured_here(_of), here)


def resolved(scenario: Scenario) -> Resolved:
    """The scenario in full with the load that is heard, as reviews, links and files keep it."""
    found = hears(scenario)
    return resolve(scenario, recorded(found) if found else None)


# -- what experiments found ------------------------------------------------------------------------


def state() -> str:
    """Another word after every write to the store: what was made of its rows still holds while it is one."""
    return door().store.state


def findings() -> Findings:
    """What the complete runs of experiments found, by lab and name."""
    return _findings(state())


@st.cache_resource(show_spinner=False, max_entries=4)
def _findings(state: str) -> Findings:
    """Asked once until somebody writes."""
    return stored_findings(door().store)


# -- full size -------------------------------------------------------------------------------------


def architectures() -> tuple[str, ...]:
    """Published mixtures, the default first."""
    return fullsize.architectures()


def devices() -> tuple[str, ...]:
    """Hardware the full size can be judged on, the default first."""
    return tuple(device.name for device in machines.devices())


@st.cache_data(show_spinner=False, max_entries=256)
def full_size(scenario: Scenario) -> Full:
    """The scenario's architecture at full size."""
    return fullsize.full(scenario._replace(text=None))


def device(scenario: Scenario) -> Device:
    """The hardware of the scenario."""
    return machines.get(scenario.hardware)


def room(scenario: Scenario) -> Room:
    """How far the full size goes on the scenario's hardware."""
    return _room(scenario._replace(text=None), device(scenario))


@st.cache_data(show_spinner=False, max_entries=256)
def _room(scenario: Scenario, on: Device) -> Room:
    return fullsize.room(scenario, on)
