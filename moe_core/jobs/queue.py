"""Queue: questions on their way to a worker, over huey.

A message carries the spec's JSON and nothing else, and the worker validates it again. The record
of a job (`records.py`) is the truth and a message only a wish: one that is lost is sent again, one
that comes twice finds the job claimed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from huey import Huey
from huey.exceptions import HueyException

from moe_core.errors import ConfigError, MoEScopeError
from moe_core.jobs.heartbeat import workers
from moe_core.jobs.job import LANES, MAX_ATTEMPTS, Job, Lane, Progress, Status
from moe_core.jobs.records import KEPT, Records
from moe_core.jobs.transport import guarded, open_huey
from moe_core.runs import bundle
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.version import question_id

log = logging.getLogger(__name__)


class Ticket(NamedTuple):
    """One message: the job it belongs to and the spec as JSON, not yet validated."""

    job_id: str
    spec_json: str


class JobQueue:
    """Submit and watch jobs (any process); take and finish them (a worker). Safe across threads.

    perform: given, jobs are performed inside `submit` and kept in memory: for tests.
    """

    def __init__(self, settings: Settings, perform: Callable[[Ticket], None] | None = None) -> None:
        self._settings = settings
        with guarded():
            self._lanes = {lane: _Lane.open(settings, lane, perform) for lane in LANES}
        self._records = Records(self._lanes["bench"].huey.storage)

    # -- asking (any process) ------------------------------------------------------------------

    def submit(self, spec: RunSpec, *, when_idle: bool = False, while_wanted: bool = False) -> Job:
        """Ask a question. The same question again is the same job, or its answer if there is one.

        when_idle: measure it again, answered or not, as soon as the machine has nothing else to do.
        while_wanted: it does not start once nobody has said `want` for `PATIENCE_S`.
        Raises ConfigError when too many wait already, StoreError when the queue cannot be used.
        """
        job_id = question_id(spec)
        job = self.get(job_id)
        if job and job.active:
            if not while_wanted:
                self._records.keep(job_id)
            return job
        if job and not when_idle and self._answered(job):
            return job.changed(reused=True, stage="answered from the store")
        self._admit()
        fresh = Job(
            job_id=job_id,
            spec=spec,
            order=self._records.next_order(),
            submitted=time.time(),
            when_idle=when_idle,
        )
        self._records.lower_flag(job_id)  # first: a message left from before may then run, and that is well
        if while_wanted:
            self._records.want(job_id, time.time())
        else:
            self._records.keep(job_id)
        self._records.put(fresh)
        self._send(fresh)
        return self.get(job_id) or fresh

    def get(self, job_id: str) -> Job | None:
        """One job as it is now."""
        return self._records.get(job_id)

    def list_jobs(self, limit: int = 100) -> list[Job]:
        """The last jobs submitted, newest first."""
        return self._records.newest(limit)

    def cancel(self, job_id: str) -> Job | None:
        """Wish a job away: at once if it waits, between two steps if it runs. No-op when it is over."""
        job = self.get(job_id)
        if job is None or not job.active:
            return job
        self._records.raise_flag(job_id)
        return self.get(job_id)

    def want(self, job_id: str) -> None:
        """Somebody still waits for this job. No-op for one that runs whether anybody waits or not."""
        if self._records.wanted(job_id) is not None:
            self._records.want(job_id, time.time())

    # -- answering (a worker) ------------------------------------------------------------------

    def take(self, lanes: Sequence[Lane] = LANES) -> Ticket | None:
        """The next message, by lane, priority, then age; None when there is none. Drops what is not ours."""
        found = (self._lanes[lane].take() for lane in lanes)
        return next((ticket for ticket in found if ticket is not None), None)

    def messages(self, lane: Lane) -> int:
        """How many messages wait in a lane."""
        with guarded():
            return int(self._lanes[lane].huey.storage.queue_size())

    def claim(self, job_id: str, worker: str, device_key: str | None) -> Job | None:
        """Start a queued job. None if it was cancelled meanwhile, is over, or another worker has it."""
        if not self._records.claim(job_id, worker):
            return None
        job = self.get(job_id)
        if job is not None and job.status == "queued":
            running = job.changed(
                status="running", stage="starting", worker=worker, device_key=device_key,
                attempts=job.attempts + 1, started=time.time(), finished=None,
            )  # fmt: skip
            self._records.put(running)
            return running
        if job is not None and job.status == "cancelled":
            self._records.put(job.changed(finished=time.time()))
        self._records.lower_flag(job_id)
        self._records.release(job_id)
        return None

    def report(
        self, job_id: str, stage: str, fraction: float, eta_s: float | None, run_id: str | None = None
    ) -> None:
        """Progress of a running job. `run_id`: of a part that can be seen already."""
        progress = Progress(stage=stage, fraction=fraction, eta_s=eta_s, run_id=run_id)
        self._records.put_progress(job_id, progress)

    def is_cancelled(self, job_id: str) -> bool:
        """Whether somebody wished this job away."""
        return self._records.flagged(job_id)

    def finish(
        self, job: Job, status: Status, *, run_id: str | None = None, error: Exception | None = None
    ) -> Job:
        """End a running job and give back its claim. The text of `error` is a sentence for the user."""
        over = job.changed(
            status=status, stage=status, fraction=1.0 if status == "done" else job.fraction,
            eta_s=None, run_id=run_id, finished=time.time(),
            error=str(error) if error else None, failure=type(error).__name__ if error else None,
        )  # fmt: skip
        self._records.put(over)
        self._records.lower_flag(job.job_id)
        self._records.release(job.job_id)
        return over

    def requeue(self, job: Job, *, count: bool) -> None:
        """Put a running job back, first in line. `count`: this attempt counts as one."""
        attempts = job.attempts if count else job.attempts - 1
        back = job.changed(
            status="queued", stage="queued", fraction=0.0, eta_s=None, started=None, attempts=attempts
        )
        self._records.put(back)
        self._records.release(job.job_id)
        self._send(back)

    def recover(self, worker: str) -> None:
        """Mend what a dead worker left. To be called by `worker` itself, before it takes a job.

        A run in flight is tried once more, then failed; a message lost between queue and claim is
        sent again. A live worker of another name keeps its claims.
        """
        others = {vital.beat.name for vital in workers(self._settings.data_dir) if vital.alive} - {worker}
        waiting = self._pending()
        for job in reversed(self.list_jobs(KEPT)):
            owner = self._records.claimant(job.job_id)
            if owner in others:
                continue
            if job.status == "running":
                self._recover_run(job)
                continue
            if owner is not None:
                self._records.release(job.job_id)
            if job.status == "queued" and job.job_id not in waiting:
                self._send(job)

    def close(self) -> None:
        """Close the connections."""
        for lane in self._lanes.values():
            lane.huey.storage.close()

    def waiting(self) -> int:
        """How many jobs are queued."""
        return sum(job.status == "queued" for job in self.list_jobs(KEPT))

    def _recover_run(self, job: Job) -> None:
        if job.attempts < MAX_ATTEMPTS:
            self.requeue(job, count=True)
            return
        error = MoEScopeError(
            f"the worker died {job.attempts} times during this run, last in stage '{job.stage}': "
            "most likely it ran out of memory, so ask for fewer tokens or experts"
        )
        self.finish(job, "failed", error=error)

    def _admit(self) -> None:
        limit = self._settings.max_queued
        if self.waiting() >= limit:
            raise ConfigError(
                f"max_queued ({limit}): that many questions already wait; cancel some or try again later"
            )

    def _answered(self, job: Job) -> bool:
        """Whether the answer is still there, and this installation's device would give the same one."""
        if job.status != "done" or job.run_id is None:
            return False
        try:
            if not bundle.read(self._settings.runs_dir / job.run_id).manifest.complete:
                return False
        except MoEScopeError:
            return False
        last = [vital.beat for vital in workers(self._settings.data_dir) if vital.beat.name == job.worker]
        return not last or last[0].device_key in (None, job.device_key)

    def _send(self, job: Job) -> None:
        lane = self._lanes[job.lane]
        task = lane.task.s(job.spec.model_dump_json(), id=job.job_id, priority=job.priority)
        with guarded():
            lane.huey.enqueue(task)

    def _pending(self) -> set[str]:
        return {job_id for lane in self._lanes.values() for job_id in lane.pending()}


