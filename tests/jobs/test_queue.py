"""Submitting, watching, cancelling, claiming, finishing, mending: each over a real SQLite file."""

import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moe_core.errors import CancelledError, ConfigError, StoreError
from moe_core.jobs import heartbeat, records, transport
from moe_core.jobs.job import Job
from moe_core.jobs.queue import JobQueue, Ticket
from moe_core.settings import Settings
from moe_core.specs import RunSpec, Training
from moe_core.version import question_id

BENCH, OTHER = RunSpec(), RunSpec(experts=8)
SWEEP = RunSpec(lab="topk_sweep")


@pytest.fixture
def queue(settings: Settings) -> Iterator[JobQueue]:
    queue = JobQueue(settings)
    yield queue
    queue.close()


def start(queue: JobQueue, spec: RunSpec = BENCH, worker: str = "worker") -> Job:
    """Submit and claim, as a worker would."""
    queue.submit(spec)
    ticket = queue.take()
    assert ticket is not None
    job = queue.claim(ticket.job_id, worker, "cpu")
    assert job is not None
    return job


def status(queue: JobQueue, spec: RunSpec = BENCH) -> str:
    job = queue.get(question_id(spec))
    assert job is not None
    return job.status


def test_a_question_travels_as_its_spec_and_nothing_else(queue: JobQueue):
    job = queue.submit(RunSpec(text="naïve 日本"))
    assert job.job_id == question_id(job.spec)
    assert queue.take() == Ticket(job.job_id, job.spec.model_dump_json())
    assert queue.take() is None


def test_the_same_question_is_the_same_job_while_it_waits_and_runs(queue: JobQueue):
    first = queue.submit(BENCH)
    assert queue.submit(BENCH) == first
    queue.take()
    running = queue.claim(first.job_id, "worker", None)
    assert queue.submit(BENCH) == running
    assert queue.take() is None


def test_an_answered_question_is_answered_at_once(queue: JobQueue, bundle_dir: Callable[..., Path]):
    done = queue.finish(start(queue), "done", run_id=bundle_dir(BENCH).name)
    again = queue.submit(BENCH)
    assert (again.status, again.reused, again.run_id) == ("done", True, done.run_id)
    assert queue.take() is None


def test_a_deleted_answer_is_computed_again(queue: JobQueue):
    queue.finish(start(queue), "done", run_id="0" * 16)
    assert queue.submit(BENCH).status == "queued"
    assert queue.take() is not None


def test_another_device_gives_its_own_answer(
    queue: JobQueue, settings: Settings, bundle_dir: Callable[..., Path]
):
    queue.finish(start(queue), "done", run_id=bundle_dir(BENCH).name)  # on "cpu"
    with heartbeat.hold(settings.data_dir, "worker", "v1") as pulse:
        pulse.say(device_key="cuda")
        assert queue.submit(BENCH).status == "queued"


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "infeasible"])
def test_what_had_no_answer_can_be_asked_again(queue: JobQueue, outcome: str):
    first = queue.finish(start(queue), outcome, error=CancelledError("why"))  # type: ignore[arg-type]
    again = queue.submit(BENCH)
    assert again.status == "queued"
    assert again.error is None
    assert again.attempts == 0
    assert again.order > first.order


def test_questions_somebody_waits_for_go_first_then_by_age(queue: JobQueue):
    for spec in (SWEEP, BENCH, OTHER):
        queue.submit(spec)
    tickets = [queue.take() for _ in range(3)]
    assert [t.job_id for t in tickets if t] == [question_id(s) for s in (BENCH, OTHER, SWEEP)]


def test_too_many_questions_are_refused(settings: Settings):
    queue = JobQueue(settings.model_copy(update={"max_queued": 2}))
    for experts in (4, 8):
        queue.submit(RunSpec(experts=experts))
    with pytest.raises(ConfigError, match=r"max_queued \(2\)"):
        queue.submit(RunSpec(experts=16))
    queue.cancel(question_id(RunSpec(experts=4)))
    assert queue.submit(RunSpec(experts=16)).status == "queued"
    queue.close()


# -- cancelling ------------------------------------------------------------------------------------


def test_cancel_of_a_waiting_job_is_seen_at_once_and_it_never_runs(queue: JobQueue):
    job = queue.submit(BENCH)
    cancelled = queue.cancel(job.job_id)
    assert cancelled is not None
    assert cancelled.status == "cancelled"
    assert queue.take() is not None
    assert queue.claim(job.job_id, "worker", None) is None
    assert status(queue) == "cancelled"


