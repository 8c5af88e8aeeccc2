"""History: the runs page's parts. Queue and workers, the table, one run, two runs."""

from __future__ import annotations

import io
import json
import time
import zipfile
from typing import Any

import pandas as pd
import streamlit as st

from app import data, panels
from app.experiments import view as experiments
from app.runs import charts
from app.words import ago, escape, measured_here, seconds
from moe_core.errors import MoEScopeError
from moe_core.jobs.heartbeat import Vital
from moe_core.jobs.job import Job
from moe_core.labs.training.picks import words as strategy_words
from moe_core.labs.training.table import TABLE
from moe_core.report.text import many
from moe_core.scenario.spec import CHOICES, describe
from moe_core.specs import Strategy
from moe_core.store.queries import Run
from moe_core.units import quantity

SHOWN_JOBS = 6
TRACE = "trace"
QUESTIONS: dict[str, str] = {
    "bench": "dense beside mixture",
    "topk_sweep": "quality against k",
    "layer_sweep": "one layer over tokens",
    "real_layers": "layers of real size",
    "calibrate": "calibration",
    TRACE: "trace of a served model",
    **{name: f"{row.code} {row.title}".strip() for name, row in TABLE.items()},
}


def sentence(table: pd.DataFrame) -> str:
    """The page's answer: how much there is and what happens now."""
    active = sum(job.active for job in data.jobs())
    now = many(active, "runs") + " in the queue" if active else "nothing is running"
    if table.empty:
        return f"No run is recorded yet; {now}"
    runs = table[table["lab"] != TRACE]
    made, devices = int(runs["reference"].isna().sum()), int(runs["device"].nunique())
    shipped, traces = len(runs) - made, len(table) - len(runs)
    here = many(made, "runs") if made else "No run"
    beside = f", and {many(traces, 'traces')} of served models" if traces else ""
    return f"{here} made here, {shipped} shipped, on {many(devices, 'devices')}{beside}; {now}"


# -- queue and workers -----------------------------------------------------------------------------


def queue() -> None:
    """Jobs and workers, refreshed while anything is under way."""
    active = any(job.active for job in data.jobs())
    st.fragment(_queue, run_every=1.0 if active else None)(active)


def _queue(was_active: bool) -> None:
    jobs = data.jobs()
    if was_active and not any(job.active for job in jobs):
        for job in jobs[:SHOWN_JOBS]:
            if job.run_id:
                data.take_in_quietly(job.run_id)
        st.rerun()
    left, right = panels.pair()
    with left, panels.aside("Queue"):
        shown = [job for job in jobs if job.active] or jobs[:3]
        if not shown:
            st.caption("Nothing was asked since this installation was made.")
        for job in shown[:SHOWN_JOBS]:
            _job(job)
        if (more := len(shown) - SHOWN_JOBS) > 0:
            st.caption(f"{many(more, 'runs')} behind these: the next ones move up as these end.")
    with right, panels.aside("Workers"):
        vitals = data.workers()
        if not vitals:
            st.caption(escape(data.worker_words() or ""))
        for vital in vitals:
            _worker(vital)


def _job(job: Job) -> None:
    spec = job.spec
    mixture = describe(spec.experts, spec.top_k, spec.shared)
    name = f"{QUESTIONS[spec.lab]}: {mixture}, batch {spec.batch} × {spec.seq}"
    if spec.training is not None:
        name = f"{QUESTIONS[spec.lab]}: {spec.training.setting}"
    if job.active:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            eta = f", about {quantity(max(job.eta_s, 0.1), 's', 2)} left" if job.eta_s is not None else ""
            st.progress(job.fraction, text=escape(f"{name}: {job.stage}, {job.fraction:.0%}{eta}"))
            st.button("Cancel", key=f"runs_cancel_{job.job_id}", on_click=data.cancel, args=(job.job_id,))
        return
    colour = {"done": "green", "cancelled": "gray"}.get(job.status, "orange")
    line = f":{colour}-badge[{job.status}] {escape(name)}, {ago(job.finished or job.submitted)}"
    st.markdown(line + (f": {escape(job.error)}" if job.error and job.status != "done" else ""))


