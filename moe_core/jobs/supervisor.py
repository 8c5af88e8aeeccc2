"""Supervisor: the web process's side of the worker. Starts it, adopts it, restarts it, stops it.

An asyncio task and no thread: `async with supervise(settings): ...` in the lifespan of the app.
Nothing here imports torch. With MOE_WORKER=external the worker is somebody else's business.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from moe_core.errors import StoreError
from moe_core.jobs import heartbeat
from moe_core.jobs.heartbeat import TRAINING, WEB, WORKER, Pulse, Vital
from moe_core.jobs.queue import JobQueue
from moe_core.settings import ROOT, Settings
from moe_core.version import code_version

COMMAND = (sys.executable, "-m", "moe_core", "worker", "--supervised")
TRAINING_IDLE_S = 300.0  # a worker for experiments is started when one waits, and ends after so long without
TICK_S = 0.5
BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)  # before the first restart, the second ...
HEALTHY_S = 60.0  # a worker that lived so long starts the back-off anew
STRIKES = 6  # ticks in a row a worker must look stuck: a machine that slept shows one or two
STOP_S = 10.0  # from "please end" to SIGKILL
LOG_BYTES = 5_000_000  # of worker.log; as much again is kept in worker.log.1
HEAD_START_S = 2.0  # of the web process: the first page is drawn while no worker loads torch beside it


@asynccontextmanager
async def supervise(
    settings: Settings, command: Sequence[str] = COMMAND, head_start_s: float = 0.0
) -> AsyncIterator[None]:
    """Keep a worker alive while the body runs. Raises StoreError if another web process does already."""
    if settings.worker == "external":
        yield
        return
    with heartbeat.hold(settings.data_dir, WEB, code_version()) as pulse:
        queue = JobQueue(settings)
        supervisors = [
            Supervisor(settings, pulse, command, head_start_s),
            Supervisor(settings, pulse, _for_training(command), 0.0, TRAINING, _waits(queue)),
        ]
        tasks = [asyncio.create_task(one.watch(), name=f"supervisor of {one.name}") for one in supervisors]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            await asyncio.gather(*(one.stop() for one in supervisors))
            queue.close()


def _for_training(command: Sequence[str]) -> tuple[str, ...]:
    """The same command for a worker that performs experiments only."""
    return (*command, "--name", TRAINING, "--lane", "training", "--idle-s", str(TRAINING_IDLE_S))


def _waits(queue: JobQueue) -> Callable[[], bool]:
    """Whether an experiment waits. A queue that cannot be asked says no: the sentence is for who submits."""

    def waits() -> bool:
        try:
            return queue.messages("training") > 0
        except StoreError:
            return False

    return waits


class Supervisor:
    """One worker called `name`, kept alive. `pulse` is the web process's own heartbeat.

    wanted: whether there is work for it; one that nobody wants is not started.
    """

    def __init__(
        self,
        settings: Settings,
        pulse: Pulse,
        command: Sequence[str] = COMMAND,
        head_start_s: float = 0.0,
        name: str = WORKER,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings, self._pulse, self._command = settings, pulse, command
        self.name, self._wanted = name, wanted
        self._child: subprocess.Popen[bytes] | None = None
        self._started, self._not_before = 0.0, time.monotonic() + head_start_s
        self._failures = self._strikes = 0
        self._asked: int | None = None
        self._log = settings.data_dir / "worker.log"

    async def watch(self) -> None:
        """Look after the worker for ever. A look that fails (a full disk) is logged and tried again."""
        while True:
            try:
                self.tick()
            except OSError as error:
                logging.getLogger(__name__).warning("the worker cannot be looked after: %s", error)
            await asyncio.sleep(TICK_S)

    def tick(self) -> None:
        """One look: beat, reap, and start or end the worker if need be."""
        self._pulse.beat()
        cap(self._log)
        self._reap()
        if heartbeat.held(self._settings.data_dir, self.name):
            self._judge(heartbeat.read(self._settings.data_dir, self.name))
        elif self._child is None and time.monotonic() >= self._not_before and self._wanted():
            self._start()

    async def stop(self) -> None:
        """End the worker, unless it was started by hand. A run in flight goes back to the queue."""
        pid = self._pid()
        if pid is None:
            return
        _signal(pid, signal.SIGTERM)
        until = time.monotonic() + STOP_S
        while self._lives() and time.monotonic() < until:
            await asyncio.sleep(0.05)
        if self._lives():
            _signal(pid, signal.SIGKILL)
        if self._child:
            self._child.wait()
            self._child = None

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=_environment(self._settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the web process, which then ends it
            )
        self._started = time.monotonic()
        self._strikes = 0

    def _reap(self) -> None:
        if self._child is None or self._child.poll() is None:
            return
        self._child = None
        lived = time.monotonic() - self._started
        self._failures = 0 if lived > HEALTHY_S else self._failures + 1
        wait = BACKOFF_S[min(max(self._failures - 1, 0), len(BACKOFF_S) - 1)]
        self._not_before = time.monotonic() + wait

    def _judge(self, vital: Vital | None) -> None:
        """End a managed worker that is stuck, or that runs other code than this process."""
        if vital is None or not vital.beat.supervised:
            return
        stale = self._child is None and vital.beat.code_version != self._pulse.code_version
        if stale and self._asked != vital.beat.pid:  # left over from before an update
            self._asked = vital.beat.pid  # once: a second signal would cut its run short
            _signal(vital.beat.pid, signal.SIGTERM)
        self._strikes = self._strikes + 1 if vital.hung or vital.overdue else 0
        if self._strikes >= STRIKES:
            _signal(vital.beat.pid, signal.SIGKILL)
            self._strikes = 0

    def _pid(self) -> int | None:
        if self._child:
            return self._child.pid
        vital = heartbeat.read(self._settings.data_dir, self.name)
        return vital.beat.pid if vital and vital.alive and vital.beat.supervised else None

    def _lives(self) -> bool:
        if self._child:
            return self._child.poll() is None
        return heartbeat.held(self._settings.data_dir, self.name)


def cap(log: Path, limit: int = LOG_BYTES) -> None:
    """Keep a log that others append to below `limit` bytes: copy it aside, then empty it in place."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > limit:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def _environment(settings: Settings) -> Mapping[str, str]:
    """This process's environment, with the settings it really has."""
    values = {"MOE_DATA_DIR": str(settings.data_dir), "PYTHONUNBUFFERED": "1"}
    if settings.queue_url:
        values["MOE_QUEUE_URL"] = settings.queue_url
    return {**os.environ, **values}


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