def test_a_question_cancelled_and_asked_again_runs_once(queue: JobQueue):
    job = queue.submit(BENCH)
    queue.cancel(job.job_id)
    assert queue.submit(BENCH).status == "queued"
    messages = [queue.take(), queue.take()]
    assert all(messages)
    claims = [queue.claim(job.job_id, "worker", None) for _ in messages]
    assert [claim is not None for claim in claims] == [True, False]


def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """So much later that a page without eyes on it counts as closed."""
    now = time.time() + records.PATIENCE_S + 1
    monkeypatch.setattr(records.time, "time", lambda: now)


def test_what_closed_pages_asked_does_not_run(queue: JobQueue, monkeypatch: pytest.MonkeyPatch):
    """Nine tabs opened and closed leave nothing before a stranger's question."""
    closed = [queue.submit(RunSpec(experts=8, batch=batch), while_wanted=True) for batch in range(1, 10)]
    assert queue.waiting() == 9
    late(monkeypatch)
    stranger = queue.submit(BENCH)
    assert queue.waiting() == 1
    assert {job.job_id: job.status for job in queue.list_jobs()} == {
        **{job.job_id: "cancelled" for job in closed},
        stranger.job_id: "queued",
    }
    started = []
    while ticket := queue.take():
        if queue.claim(ticket.job_id, "worker", None):
            started.append(ticket.job_id)
    assert started == [stranger.job_id]


def test_what_somebody_waits_for_or_asked_without_a_page_runs(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
):
    looked = queue.submit(RunSpec(batch=1), while_wanted=True)
    both = queue.submit(RunSpec(batch=2), while_wanted=True)
    queue.submit(RunSpec(batch=2))  # asked again, by a command
    idle = queue.submit(RunSpec(batch=4), when_idle=True, while_wanted=True)
    late(monkeypatch)
    queue.want(looked.job_id)
    queue.want(both.job_id)
    assert [job.status for job in map(queue.get, (looked.job_id, both.job_id, idle.job_id)) if job] == [
        "queued"
    ] * 3


def test_a_dropped_question_can_be_asked_again(queue: JobQueue, monkeypatch: pytest.MonkeyPatch):
    job = queue.submit(BENCH, while_wanted=True)
    late(monkeypatch)
    assert status(queue) == "cancelled"
    queue.submit(BENCH, while_wanted=True)
    assert status(queue) == "queued"
    assert start(queue).job_id == job.job_id


def test_cancel_of_a_running_job_is_a_wish(queue: JobQueue):
    job = start(queue)
    wished = queue.cancel(job.job_id)
    assert wished is not None
    assert (wished.status, wished.stage) == ("running", "cancelling")
    assert queue.is_cancelled(job.job_id)
    queue.finish(job, "cancelled", error=CancelledError("stop"))
    assert status(queue) == "cancelled"
    assert not queue.is_cancelled(job.job_id)


def test_cancel_of_what_is_over_or_unknown_changes_nothing(queue: JobQueue):
    job = queue.finish(start(queue), "failed", error=CancelledError("why"))
    assert queue.cancel(job.job_id) == job
    assert not queue.is_cancelled(job.job_id)
    assert queue.cancel("unknown") is None


# -- working ---------------------------------------------------------------------------------------


