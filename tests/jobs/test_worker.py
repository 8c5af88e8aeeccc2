"""The worker, in this process and as a real one that is killed. No torch: the labs are fakes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from moe_core.errors import StoreError
from moe_core.jobs import heartbeat, live
from moe_core.jobs.job import Job
from moe_core.jobs.queue import JobQueue
from moe_core.jobs.worker import CALM_S, Worker
from moe_core.runs import bundle
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.threads import Waiting
from tests.jobs.fake import labs, question, release, wait_for

PATIENCE_S = 120  # so long only where something is wrong

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def queue(settings: Settings) -> Iterator[JobQueue]:
    queue = JobQueue(settings)
    yield queue
    queue.close()


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """Start a real worker process; whatever is left of it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.jobs.fake", *arguments]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def now(queue: JobQueue, job: Job) -> Job:
    found = queue.get(job.job_id)
    assert found is not None
    return found


def reach(queue: JobQueue, job: Job, **fields: object) -> Job:
    """Wait until the job's fields have these values."""
    wait_for(
        lambda: all(getattr(now(queue, job), name) == value for name, value in fields.items()), str(fields)
    )
    return now(queue, job)


def finish_here(settings: Settings, spec: RunSpec) -> Job:
    return Worker(settings, load=labs).run_one(spec)


# -- in this process -------------------------------------------------------------------------------


class Calm(Waiting):
    """A machine that has had nothing else to do for so long."""

    calm = 0.0

    @property
    def calm_s(self) -> float:
        return self.calm


def test_what_wishes_for_an_idle_machine_waits_for_one_and_lets_others_pass(
    settings: Settings, queue: JobQueue
):
    worker = Worker(settings, load=labs)
    worker._waiting = machine = Calm()
    wish, other = queue.submit(question(), when_idle=True), queue.submit(question(steps=2))
    assert wish.when_idle
    taken = [worker._next(queue) for _ in range(3)]
    assert [ticket.job_id for ticket in taken if ticket] == [other.job_id]
    assert now(queue, wish).status == "queued"
    machine.calm = CALM_S
    ticket = worker._next(queue)
    assert ticket is not None
    assert ticket.job_id == wish.job_id
    assert worker._next(queue) is None


def test_a_known_answer_is_measured_again_when_that_is_asked(settings: Settings, queue: JobQueue):
    first = finish_here(settings, question())
    assert queue.submit(question()).reused
    again = queue.submit(question(), when_idle=True)
    assert (again.status, again.job_id) == ("queued", first.job_id)


def test_an_answer_is_a_bundle(settings: Settings):
    job = finish_here(settings, question())
    assert job.status == "done"
    assert job.run_id is not None
    assert job.device_key == "cpu-fake"
    found = bundle.verify(settings.runs_dir / job.run_id)
    assert found.manifest.question_id == job.job_id


def test_the_same_question_again_is_not_computed_again(settings: Settings):
    first = finish_here(settings, question())
    again = finish_here(settings, question())
    assert (again.run_id, again.finished, again.attempts) == (first.run_id, first.finished, 1)


@pytest.mark.parametrize(
    ("then", "status", "sentence"),
    [
        ("infeasible", "infeasible", "needs 93.4 GB, the device has 80.0 GB"),
        ("memory", "infeasible", "the memory of this machine ran out during the run"),
        ("store", "failed", "the disk is full"),
        ("bug", "failed", "unexpected RuntimeError: device-side assert (the worker's log has the details)"),
    ],
)
def test_every_end_is_one_sentence(settings: Settings, then: str, status: str, sentence: str):
    job = finish_here(settings, question(then=then))
    assert (job.status, job.error) == (status, sentence)
    assert bundle.published(settings.runs_dir) == []


def test_a_run_out_of_time_is_stopped_between_steps(settings: Settings):
    told: list[tuple[str, float]] = []
    worker = Worker(settings, load=labs, on_progress=lambda stage, done, _: told.append((stage, done)))
    job = worker.run_one(question(held=True, time_limit_s=0.2))
    assert job.status == "cancelled"
    assert job.error is not None
    assert "time_limit_s (0.2) ran out" in job.error
    assert "record" not in {stage for stage, _ in told}


def test_progress_is_told_to_the_one_who_waits(settings: Settings):
    told: list[tuple[str, float, float | None]] = []
    Worker(settings, load=labs, on_progress=lambda *report: told.append(report)).run_one(question(steps=3))
    assert [stage for stage, _, _ in told] == ["load", "measure", "record"]


def test_what_comes_through_the_queue_is_validated_again(settings: Settings, queue: JobQueue):
    job = queue.submit(question())
    forged = job.changed(spec=RunSpec.model_construct(**{**dict(job.spec), "batch": 10**9}))
    queue._records.put(forged)
    queue._send(forged)  # signed, and still absurd
    queue.take()
    ticket = queue.take()
    assert ticket is not None
    worker = Worker(settings, load=labs)
    with worker._ready() as (own, pulse):
        own._records.put(job)
        worker._perform(own, pulse, ticket)
    failed = now(queue, job)
    assert failed.status == "failed"
    assert failed.error == "batch (1000000000): input should be less than or equal to 256"


