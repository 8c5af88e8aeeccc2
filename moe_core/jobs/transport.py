"""Transport: huey over a SQLite file or, by URL, Redis. Messages are signed JSON, never pickle."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huey import Huey
from huey.exceptions import ConfigurationError
from huey.registry import Message
from huey.serializer import SignedSerializer
from huey.storage import PriorityRedisStorage, SqliteStorage

from moe_core.errors import ConfigError, StoreError
from moe_core.settings import Settings

SECRET = "queue.key"
_NOTHING = "\0 \t\r\n"  # what a power cut leaves of a file
_REMEDY = (
    "; stop MoEScope and its workers, delete queue.db in the data directory and start again: "
    "runs are not in it, only questions that still wait"
)


def open_huey(settings: Settings, *, immediate: bool, lane: str = "") -> Huey:
    """The queue of this installation. `immediate`: in memory, tasks run when they are enqueued (tests).

    lane: messages of another lane are not seen, in the same file or Redis.
    """
    secret = _secret(settings.data_dir)
    common = {"serializer": JsonSerializer(secret=secret), "results": False, "immediate": immediate}
    # Installations that share a Redis keep apart: each would drop the other's messages as forged.
    name = "moescope" + hashlib.sha256(secret.encode()).hexdigest()[:8] + lane
    if settings.queue_url is None:
        file = str(settings.queue_file)
        return Huey(name, storage_class=_Sqlite, filename=file, strict_fifo=True, **common)
    try:
        return Huey(
            name, storage_class=PriorityRedisStorage, url=settings.queue_url, blocking=False, **common
        )
    except ConfigurationError as error:
        raise ConfigError("MOE_QUEUE_URL: needs the Python client of Redis: pip install redis") from error


@contextmanager
def guarded() -> Iterator[None]:
    """Turn a storage that fails (locked, full, out of reach) into one sentence, a StoreError."""
    try:
        yield
    except _storage_errors() as error:
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        raise StoreError(f"the queue cannot be used: {error}{_REMEDY if damaged else ''}") from error


@cache
def _storage_errors() -> tuple[type[Exception], ...]:
    if find_spec("redis") is None:
        return (sqlite3.Error, OSError)
    return (sqlite3.Error, OSError, import_module("redis.exceptions").RedisError)


class JsonSerializer(SignedSerializer):
    """Signed like huey's own, but JSON inside: even a stolen secret does not make it run code."""

    def _serialize(self, data: Any) -> bytes:
        return bytes(self._sign(json.dumps(data).encode()))

    def _deserialize(self, data: bytes) -> Any:
        return Message(*json.loads(self._unsign(data)))


class _Sqlite(SqliteStorage):
    """Synced at checkpoints only: safe against killed processes, and a write costs 0.1 ms, not a disk's."""

    def _create_connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._create_connection()
        connection.execute("pragma synchronous=normal")
        return connection


def _secret(directory: Path) -> str:
    """The installation's signing secret, made once. Two first processes agree: a link is never replaced."""
    path = directory / SECRET
    with suppress(FileNotFoundError):
        return _read(path)
    draft = directory / f".{SECRET}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves a key that is empty
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    return _read(path)


def _read(path: Path) -> str:
    """The secret; an empty one is filled, by one of those who find it so: the others wait and read it.

    Read under a lock too: who reads while it is being filled would get a part of it.
    """
    with path.open(errors="replace") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        found = file.read().strip(_NOTHING)
    if not found:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            found = file.read().strip(_NOTHING)
            if not found:
                found = secrets.token_hex(32)
                file.seek(0)
                file.truncate()
                file.write(found)
                file.flush()
                os.fsync(file.fileno())
    return found