class _Lane(NamedTuple):
    """Messages of one kind, and the task that carries them."""

    huey: Huey
    task: Any

    @classmethod
    def open(cls, settings: Settings, lane: Lane, perform: Callable[[Ticket], None] | None) -> _Lane:
        suffix = "" if lane == "bench" else lane  # the bench's name is older than the lanes
        huey = open_huey(settings, immediate=perform is not None, lane=suffix)

        @huey.task(name="run", context=True)
        def run(spec_json: str, task: Any) -> None:
            assert perform is not None, "workers take tickets; only immediate queues run tasks"
            perform(Ticket(task.id, spec_json))

        return cls(huey, run)

    def take(self) -> Ticket | None:
        while True:
            with guarded():
                data = self.huey.storage.dequeue()
            if data is None:
                return None
            try:
                task = self.huey.deserialize_task(bytes(data))
                return Ticket(str(task.id), _spec_json(task.args))
            except (HueyException, ValueError, TypeError) as error:
                log.warning("dropped a queue entry that is not ours: %s", error)

    def pending(self) -> Iterator[str]:
        with guarded():
            items = self.huey.storage.enqueued_items()
        for data in items:
            try:
                yield str(self.huey.deserialize_task(bytes(data)).id)
            except (HueyException, ValueError, TypeError):
                continue  # `take` will drop it


def _spec_json(args: Any) -> str:
    """The only argument of a message. Raises ValueError when it is anything else."""
    if not (isinstance(args, list | tuple) and len(args) == 1 and isinstance(args[0], str)):
        raise ValueError("a message carries one spec")
    return args[0]
