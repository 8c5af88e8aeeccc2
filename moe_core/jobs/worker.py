"""Worker: the process that computes. One per device; it alone imports torch.

A plain loop in the main thread, because a busy second thread would be timed along with the run
(HOUSE.md, "Two processes"). Loaded and warm before the first job, so that a run starts at once.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from moe_core import threads
from moe_core.errors import CancelledError, InfeasibleError, MoEScopeError
from moe_core.jobs import heartbeat, live
from moe_core.jobs.heartbeat import WEB, WORKER, Pulse
from moe_core.jobs.job import LANES, Job, Lane, Status
from moe_core.jobs.queue import JobQueue, Ticket
from moe_core.runs import bundle
from moe_core.runs.context import RunContext
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.threads import Waiting
from moe_core.version import code_version, question_id

POLL_S = 0.05  # an idle look into the queue costs about 20 us
GRACE_S = 30.0  # how long a managed worker outlives the web process that started it
OVERDUE_S = 60.0  # a step that outlasts the time limit by this much is stuck
CALM_S = 3.0  # so long must the machine have had nothing else to do before what waits for that is measured

Lab = Callable[[RunSpec, RunContext], Path]
log = logging.getLogger(__name__)


class Labs(NamedTuple):
    """What a worker can run, once it is warm: lab name -> function; name and identity of its device.

    tune: learns what is fast on the device, unless that is known from a quiet machine.
    """

    table: Mapping[str, Lab]
    device: str
    device_key: str
    tune: Callable[[], object] = lambda: None


def load_labs() -> Labs:
    """Import the experiments, and torch with them; learn what is fast here; load the shipped models."""
    threads.prepare()
    from moe_core.device import describe, pick
    from moe_core.labs.table import LABS
    from moe_core.labs.tuning import measure
    from moe_core.runs import execute, tuning

    device = pick("auto")
    tune = partial(tuning.ensure, device, measure)
    tune()
    execute.warm()
    info = describe(device)
    return Labs(LABS, info.name, info.key, tune)


def load_experiments() -> Labs:
    """Import the experiments that train, to compute with one thread: what browses has the other cores."""
    os.environ["OMP_NUM_THREADS"] = "1"
    threads.prepare()
    import torch

    from moe_core.device import describe, pick
    from moe_core.labs.table import LABS

    torch.set_num_threads(1)
    info = describe(pick("cpu"))
    return Labs(LABS, info.name, info.key)


class Stopping(CancelledError):
    """The worker was asked to end: the run goes back to the queue."""


class Worker:
    """Takes jobs and performs them, one after the other.

    supervised: end, some time after the web process did.   load: imports and warms what runs jobs.
    on_progress: also told about progress, as (stage, fraction, eta_s).
    lanes: whose messages it takes, the first before the second.   idle_s: end after so long without work.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str = WORKER,
        supervised: bool = False,
        grace_s: float = GRACE_S,
        load: Callable[[], Labs] = load_labs,
        on_progress: Callable[[str, float, float | None], None] | None = None,
        lanes: Sequence[Lane] = LANES,
        idle_s: float = math.inf,
    ) -> None:
        self._settings, self._name, self._supervised = settings, name, supervised
        self._lanes, self._idle_s = lanes, idle_s
        self._grace_s, self._load, self._on_progress = grace_s, load, on_progress
        self._labs = Labs({}, "", "")
        self._waiting: Waiting | None = None  # of this worker's threads for one another
        self._parked: list[Ticket] = []  # jobs that wait for a machine with nothing else to do
        self._tuned = False  # since the machine was first quiet
        self._stopping = False

    def serve(self) -> int:
        """Perform jobs until told to stop (SIGTERM, SIGINT) or abandoned. Returns how many were performed.

        Raises StoreError when this worker's name is taken, or the queue cannot be used.
        """
        with self._ready() as (queue, pulse), self._stopped_by_signals():
            pulse.say(phase="idle")  # from here on, a signal is a request
            performed = 0
            unclaimed_since = worked = time.monotonic()
            while not self._stopping:
                if not self._supervised or heartbeat.held(self._settings.data_dir, WEB):
                    unclaimed_since = time.monotonic()
                elif time.monotonic() - unclaimed_since > self._grace_s:
                    log.info("nobody has claimed this worker for %g s: ending", self._grace_s)
                    break
                ticket = self._next(queue)
                if ticket is None and time.monotonic() - worked > self._idle_s:
                    break
                if ticket is None:
                    time.sleep(POLL_S)
                    continue
                performed += self._perform(queue, pulse, ticket)
                worked = time.monotonic()
            pulse.say(phase="stopping")
            return performed

    def run_one(self, spec: RunSpec) -> Job:
        """Perform one question in this process, as the only worker of that name. For the command line."""
        with self._ready() as (queue, pulse):
            job = queue.submit(spec)
            if job.active:
                self._perform(queue, pulse, Ticket(job.job_id, spec.model_dump_json()))
            return queue.get(job.job_id) or job

    def _next(self, queue: JobQueue) -> Ticket | None:
        """The next message to act on. One that wishes for an idle machine is put aside until there is one."""
        assert self._waiting is not None
        self._waiting.settle()
        calm = self._waiting.calm_s >= CALM_S
        ticket = queue.take(self._lanes)
        if ticket is None and calm and not self._tuned:  # what was found beside other work is found again
            self._tuned = True
            self._labs.tune()
        if ticket is None:
            return self._parked.pop(0) if self._parked and calm else None
        job = queue.get(ticket.job_id)
        if job and job.when_idle and not calm:
            self._parked.append(ticket)
            return None
        return ticket

    @contextmanager
    def _ready(self) -> Iterator[tuple[JobQueue, Pulse]]:
        """The only worker of its name, beating, warm, with the queue mended."""
        directory, version = self._settings.data_dir, code_version()
        with (
            heartbeat.hold(directory, self._name, version, supervised=self._supervised) as pulse,
            pulse.beating(),
            Waiting() as self._waiting,
        ):
            self._labs = self._load()
            self._waiting.find_library()
            pulse.say(device=self._labs.device, device_key=self._labs.device_key)
            queue = JobQueue(self._settings)
            try:
                queue.recover(self._name)
                bundle.clean(self._settings.runs_dir)  # drafts of a worker that was killed
                yield queue, pulse
            finally:
                queue.close()

    def _perform(self, queue: JobQueue, pulse: Pulse, ticket: Ticket) -> bool:
        """One message, from claim to outcome. False when there was nothing to do."""
        job = queue.claim(ticket.job_id, self._name, self._labs.device_key)
        if job is None:
            return False
        deadline = time.time() + job.spec.time_limit_s + OVERDUE_S
        pulse.say(phase="running", job_id=job.job_id, deadline=deadline)
        try:
            self._answer(queue, job, ticket)
        finally:
            pulse.say(phase="idle", job_id=None, deadline=None)
        return True

    def _answer(self, queue: JobQueue, job: Job, ticket: Ticket) -> None:
        """Run the lab and record how it ended. Every outcome is one sentence for the user."""
        try:
            spec = _checked(ticket)
            path = self._labs.table[spec.lab](spec, self._context(queue, job))
            queue.finish(job, "done", run_id=path.name)
        except Stopping:
            queue.requeue(job, count=False)
        except KeyboardInterrupt:
            queue.finish(job, "cancelled", error=CancelledError("cancelled from the keyboard"))
            raise
        except MoEScopeError as error:
            queue.finish(job, _status(error), error=error)
        except MemoryError:
            exhausted = InfeasibleError("the memory of this machine ran out during the run")
            queue.finish(job, "infeasible", error=exhausted)
        except Exception as error:
            # A bug. After it the device may be unusable (a failed CUDA kernel poisons its process), so
            # a managed worker ends too and comes back fresh.
            traceback.print_exc()
            queue.finish(job, "failed", error=MoEScopeError(f"unexpected {_line(error)}"))
            self._stopping = self._stopping or self._supervised
        finally:
            live.forget(self._settings.data_dir, job.job_id)

    def _context(self, queue: JobQueue, job: Job) -> RunContext:
        assert self._waiting is not None
        part: list[str] = []  # run id of what can be seen already

        def report(stage: str, fraction: float, eta_s: float | None) -> None:
            queue.report(job.job_id, stage, fraction, eta_s, part[0] if part else None)
            if self._on_progress:
                self._on_progress(stage, fraction, eta_s)

        def check() -> None:
            if queue.is_cancelled(job.job_id):
                raise CancelledError("cancelled on request")
            if self._stopping:
                raise Stopping("the worker is ending")

        return RunContext(
            time_limit_s=job.spec.time_limit_s,
            report=report,
            check=check,
            settle=self._waiting.settle,
            published=part.append,
            show=partial(live.show, self._settings.data_dir, job.job_id),
        )

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask once; a second one ends the process there and then."""

        def ask(number: int, frame: FrameType | None) -> None:
            self._stopping = True
            signal.signal(number, signal.SIG_DFL)

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _checked(ticket: Ticket) -> RunSpec:
    """The spec, validated again: what came through the queue is not trusted."""
    spec = RunSpec.parse_json(ticket.spec_json)
    if question_id(spec) != ticket.job_id:
        raise MoEScopeError(
            "the program on disk changed since the app or the worker started: restart both and run it again"
        )
    return spec


def _status(error: MoEScopeError) -> Status:
    """The status a run ends with."""
    if isinstance(error, CancelledError):
        return "cancelled"
    return "infeasible" if isinstance(error, InfeasibleError) else "failed"


def _line(error: Exception) -> str:
    """Kind and first line of an error of ours, at most 200 characters of it."""
    lines = str(error).strip().splitlines()
    text = lines[0][:200] if lines else "no message"
    return f"{type(error).__name__}: {text} (the worker's log has the details)"
