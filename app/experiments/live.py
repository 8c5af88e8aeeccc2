"""Live: an experiment that was asked for, from the button to its curves. Nothing here starts one by itself.

A started experiment goes on when its page is closed: it has a worker of its own, and whoever opens the page
sees how far it is. Curves and heatmap are drawn anew twice a second in a fragment; the page stands still.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import data, panels
from app.experiments import charts, frames, series
from app.figure import Figure
from app.panels import Source
from app.words import ago, escape
from moe_core.errors import MoEScopeError
from moe_core.jobs.job import Job
from moe_core.labs.training.table import TABLE
from moe_core.specs import Experiment, RunSpec
from moe_core.units import quantity

POLL_S = 0.5
STAGES = {
    "queued": "waiting",
    "starting": "starting",
    "prepare": "preparing",
    "train": "training",
    "write": "writing it down",
}
DETERMINED = "It was trained already, by this very code: the same seeds give the same curves."


def jobs() -> dict[Experiment, Job]:
    """The newest job of each experiment, one that is under way first. What they measured is in the store."""
    found: dict[Experiment, Job] = {}
    for job in sorted(data.jobs(), key=lambda one: (one.active, one.order)):
        if job.lane == "training":
            found[of_job(job)] = job
    for job in found.values():
        if job.status == "done" and job.run_id and not data.exists(job.run_id):
            data.take_in_quietly(job.run_id)
    return found


def take_in() -> None:
    """Bring what was trained meanwhile into the store: before a page looks what there is."""
    jobs()


def of_job(job: Job) -> Experiment:
    """The experiment that a job of the training lane performs."""
    return next(lab for lab in TABLE if lab == job.spec.lab)


def start(spec: RunSpec) -> None:
    """Ask for it, because the user said so; what keeps it from being asked is one sentence."""
    try:
        job = data.submit(spec)
    except MoEScopeError as error:
        st.toast(escape(str(error)), icon=":material/error:", duration="long")
        return
    if job.reused:
        st.toast(DETERMINED, icon=":material/check:", duration="long")


def button(label: str, spec: RunSpec, key: str, *, kind: str = "secondary", busy: bool = False) -> None:
    """The button that starts one. `busy`: it is under way already."""
    minutes = "about a minute" if spec.training and spec.training.setting == "quick" else "up to an hour"
    st.button(
        label,
        key=key,
        on_click=start,
        args=(spec,),
        disabled=busy,
        type="primary" if kind == "primary" else "secondary",
        icon=":material/play_arrow:",
        help=f"Trains on this machine with one thread, {minutes}. It goes on if you leave.",
    )


def follow(job: Job | None, key: str, metric: str = "maxvio_step") -> None:
    """Progress and live curves of an experiment that is under way; how one ended that had no result."""
    if job is None or job.status == "done":
        return
    if job.active:
        st.fragment(_watch, run_every=POLL_S)(job.job_id, key, metric)
        return
    words = escape(job.error or f"it was {job.status}")
    when = ago(job.finished or job.submitted)
    if job.status == "cancelled":
        st.caption(f":material/cancel: {TABLE[of_job(job)].title}: cancelled {when}.")
    else:
        st.error(words, title=f"{TABLE[of_job(job)].title} failed {when}", icon=":material/error:")


def _watch(job_id: str, key: str, metric: str) -> None:
    job = data.job(job_id)
    if job is None or not job.active:
        if job is not None and job.run_id:
            data.take_in_quietly(job.run_id)
        st.rerun()
    if job.status == "queued" and data.nobody_answers(job) and data.door().settings.worker == "external":
        st.warning("No worker takes experiments. Start one with: python -m moe_core worker --lane training")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.progress(job.fraction, text=escape(_line(job)))
        st.button("Cancel", key=f"cancel_{key}", on_click=data.cancel, args=(job_id,))
    _draw(data.live(job_id), frames.arm_words(job.spec.model_dump(mode="json")), key, metric)


def _line(job: Job) -> str:
    stage = STAGES.get(job.stage, job.stage)
    if job.status == "queued":
        ahead = sum(1 for one in data.jobs() if one.active and one.lane == job.lane and one.order < job.order)
        return f"{TABLE[of_job(job)].title}: waiting for its worker" + (f", {ahead} ahead" if ahead else "")
    left = "" if job.eta_s is None else f", about {quantity(max(job.eta_s, 0.1), 's', 2)} left"
    return f"{TABLE[of_job(job)].title}: {stage}, {job.fraction:.0%}{left}"


def _draw(picture: dict[str, object] | None, arms: list[str], key: str, metric: str) -> None:
    """The curves so far beside the load so far, of the part that is being trained."""
    rows = series.named(series.of_picture(picture), arms)
    trained = series.without_floor(rows)
    names = series.metrics(trained) if len(trained) else []
    if not names:
        st.caption("The first curve appears within seconds of the first step.")
        return
    wanted = metric if metric in names else names[0]
    now = series.part(str(trained["arm"].iloc[-1])) if series.parts(trained) != [""] else ""
    mine = series.chosen(trained, wanted, series.axes(trained, wanted)[0], now)
    left, right = panels.pair()
    with left:
        axis = str(mine["axis"].iloc[0]) if len(mine) else "step"
        floor = series.floor(rows, wanted, now)
        _show(charts.curves(mine, wanted, axis, floor=floor, height=260, live=True), f"{key}_live_curve")
    loads = series.named(series.loads_of_picture(picture), arms)
    with right:
        if len(loads):
            _show(charts.heatmap(_newest_seed(loads), 0, live=True), f"{key}_live_load")
        elif "loss" in names and wanted != "loss":
            second = series.chosen(trained, "loss", "step", now)
            _show(charts.curves(second, "loss", "step", height=260, live=True), f"{key}_live_loss")


def _newest_seed(loads: pd.DataFrame) -> pd.DataFrame:
    return loads[loads["seed"] == loads["seed"].max()]


def _show(figure: Figure, key: str) -> None:
    """A figure that changes twice a second: without a data view, which comes with the result."""
    with st.container(border=True, key=f"live_{key}", gap="small"):
        st.markdown(f"**{escape(figure.title)}**")
        st.vega_lite_chart(figure.spec, key=f"chart_{key}", alt=figure.alt, width="stretch")
        panels.badge(Source("measured here", "training on this machine now; nothing of it is kept yet"))