def _worker(vital: Vital) -> None:
    beat = vital.beat
    if not vital.alive:
        st.markdown(
            f":gray-badge[ended] {escape(beat.name)}, process {beat.pid}, "
            f"last seen {ago(time.time() - vital.age_s)}"
        )
        return
    state, colour = ("silent", "orange") if vital.hung else (beat.phase, "green")
    device = escape(beat.device or "a device still being read")
    st.markdown(
        f":{colour}-badge[{state}] {escape(beat.name)} on {device}, "
        f"process {beat.pid}, up since {ago(beat.started)}, heartbeat {ago(time.time() - vital.age_s)}"
    )


# -- the table -------------------------------------------------------------------------------------


def table(runs: pd.DataFrame) -> list[str]:
    """The history; ids of at most two selected runs."""
    shown = pd.DataFrame(
        {
            "when (UTC)": runs["created"],
            "question": runs["lab"].map(lambda lab: QUESTIONS.get(lab, lab)),
            "mixture": [_mixture(row) for row in runs.to_dict("records")],
            "work": [_work(row) for row in runs.to_dict("records")],
            "text": [_text(row) for row in runs.to_dict("records")],
            "decode, dense": runs["decode_dense_s"].map(_time),
            "decode, mixture": runs["decode_moe_s"].map(_time),
            "bits, dense": runs["bits_dense"],
            "bits, mixture": runs["bits_moe"],
            "device": runs["device"],
            "took": runs["duration_s"].map(seconds),
            "origin": [_origin(row) for row in runs.to_dict("records")],
        }
    )
    event: Any = st.dataframe(
        shown,
        hide_index=True,
        height=min(33 * (len(shown) + 1) + 3, 380),
        on_select="rerun",
        selection_mode="multi-row",
        key="runs_table",
        placeholder="–",
        alt="Every run, newest first",
        column_config={
            "when (UTC)": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
            "bits, dense": st.column_config.NumberColumn(format="%.3f"),
            "bits, mixture": st.column_config.NumberColumn(format="%.3f"),
        },
    )
    rows = [row for row in event["selection"]["rows"] if row < len(runs)]
    if len(rows) > 2:
        st.caption("Two runs can be compared at a time: the first two selected are.")
    return [str(runs["run_id"].iloc[row]) for row in rows[:2]]


def _origin(row: dict[Any, Any]) -> str:
    if not pd.isna(row["reference"]):
        return f"shipped: {row['reference']}"
    return "taken in here" if row["lab"] == TRACE else "made here"


def _text(row: dict[Any, Any]) -> str:
    if row["lab"] == TRACE:
        return "its own"
    return "yours" if row["own_text"] else "corpus"


def _work(row: dict[Any, Any]) -> str:
    """What was computed: bytes of a bench run, the setting of an experiment, sequences of a trace."""
    if row["lab"] == TRACE:
        return f"{many(int(row['tokens']), 'tokens')} in {many(int(row['batch']), 'sequences')}"
    return f"{row['batch']} × {row['seq']}" if pd.isna(row["setting"]) else f"training, {row['setting']}"


def _mixture(row: dict[Any, Any]) -> str:
    if row["lab"] in TABLE and row["lab"] != "balancing":  # it brings mixtures of its own
        return ""
    words = describe(int(row["experts"]), int(row["top_k"]), int(row["shared"]))
    if row["lab"] == TRACE:
        return f"{row['model']}: {words}"
    return f"trained, {many(int(row['experts']), 'experts')}" if row["model"] == "trained" else words


def _time(value: float) -> str:
    return "" if pd.isna(value) else seconds(float(value))


# -- one run ---------------------------------------------------------------------------------------


def one(run_id: str) -> None:
    """Open, export or delete one run; what it was and where."""
    run = data.run(run_id)
    with panels.aside(f"Run {run_id}"):
        st.caption(escape(measured_here(run)))
        stages = ", ".join(f"{name} {seconds(spent)}" for name, spent in run.stages.items())
        st.markdown(f"Stages: {escape(stages)}")
        with st.container(horizontal=True, gap="small"):
            _way_back(run)
            st.download_button(
                "Export bundle",
                lambda: archive(run_id),
                f"moescope-run-{run_id}.zip",
                on_click="ignore",
                icon=":material/download:",
                disabled=data.bundle_path(run_id) is None,
                key="runs_export",
            )
            if st.button(
                "Delete", icon=":material/delete:", disabled=run.reference is not None, key="runs_delete"
            ):
                _confirm(run_id)
        with st.expander("What was asked"):
            st.code(
                json.dumps({**run.spec, "text": "yours" if run.spec.get("text") else None}, indent=1),
                language="json",
            )


