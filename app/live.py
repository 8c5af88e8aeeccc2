"""Live: ask the scenario's question, show something at once, and swap in the answer when it lands.

A change of the scenario submits a run by itself. What this session asked before and no longer needs is
cancelled; another session that waits for the same question simply asks again. A run starts only while a
page looks at it, so closed tabs leave nothing queued. A failure is shown to whoever saw the run under way;
another session asks again, once. Until the answer is there, pages show a stand-in: the same question
recorded elsewhere, this session's last result, or the nearest shipped run. The routing of a run is there
before the rest of it, and shown at once.
"""

from __future__ import annotations

import time
from datetime import UTC
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import data
from app.words import ago, busy_words, escape, recorded_on
from moe_core.errors import MoEScopeError
from moe_core.jobs.job import Job
from moe_core.specs import RunSpec
from moe_core.store.queries import Run
from moe_core.units import quantity

POLL_S = 0.5
WANT_S = 5.0  # how often a page that waits says so
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
    same question recorded elsewhere or by an earlier version. `routing`: this question's own routing,
    once it is recorded, else what stands in for it.
    """

    spec: RunSpec
    run: Run | None
    current: bool
    same: bool
    job: Job | None
    problem: str | None
    routing: Run | None = None

    @property
    def recorded(self) -> bool:
        """Whether the routing is this question's own, recorded here."""
        return self.current or bool(self.routing and not self.routing.complete)


def follow(spec: RunSpec) -> Answer:
    """The answer to `spec`, or a stand-in and the job that is on its way."""
    job, problem = None, None
    found = data.answer(spec)
    if found is None:
        job, problem = _ask(spec)
        found = data.answer(spec) if job and job.status == "done" else None
    if found:
        st.session_state[f"live_last_{spec.lab}"] = found
        job = _measured_again(spec, data.run(found))
        known = data.run(found)
        return Answer(spec, known, True, True, job, None, known)
    run = _stand_in(spec)
    same = bool(run and run.spec == spec.model_dump(mode="json"))
    part = data.routing_of(spec)
    return Answer(spec, run, False, same, job, problem, data.run(part) if part else run)


def _measured_again(spec: RunSpec, known: Run) -> Job | None:
    """The job that measures a known answer once more, while it is under way; its result, once it is over."""
    job = data.job_of(spec)
    if job is None or not job.when_idle:
        return None
    if (
        job.status == "done"
        and job.run_id
        and (job.started or 0.0) > known.created.replace(tzinfo=UTC).timestamp()
    ):
        data.take_in_quietly(job.run_id)
    return job if job.active else None


def _ask(spec: RunSpec) -> tuple[Job | None, str | None]:
    """Submit unless the user stopped this question or saw it fail; the job, or why there is none."""
    try:
        job = data.job_of(spec)
        if job is None or job.status == "done" or _again_by_itself(job):
            job = data.submit(spec, while_wanted=True)
        if job.active:
            _seen().add(job.job_id)
            _want(job.job_id)
            _supersede(job)
            _take_in_part(job)
        elif job.status == "done" and job.run_id:
            data.take_in(job.run_id)
    except MoEScopeError as error:
        return None, str(error)
    return job, None if job.active or job.status == "done" else job.error or f"the run was {job.status}"


def _again_by_itself(job: Job) -> bool:
    """Whether to ask again for what is over: dropped or superseded, or failed before this session came."""
    if _withdrawn(job):
        return not _stopped(job)
    return not job.active and job.job_id not in _seen()


def _seen() -> set[str]:
    """Jobs that this session saw under way: how they ended is its own affair."""
    seen: set[str] = st.session_state.setdefault("live_seen", set())
    return seen


def _want(job_id: str) -> None:
    """Say that this page waits, now and then."""
    last = st.session_state.get("live_wanted")
    if last is None or last[0] != job_id or time.monotonic() - last[1] > WANT_S:
        st.session_state["live_wanted"] = (job_id, time.monotonic())
        data.want(job_id)


def _take_in_part(job: Job) -> None:
    """The routing of a run that goes on: tried once, or an unreadable one would be asked for ever."""
    if _part_waits(job):
        st.session_state["live_part"] = (job.run_id, job.started)
        data.take_in_quietly(str(job.run_id))


def _part_waits(job: Job) -> bool:
    """Whether there is a part of this run that this session has neither seen nor failed to read."""
    tried = st.session_state.get("live_part") == (job.run_id, job.started)
    return job.run_id is not None and not tried and data.routing_of(job.spec) is None


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


def strip(answer: Answer, timed: bool = True) -> None:
    """The line above the result: nothing, progress with Cancel, or what went wrong with a way on.

    timed: what is shown below was timed, so that a busy machine matters; else the page says so elsewhere.
    """
    if answer.current:
        if timed:
            pressure(answer)
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
    if answer.recorded:
        return "The routing below was recorded here a moment ago. Times, memory and quality follow."
    spec = answer.run.spec
    mixture = (
        f"{spec['experts']} experts, top-{spec['top_k']}, {spec['shared']} shared, batch {spec['batch']}"
    )
    return (
        f"Dimmed below: the previous answer ({mixture}, {recorded_on(answer.run)}), until the new one lands."
    )


def _progress(job_id: str) -> None:
    job = data.job(job_id)
    if job is None or not job.active or _part_waits(job):
        st.rerun()
    _want(job_id)
    if job.status == "queued" and not job.when_idle and data.nobody_answers(job):
        waited = ago(job.submitted).removesuffix(" ago")
        st.warning(f"No worker has taken this run for {waited}. Its log: {escape(data.worker_log())}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.progress(job.fraction, text=_stage(job))
        st.button("Cancel", key=f"live_cancel_{job.spec.lab}", on_click=_stop, args=(job_id,))


def _stage(job: Job) -> str:
    if job.status == "queued" and job.when_idle:
        return "Waits until this machine has nothing else to do, then measures again"
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
    data.submit(spec, while_wanted=True)


def pressure(answer: Answer) -> None:
    """A measurement made beside other work says so, and offers to be made again."""
    if answer.run is None or not answer.current:
        return
    if answer.job:
        st.fragment(_progress, run_every=POLL_S)(answer.job.job_id)
        return
    busy = answer.run.busy
    if busy is None or busy.quiet or answer.spec.lab == "topk_sweep":  # quality does not depend on it
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(f":material/hourglass_top: Measured beside other work: {busy_words(busy)}.")
        st.button(
            "Measure again when idle",
            key=f"live_idle_{answer.spec.lab}",
            on_click=_measure_again,
            args=(answer.spec,),
            type="tertiary",
            icon=":material/replay:",
            help="The run waits until this machine has had nothing else to do for some seconds.",
        )


def _measure_again(spec: RunSpec) -> None:
    data.submit(spec, when_idle=True)


def result(answer: Answer) -> DeltaGenerator:
    """The container of everything computed from the run; dimmed while it stands in for another question."""
    return _dimmed("result", dim=not answer.same)


def routing(answer: Answer) -> DeltaGenerator:
    """The container of everything computed from the routing alone, which is there before the rest."""
    return _dimmed("routing", dim=not (answer.same or answer.recorded))


def evidence(answer: Answer) -> DeltaGenerator:
    """A second container of what was measured, below the routing."""
    return _dimmed("evidence", dim=not answer.same)


def _dimmed(key: str, dim: bool) -> DeltaGenerator:
    if dim:
        st.html(f"<style>.st-key-{key} {{ opacity: 0.55; transition: opacity 0.2s; }}</style>")
    return st.container(key=key)