def test_one_of_many_workers_gets_the_job(queue: JobQueue):
    job = queue.submit(BENCH)
    won: list[str] = []
    barrier = threading.Barrier(8)

    def race(name: str) -> None:
        barrier.wait()
        if queue.claim(job.job_id, name, None):
            won.append(name)

    threads = [threading.Thread(target=race, args=(f"worker{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    running = queue.get(job.job_id)
    assert running is not None
    assert running.worker == won[0]


def test_progress_is_seen_from_another_connection(queue: JobQueue, settings: Settings):
    job = start(queue)
    queue.report(job.job_id, "measure", 0.5, 1.5)
    other = JobQueue(settings)
    seen = other.get(job.job_id)
    other.close()
    assert seen is not None
    assert (seen.status, seen.stage, seen.fraction, seen.eta_s) == ("running", "measure", 0.5, 1.5)


def test_a_finished_job_is_whole(queue: JobQueue):
    job = queue.finish(start(queue), "done", run_id="f" * 16)
    assert (job.fraction, job.eta_s, job.run_id, job.attempts) == (1.0, None, "f" * 16, 1)
    assert job.finished is not None
    assert job.started is not None
    assert job.submitted <= job.started <= job.finished
    assert queue.get(job.job_id) == job


def test_newest_first_and_each_once(queue: JobQueue):
    for spec in (BENCH, OTHER, SWEEP):
        queue.submit(spec)
    queue.cancel(question_id(BENCH))
    queue.submit(BENCH)
    assert [job.spec for job in queue.list_jobs()] == [BENCH, SWEEP, OTHER]
    assert [job.spec for job in queue.list_jobs(limit=1)] == [BENCH]


def test_old_jobs_are_forgotten_but_never_one_still_to_run(queue: JobQueue, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "KEPT", 2)
    queue.finish(start(queue, OTHER), "failed", error=CancelledError("why"))
    waiting = queue.submit(SWEEP)
    for experts in (4, 5, 6):
        queue.submit(RunSpec(experts=experts, top_k=1))
    assert queue.get(question_id(OTHER)) is None
    assert queue.get(waiting.job_id) == waiting


# -- mending ---------------------------------------------------------------------------------------


def test_a_run_whose_worker_died_is_tried_once_more_and_first(queue: JobQueue):
    job = start(queue)
    queue.report(job.job_id, "measure", 0.5, None)
    queue.submit(OTHER)
    queue.recover("worker")
    assert status(queue) == "queued"
    ticket = queue.take()
    assert ticket is not None
    assert ticket.job_id == job.job_id
    again = queue.claim(job.job_id, "worker", None)
    assert again is not None
    assert (again.attempts, again.fraction) == (2, 0.0)


def test_a_run_that_killed_two_workers_fails_with_a_sentence(queue: JobQueue):
    start(queue)
    queue.recover("worker")
    job = start(queue)
    queue.report(job.job_id, "measure", 0.5, None)
    queue.recover("worker")
    failed = queue.get(job.job_id)
    assert failed is not None
    assert failed.status == "failed"
    assert failed.error is not None
    assert "died 2 times" in failed.error
    assert "'measure'" in failed.error
    assert queue.take() is None
    assert queue.submit(BENCH).status == "queued"


def test_an_interrupted_run_does_not_count_as_an_attempt(queue: JobQueue):
    for _ in range(3):
        queue.requeue(start(queue), count=False)
    assert start(queue).attempts == 1


def test_a_message_lost_before_the_claim_is_sent_again(queue: JobQueue):
    job = queue.submit(BENCH)
    assert queue.take() is not None  # and the worker dies here
    queue.recover("worker")
    queue.recover("worker")  # not twice
    assert queue.take() == Ticket(job.job_id, BENCH.model_dump_json())
    assert queue.take() is None


def test_a_claim_that_outlived_its_worker_does_not_block(queue: JobQueue):
    job = queue.submit(BENCH)
    queue._records.claim(job.job_id, "worker")  # and the worker dies here
    queue.recover("worker")
    assert queue.claim(job.job_id, "worker", None) is not None


def test_a_live_worker_keeps_its_run(queue: JobQueue, settings: Settings):
    with heartbeat.hold(settings.data_dir, "worker-1", "v1"):
        start(queue, worker="worker-1")
        queue.recover("worker")
        assert status(queue) == "running"
    queue.recover("worker")
    assert status(queue) == "queued"


# -- what is not ours ------------------------------------------------------------------------------


def forge(settings: Settings, data: bytes) -> None:
    with sqlite3.connect(settings.queue_file) as connection:
        (name,) = connection.execute("select distinct queue from task").fetchone()
        connection.execute("insert into task (queue, data, priority) values (?, ?, 9)", (name, data))
    connection.close()


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\x80\x04garbage", b"[]:0000", b'["id", "moe_core.jobs.queue.run"]:' + b"0" * 40],
    ids=["empty", "binary", "short", "unsigned"],
)
def test_garbage_in_the_queue_is_dropped(queue: JobQueue, settings: Settings, garbage: bytes):
    job = queue.submit(BENCH)
    forge(settings, garbage)
    queue.recover("worker")
    ticket = queue.take()
    assert ticket is not None
    assert ticket.job_id == job.job_id
    assert queue.take() is None


@pytest.mark.parametrize(
    "message",
    [["x"], ["x", "no.such.task"], ["x", "moe_core.jobs.queue.run", None, 0, 0, 1, [1, 2], {}], [1] * 99, 7],
)
def test_a_signed_message_of_another_shape_is_dropped(queue: JobQueue, settings: Settings, message: object):
    queue.submit(BENCH)
    signer = transport.JsonSerializer(secret=(settings.data_dir / transport.SECRET).read_text())
    forge(settings, signer.serialize(message))
    ticket = queue.take()
    assert ticket is not None
    assert ticket.spec_json == BENCH.model_dump_json()


def test_a_record_of_another_version_counts_as_none(queue: JobQueue):
    job = queue.submit(BENCH)
    queue._records._storage.put_data(f"job/{job.job_id}", b'{"job_id": 7}')
    assert queue.get(job.job_id) is None
    assert queue.list_jobs() == []
    assert queue.submit(BENCH).status == "queued"


# -- the installation ------------------------------------------------------------------------------


def test_the_secret_is_private_and_kept(queue: JobQueue, settings: Settings):
    path = settings.data_dir / transport.SECRET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    JobQueue(settings).close()
    assert path.read_text() == before
    assert len(before) == 64
    assert [p.name for p in settings.data_dir.glob(".queue.key*")] == []


def test_first_processes_at_once_agree_on_the_secret(tmp_path: Path):
    found: list[str] = []
    barrier = threading.Barrier(8)

    def first() -> None:
        barrier.wait()
        found.append(transport._secret(tmp_path))

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_queue_that_is_no_database_is_one_sentence(settings: Settings):
    settings.queue_file.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match=r"file is not a database; stop MoEScope.*delete queue\.db"):
        JobQueue(settings)
    settings.queue_file.unlink()  # the remedy
    JobQueue(settings).close()


@pytest.mark.parametrize("left", [b"", b"\n", bytes(64)])
def test_an_empty_secret_is_made_anew_and_all_agree(settings: Settings, left: bytes):
    """As a power cut leaves it."""
    path = settings.data_dir / transport.SECRET
    path.write_bytes(left)
    barrier, found = threading.Barrier(8), []

    def first() -> None:
        barrier.wait()
        found.append(transport._secret(settings.data_dir))

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {path.read_text()}
    assert len(path.read_text()) == 64
    JobQueue(settings).close()


def test_redis_without_its_client_is_one_sentence(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huey.storage.Redis", None)
    with pytest.raises(ConfigError, match="MOE_QUEUE_URL: needs the Python client"):
        JobQueue(settings.model_copy(update={"queue_url": "redis://localhost"}))


def test_an_immediate_queue_performs_inside_submit(settings: Settings):
    def perform(ticket: Ticket) -> None:
        job = queue.claim(ticket.job_id, "here", None)
        assert job is not None
        queue.finish(job, "done", run_id="a" * 16)

    queue = JobQueue(settings, perform)
    assert queue.submit(BENCH).run_id == "a" * 16
    assert not settings.queue_file.exists()


# -- lanes -----------------------------------------------------------------------------------------

TRAINING = RunSpec(lab="collapse", training=Training())


def test_an_experiment_does_not_hold_up_the_bench(queue: JobQueue):
    queue.submit(TRAINING)
    assert queue.take(("bench",)) is None
    queue.submit(BENCH)
    found = queue.take(("bench",))
    assert found is not None
    assert found.job_id == question_id(BENCH)
    assert queue.messages("training") == 1
    assert queue.messages("bench") == 0


def test_who_names_no_lane_takes_both_the_bench_first(queue: JobQueue):
    for spec in (TRAINING, BENCH):
        queue.submit(spec)
    tickets = [queue.take(), queue.take(), queue.take()]
    assert [ticket.job_id for ticket in tickets if ticket] == [question_id(BENCH), question_id(TRAINING)]


def test_an_experiment_nobody_looks_at_goes_on(queue: JobQueue, monkeypatch: pytest.MonkeyPatch):
    queue.submit(TRAINING)
    late(monkeypatch)
    assert status(queue, TRAINING) == "queued"
    ticket = queue.take(("training",))
    assert ticket is not None
    assert queue.claim(ticket.job_id, "worker-training", "cpu") is not None


def test_a_lost_message_is_sent_again_in_its_own_lane(queue: JobQueue):
    queue.submit(TRAINING)
    assert queue.take(("training",)) is not None  # and its worker dies before the claim
    queue.recover("worker-training")
    assert queue.messages("training") == 1
    assert queue.messages("bench") == 0
