"""Live: ask the scenario's question, show something at once, and swap in the answer when it lands.

A change of the scenario submits a run by itself. What this session asked before and no longer needs is
cancelled; another session that waits for the same question simply asks again. Until the answer is
there, pages show a stand-in: the same question recorded elsewhere, this session's last result, or
the nearest shipped run.
"""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import data
from app.words import ago, escape, recorded_on
from moe_core.errors import MoEScopeError
from moe_core.jobs.job import Job
from moe_core.specs import RunSpec
from moe_core.store.queries import Run
from moe_core.units import quantity

POLL_S = 0.5
STAGES = {
    "check": "checking what it needs",
    "load": "loading the models",
    "carve": "carving the mixture",
    "record": "recording every decision",
    "quality": "measuring quality",
    "memory": "weighing memory",
    "time": "timing both models",
    "sweep": "timing one layer",
    "probe": "measuring the device",
    "write": "writing it down",
}
SOON = 0.7  # a run that is further than this may finish, even if nobody waits for it


class Answer(NamedTuple):
    """What a page shows. `run` None: nothing at all yet. `problem`: one sentence, and no answer will come.

    `current`: `run` answers the question on this device; otherwise it stands in, `same` if it is the
    same question recorded elsewhere or by an earlier version.
    """

    spec: RunSpec
    run: Run | None
    current: bool
    same: bool
    job: Job | None
    problem: str | None


def follow(spec: RunSpec) -> Answer:
    """The answer to `spec`, or a stand-in and the job that is on its way."""
    job, problem = None, None
    found = data.answer(spec)
    if found is None:
        job, problem = _ask(spec)
        found = data.answer(spec) if job and job.status == "done" else None
    if found:
        st.session_state[f"live_last_{spec.lab}"] = found
        return Answer(spec, data.run(found), True, True, None, None)
    run = _stand_in(spec)
    same = bool(run and run.spec == spec.model_dump(mode="json"))
    return Answer(spec, run, False, same, job, problem)


def _ask(spec: RunSpec) -> tuple[Job | None, str | None]:
    """Submit unless the user stopped this question or it failed; the job, or why there is none."""
    try:
        job = data.job_of(spec)
        if job is None or job.status == "done" or (_withdrawn(job) and not _stopped(job)):
            job = data.submit(spec)
        if job.active:
            _supersede(job)
        elif job.status == "done" and job.run_id:
            data.take_in(job.run_id)
    except MoEScopeError as error:
        return None, str(error)
    return job, None if job.active or job.status == "done" else job.error or f"the run was {job.status}"


def _withdrawn(job: Job) -> bool:
    """Cancelled because somebody asked for it. A run that is out of time was not, and would be again."""
    return job.status == "cancelled" and (job.error or "").startswith("cancelled")


def _stopped(job: Job) -> bool:
    """Whether the user of this session pressed Cancel."""
    return job.job_id in st.session_state.get("live_stopped", ())


def _supersede(job: Job) -> None:
    """Cancel what this session asked before and still waits or has just begun."""
    asked: list[str] = st.session_state.setdefault("live_asked", [])
    for job_id in [known for known in asked if known != job.job_id]:
        old = data.job(job_id)
        if old and old.active and old.fraction < SOON:
            data.cancel(job_id)
        asked.remove(job_id)
    if job.job_id not in asked:
        asked.append(job.job_id)


def _stand_in(spec: RunSpec) -> Run | None:
    last = st.session_state.get(f"live_last_{spec.lab}")
    found = data.same_question(spec) or (last if last and data.exists(last) else None) or data.nearest(spec)
    return data.run(found) if found else None


# -- what the user sees of it ----------------------------------------------------------------------


def strip(answer: Answer) -> None:
    """The line above the result: nothing, progress with Cancel, or what went wrong with a way on."""
    if answer.current:
        return
    if answer.problem:
        _trouble(answer)
    elif answer.job:
        st.fragment(_progress, run_every=POLL_S)(answer.job.job_id)
    if answer.run and not answer.problem:
        st.caption(_stand_in_words(answer))


def _stand_in_words(answer: Answer) -> str:
    assert answer.run
    if answer.same:
        return f"This is the same question {recorded_on(answer.run)}; this device's own answer replaces it."
    spec = answer.run.spec
    mixture = (
        f"{spec['experts']} experts, top-{spec['top_k']}, {spec['shared']} shared, batch {spec['batch']}"
    )
    return (
        f"Dimmed below: the previous answer ({mixture}, {recorded_on(answer.run)}), until the new one lands."
    )


def _progress(job_id: str) -> None:
    job = data.job(job_id)
    if job is None or not job.active:
        st.rerun()
    if job.status == "queued" and data.nobody_answers(job):
        waited = ago(job.submitted).removesuffix(" ago")
        st.warning(f"No worker has taken this run for {waited}. Its log: {escape(data.worker_log())}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.progress(job.fraction, text=_stage(job))
        st.button("Cancel", key=f"live_cancel_{job.spec.lab}", on_click=_stop, args=(job_id,))


def _stage(job: Job) -> str:
    if job.status == "queued":
        health = data.worker_words()
        ahead = sum(1 for other in data.jobs() if other.active and other.order < job.order)
        line = f"{ahead} ahead of this one" if ahead else "next in line"
        return f"Waiting to run here, {line}" + (f": {health}" if health else "")
    left = "" if job.eta_s is None else f", about {quantity(max(job.eta_s, 0.1), 's', 2)} left"
    return f"Running here now: {escape(STAGES.get(job.stage, job.stage))}, {job.fraction:.0%}{left}"


def _stop(job_id: str) -> None:
    st.session_state.setdefault("live_stopped", set()).add(job_id)
    data.cancel(job_id)


def _trouble(answer: Answer) -> None:
    job, words = answer.job, escape(answer.problem or "")
    if job and _withdrawn(job):
        st.info(f"You cancelled this run {ago(job.finished or job.submitted)}.", icon=":material/cancel:")
    elif job and job.status == "infeasible":
        st.warning(words, title="This does not fit, so it was not run", icon=":material/block:")
        st.caption("Ask for fewer experts, a smaller batch or a shorter sequence in the sidebar.")
    else:
        st.error(words, title="This run failed", icon=":material/error:")
    if job:
        st.button(
            "Run it again",
            key=f"live_again_{answer.spec.lab}",
            on_click=_again,
            args=(answer.spec, job.job_id),
        )


def _again(spec: RunSpec, job_id: str) -> None:
    st.session_state.get("live_stopped", set()).discard(job_id)
    data.submit(spec)


def result(answer: Answer) -> DeltaGenerator:
    """The container of everything computed from the run; dimmed while it stands in for another question."""
    if not answer.same:
        st.html("<style>.st-key-result { opacity: 0.55; transition: opacity 0.2s; }</style>")
    return st.container(key="result")