def _way_back(run: Run) -> None:
    """The button that leads to where such a run is shown."""
    lab, icon = run.spec["lab"], ":material/open_in_new:"
    if lab == TRACE:
        if st.button("Open its routing", icon=icon, key="runs_open"):
            title = next(one.title for one in data.traces() if one.run_id == run.run_id)
            st.session_state["router"] = title
            st.switch_page(str(panels.PAGES / "routing.py"))
    elif lab not in TABLE:
        st.button("Open its scenario", icon=icon, on_click=_open, args=(run,), key="runs_open")
    elif st.button("Open its experiment", icon=icon, key="runs_open"):
        page = "balancing" if lab == "balancing" else "experiments"
        if page == "experiments":
            experiments.open_one(lab)
        st.switch_page(str(panels.PAGES / f"{page}.py"))


def _open(run: Run) -> None:
    """Set the sidebar to this run's question, as far as its choices go."""
    for field in ("experts", "top_k", "shared", "batch", "seq"):
        if run.spec[field] in CHOICES[field]:
            st.session_state[field] = run.spec[field]
    st.session_state["model"] = run.spec["model"]
    st.session_state["precision"] = run.spec["dtype"]
    st.session_state["own_text"] = run.spec.get("text") or ""


@st.dialog("Delete this run?")
def _confirm(run_id: str) -> None:
    st.markdown(
        f"Run `{run_id}` and its recorded decisions go for good. The same question can be asked again."
    )
    with st.container(horizontal=True):
        if st.button("Delete it", type="primary", key="runs_delete_yes"):
            try:
                data.delete(run_id)
            except MoEScopeError as error:
                st.error(escape(str(error)))
                return
            st.rerun()
        if st.button("Keep it", key="runs_delete_no"):
            st.rerun()


def archive(run_id: str) -> bytes:
    """The bundle as a zip. Parquet is compressed already, so the files are only stored."""
    path, buffer = data.bundle_path(run_id), io.BytesIO()
    assert path is not None, "the button is disabled without a bundle"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for member in sorted(path.iterdir()):
            file.write(member, f"{run_id}/{member.name}")
    return buffer.getvalue()


# -- two runs --------------------------------------------------------------------------------------


def two(run_id_a: str, run_id_b: str) -> None:
    """What was asked differently, and how the answers differ."""
    a, b = data.run(run_id_a), data.run(run_id_b)
    rows = data.diff(run_id_a, run_id_b)
    source = panels.source_of(a)
    changed = asked_differently(a, b)
    words = (
        ", ".join(f"{name} {left} to {right}" for name, left, right in changed)
        or "nothing: the same question"
    )
    st.markdown(f"**Asked differently:** {escape(words)}")
    panels.show(
        charts.ratios(rows), "diff", source, caveat="second run over first; measured on each run's device"
    )
    if "findings" in a.summary and "findings" in b.summary:
        experiments.beside(a, b)


def asked_differently(a: Run, b: Run) -> list[tuple[str, str, str]]:
    """Fields of the question, the device and the code in which two runs differ."""
    left, right = (
        {**_flat(run.spec), "device": run.provenance["device"], "code": run.provenance["code_version"][:8]}
        for run in (a, b)
    )
    names = [name for name in {**left, **right} if left.get(name) != right.get(name) and name != "text"]
    changed = [(name, str(left.get(name)), str(right.get(name))) for name in names]
    return changed + ([("text", "other", "text")] if a.spec.get("text") != b.spec.get("text") else [])


def _flat(spec: dict[str, Any]) -> dict[str, Any]:
    """A question without parts: what an experiment's training asks stands beside the rest."""
    training = spec.get("training") or {}
    plain = {name: value for name, value in spec.items() if name != "training"}
    arms = "; ".join(strategy_words(Strategy.parse(one)) for one in training.get("strategies", ()))
    return {**plain, **training, **({"strategies": arms} if training else {})}