def test_a_worker_of_other_code_does_not_answer_under_a_wrong_name(
    settings: Settings, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("moe_core.jobs.worker.question_id", lambda spec: "0" * 16)
    job = finish_here(settings, question())
    assert job.status == "failed"
    assert job.error is not None
    assert "changed since" in job.error


def test_an_interrupt_from_the_keyboard_cancels(settings: Settings, queue: JobQueue):
    def interrupt(stage: str, *_: object) -> None:
        if stage == "measure":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Worker(settings, load=labs, on_progress=interrupt).run_one(question(held=True))
    assert queue.list_jobs()[0].status == "cancelled"


# -- a real process --------------------------------------------------------------------------------


def test_killed_in_mid_run_it_is_tried_once_more_and_done(settings: Settings, queue: JobQueue, start: Start):
    job = queue.submit(question(held=True))
    first = start()
    reach(queue, job, stage="measure")
    first.kill()
    first.wait()
    assert bundle.published(settings.runs_dir) == []
    release(settings)
    start()
    done = reach(queue, job, status="done")
    assert done.attempts == 2
    assert [path.name for path in bundle.published(settings.runs_dir)] == [done.run_id]


def test_what_a_killed_worker_half_wrote_is_swept_away(settings: Settings):
    draft = settings.runs_dir / f".tmp-{'a' * 16}-999999999"
    draft.mkdir()
    finish_here(settings, question())
    assert not draft.exists()


def test_a_run_that_kills_its_worker_twice_fails_with_a_sentence(queue: JobQueue, start: Start):
    job = queue.submit(question(steps=4, then="suicide"))
    for _ in range(2):
        assert start().wait() == -signal.SIGKILL
    start()
    failed = reach(queue, job, status="failed")
    assert failed.attempts == 2
    assert failed.error is not None
    assert failed.error.startswith("the worker died 2 times during this run, last in stage 'measure'")
    after = queue.submit(question())
    reach(queue, after, status="done")


def test_cancel_reaches_a_running_job_and_the_worker_goes_on(queue: JobQueue, start: Start):
    start()
    job = queue.submit(question(held=True))
    reach(queue, job, stage="measure")
    queue.cancel(job.job_id)
    assert reach(queue, job, status="cancelled").error == "cancelled on request"
    reach(queue, queue.submit(question()), status="done")


def test_what_is_shown_of_a_run_is_there_while_it_goes_on_and_no_longer(
    settings: Settings, queue: JobQueue, start: Start
):
    start()
    job = queue.submit(question(held=True))
    reach(queue, job, stage="measure")
    wait_for(lambda: live.read(settings.data_dir, job.job_id), "a live picture")
    release(settings)
    reach(queue, job, status="done")
    assert live.read(settings.data_dir, job.job_id) is None


def test_asked_to_end_it_gives_its_run_back_uncounted(settings: Settings, queue: JobQueue, start: Start):
    process = start()
    job = queue.submit(question(held=True))
    reach(queue, job, stage="measure")
    process.terminate()
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    back = now(queue, job)
    assert (back.status, back.attempts) == ("queued", 0)
    release(settings)
    start()
    assert reach(queue, job, status="done").attempts == 1


def test_a_second_worker_says_so_and_leaves(settings: Settings, start: Start):
    first = start()
    wait_for(lambda: heartbeat.held(settings.data_dir, "worker"), "the first worker")
    with pytest.raises(StoreError, match=rf"another worker \(process {first.pid}\)"):
        Worker(settings, load=labs).serve()


def test_its_heartbeat_tells_device_and_job(settings: Settings, queue: JobQueue, start: Start):
    process = start()
    job = queue.submit(question(held=True, time_limit_s=1000.0))
    reach(queue, job, stage="measure")
    vital = heartbeat.read(settings.data_dir)
    assert vital is not None
    assert vital.alive
    assert not vital.overdue
    beat = vital.beat
    assert (beat.pid, beat.device, beat.phase, beat.job_id) == (
        process.pid,
        "Fake CPU",
        "running",
        job.job_id,
    )
    assert beat.deadline is not None


def test_abandoned_it_finishes_its_run_and_then_ends(settings: Settings, queue: JobQueue, start: Start):
    job = queue.submit(question(held=True))
    with heartbeat.hold(settings.data_dir, "web", "v1"):
        process = start("--supervised", FAKE_GRACE_S="0.3")
        reach(queue, job, stage="measure")
    release(settings)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert now(queue, job).status == "done"
    assert "performed 1" in output
    assert process.returncode == 0


class Clock:
    """Time as the worker sees it: ten seconds a pause, and what happens then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, happens: Callable[[float], None]) -> None:
        self.now, self._happens = 0.0, happens
        seen = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep, time=time.time)
        monkeypatch.setattr("moe_core.jobs.worker.time", seen)

    def sleep(self, _seconds: float) -> None:
        self.now += 10.0
        self._happens(self.now)


def test_claimed_in_time_it_stays(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    worker = Worker(settings, supervised=True, grace_s=30.0, load=labs)
    with ExitStack() as web:

        def happens(seconds: float) -> None:
            if seconds == 20.0:
                web.enter_context(heartbeat.hold(settings.data_dir, "web", "v1"))
            if seconds == 1000.0:
                os.kill(os.getpid(), signal.SIGTERM)

        clock = Clock(monkeypatch, happens)
        worker.serve()
    assert clock.now == 1000.0


def test_unclaimed_it_ends_after_its_grace(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch, lambda seconds: None)
    Worker(settings, supervised=True, grace_s=30.0, load=labs).serve()
    assert clock.now == 40.0


def test_started_by_hand_it_needs_no_web_process(queue: JobQueue, start: Start):
    process = start(FAKE_GRACE_S="0.1")
    reach(queue, queue.submit(question(steps=10)), status="done")
    assert process.poll() is None


def test_after_a_bug_a_supervised_worker_ends_to_come_back_fresh(
    settings: Settings, queue: JobQueue, start: Start
):
    job = queue.submit(question(then="bug"))
    with heartbeat.hold(settings.data_dir, "web", "v1"):
        output, _ = start("--supervised").communicate(timeout=PATIENCE_S)
    assert now(queue, job).status == "failed"
    assert "device-side assert" in output
