"""Heartbeat: who is alive, since when, and doing what.

A process is alive while it holds `<name>.lock`; the kernel frees the lock however the process ends.
Its description is `<name>.json`, and the age of that file is the age of the last beat: a beat
is one system call, a few microseconds, and does not disturb what is being timed.
Other processes share the state directory, so they see both.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from moe_core.errors import ConfigError, StoreError
from moe_core.specs import Spec

WORKER, WEB = "worker", "web"
TRAINING = "worker-training"  # of the one that performs experiments beside the bench's worker
BEAT_S = 1.0
HUNG_S = 15.0  # a live process that has not beaten for so long is stuck, or stopped

Phase = Literal["starting", "idle", "running", "stopping"]


class TakenError(StoreError):
    """Another process of that name is alive."""


class FullError(StoreError):
    """The disk is full."""


class Beat(Spec):
    """What a process says about itself. `deadline`: Unix time by which the current job must be over."""

    name: str
    pid: int
    host: str
    started: float
    code_version: str
    supervised: bool = False
    phase: Phase = "starting"
    device: str | None = None  # its name, and its identity
    device_key: str | None = None
    job_id: str | None = None
    deadline: float | None = None


class Vital(NamedTuple):
    """A beat as another process sees it. `alive`: the process exists; `age_s`: since its last beat."""

    beat: Beat
    alive: bool
    age_s: float

    @property
    def hung(self) -> bool:
        """Alive, and silent for too long."""
        return self.alive and self.age_s > HUNG_S

    @property
    def overdue(self) -> bool:
        """Alive, and long past the time limit of its job: stuck inside one step."""
        return self.alive and self.beat.deadline is not None and time.time() > self.beat.deadline


class Pulse:
    """The holder's side: says what it does now, and beats."""

    def __init__(self, directory: Path, beat: Beat) -> None:
        self._path, self._beat = directory / f"{beat.name}.json", beat
        self._done = threading.Event()
        self._write()

    @property
    def name(self) -> str:
        """Name of the lock this process holds."""
        return self._beat.name

    @property
    def code_version(self) -> str:
        """The code this process runs."""
        return self._beat.code_version

    def say(self, **changes: object) -> None:
        """Replace fields of the description: at once and as a whole.

        On a full disk the old description stays: what is being computed does not end for it, and
        whoever writes the answer says that the disk is full.
        """
        self._beat = Beat.parse({**dict(self._beat), **changes})
        with suppress(FullError):
            self._write()

    def _write(self) -> None:
        draft = self._path.with_suffix(f".{self._beat.pid}.tmp")
        try:
            draft.write_text(self._beat.model_dump_json())
            draft.replace(self._path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            kind = FullError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else StoreError
            raise kind(f"{self._path} cannot be written: {error.strerror}") from error

    def beat(self) -> None:
        """Say: still here. A state directory deleted meanwhile is noticed by what writes there."""
        with suppress(FileNotFoundError):
            os.utime(self._path)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beat from a thread while the caller works. It sleeps in C and holds no interpreter lock."""
        thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _keep_beating(self) -> None:
        while not self._done.wait(BEAT_S):
            self.beat()


@contextmanager
def hold(directory: Path, name: str, code_version: str, *, supervised: bool = False) -> Iterator[Pulse]:
    """Be the one process called `name`. Raises TakenError when another is alive, StoreError when the disk
    refuses."""
    try:
        lock = os.open(_lock_path(directory, name), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"{_lock_path(directory, name)} cannot be made: {error.strerror}") from error
    try:
        if not _grab(lock):
            vital = read(directory, name)
            pid = f" (process {vital.beat.pid})" if vital else ""
            raise TakenError(f"another {name}{pid} already serves {directory}: only one may")
        yield Pulse(
            directory,
            Beat(
                name=name,
                pid=os.getpid(),
                host=platform.node(),
                started=time.time(),
                code_version=code_version,
                supervised=supervised,
            ),
        )
    finally:
        os.close(lock)


def held(directory: Path, name: str) -> bool:
    """Whether a process called `name` is alive. Exact: it asks the kernel."""
    try:
        lock = os.open(_lock_path(directory, name), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def read(directory: Path, name: str = WORKER) -> Vital | None:
    """The last beat of `name`, dead or alive; None if it never lived here."""
    path = directory / f"{name}.json"
    alive = held(directory, name)
    try:
        age = max(0.0, time.time() - path.stat().st_mtime)
        return Vital(Beat.parse_json(path.read_bytes()), alive, age)
    except (FileNotFoundError, ConfigError):  # never written, or written by another version
        return None


def workers(directory: Path) -> list[Vital]:
    """Every worker that ever lived here, the live ones first."""
    names = sorted(path.stem for path in directory.glob(f"{WORKER}*.json"))
    found = [vital for vital in (read(directory, name) for name in names) if vital]
    return sorted(found, key=lambda vital: not vital.alive)


def _lock_path(directory: Path, name: str) -> Path:
    return directory / f"{name}.lock"


def _grab(lock: int) -> bool:
    """Lock, waiting a moment: a reader asking who is alive holds it for microseconds."""
    for _ in range(20):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
    return False
