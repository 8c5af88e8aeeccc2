"""The database: one DuckDB file, owned by one process, locked down, and rebuilt from bundles at will.

Each query gets its own cursor, so any thread may ask; writers take turns. Settings are given while
connecting and locked at once: no SQL can reach files, extensions or the configuration after that.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import duckdb
import pandas as pd
from duckdb import DuckDBPyConnection

from moe_core.errors import StoreError
from moe_core.settings import Settings
from moe_core.units import quantity

MIGRATIONS = Path(__file__).parent / "migrations"
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}
_REBUILD = "run `python -m moe_core ingest --rebuild`"


class Store:
    """An open database. `notices` are sentences for the user about what opening it took."""

    def __init__(self, connection: DuckDBPyConnection, settings: Settings, notices: tuple[str, ...]) -> None:
        self._connection = connection
        self._writing = threading.Lock()
        self.settings = settings
        self.notices = notices
        self._opened, self._written = uuid4().hex, 0

    @property
    def state(self) -> str:
        """Another word after every write: what was looked up under one still holds while it is the same."""
        return f"{self._opened}/{self._written}"

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open or create the database, bring its schema up to date and read it through once.

        A file that cannot be read is moved aside: bundles and copies are the truth, `ingest.refresh` and
        `copies.refill` fill the new one. Raises StoreError when another process holds it or the disk refuses.
        """
        first = not settings.database.exists()
        try:
            return cls(_connect(settings.database), settings, ())
        except duckdb.Error as error:
            try:
                _raise_if_sound(settings.database, error)
            except StoreError:
                if first and _is_full(error):  # half a file would be called unreadable the next time
                    _remove(settings.database)
                raise
            return cls.anew(settings)

    @classmethod
    def anew(cls, settings: Settings) -> Self:
        """Move the file aside and open an empty one. Raises StoreError when the disk refuses."""
        try:
            aside = _move_aside(settings.database)
            opened = cls(_connect(settings.database), settings, ())
        except (OSError, duckdb.Error) as error:
            if _is_full(error):
                _remove(settings.database)
            raise StoreError(f"{settings.database} cannot be made again: {_first_line(error)}") from error
        opened.notices = (
            f"{settings.database} could not be read and is now {aside.name}: rebuilt from the runs and from "
            "the copies of reviews and scenarios",
        )
        return opened

    def close(self) -> None:
        """Close the file; a query still in flight keeps it until it ends."""
        self._connection.close()

    def frame(self, sql: str, **parameters: Any) -> pd.DataFrame:
        """The rows of one SELECT; `$name` in `sql` is `parameters[name]`. Raises StoreError."""
        with self._translate(), self._connection.cursor() as cursor:
            return cursor.execute(sql, parameters).df()

    def rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Like `frame`, as plain tuples: for lookups of a few values."""
        with self._translate(), self._connection.cursor() as cursor:
            return cursor.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[DuckDBPyConnection]:
        """All or nothing, one writer at a time. Raises StoreError; readers see the state before."""
        with self._writing, self._translate(), self._connection.cursor() as cursor:
            cursor.execute("BEGIN TRANSACTION")
            try:
                yield cursor
                cursor.execute("COMMIT")
                self._written += 1
            except BaseException:
                _roll_back(cursor)
                raise

    @contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            if _is_full(error):
                free = quantity(shutil.disk_usage(self.settings.data_dir).free, "B")
                raise StoreError(
                    f"the disk is full: {free} is free under {self.settings.data_dir}; "
                    "delete runs or set MOE_DATA_DIR to a larger disk"
                ) from error
            if isinstance(error, duckdb.ProgrammingError):  # our SQL is wrong: a bug, not the user's
                raise
            raise StoreError(f"{self.settings.database} failed ({_first_line(error)}): {_REBUILD}") from error


def migrate(cursor: DuckDBPyConnection) -> None:
    """Apply the numbered files of `migrations/` that this database lacks, each in a transaction."""
    cursor.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER NOT NULL, name VARCHAR NOT NULL)")
    done = {number for (number,) in cursor.execute("SELECT number FROM migrations").fetchall()}
    files = {int(path.name.split("_")[0]): path for path in MIGRATIONS.glob("*.sql")}
    if done - set(files):
        raise duckdb.NotSupportedError("its schema is newer than this version of MoEScope")
    for number, path in sorted(files.items()):
        if number in done:
            continue
        cursor.execute("BEGIN TRANSACTION")
        cursor.execute(path.read_text(encoding="utf-8"))
        cursor.execute(
            "INSERT INTO migrations VALUES ($number, $name)", {"number": number, "name": path.stem}
        )
        cursor.execute("COMMIT")


def _connect(path: Path) -> DuckDBPyConnection:
    connection = duckdb.connect(str(path), config=_CONFIG)
    try:
        with suppress(PermissionError):  # somebody else's file in a shared directory
            path.chmod(0o600)
        migrate(connection)
        _read_through(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _read_through(connection: DuckDBPyConnection) -> None:
    """Every block of every table, whose checksums DuckDB compares when it first reads them.

    Otherwise a flipped bit shows weeks later, on a page. Five million decisions take 0.1 s.
    """
    for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
        connection.execute(f"SELECT bit_xor(hash(t)) FROM {table} AS t").fetchall()


def _raise_if_sound(path: Path, error: duckdb.Error) -> None:
    """Raise StoreError when the file is fine and something else is in the way."""
    message = _first_line(error)
    if "Could not set lock" in message:
        holder = re.search(r"PID (\d+)", message)
        who = f"process {holder[1]}" if holder else "another process"
        raise StoreError(
            f"{path} is in use by {who}: stop it, or set MOE_DATA_DIR to another directory"
        ) from error
    environment = r"Permission denied|Read-only|Too many open|Out of Memory|different configuration"
    if _is_full(error) or re.search(environment, message):
        raise StoreError(f"{path} cannot be opened: {message}") from error


def _move_aside(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    aside = path.with_name(f"{path.name}.unreadable-{stamp}")
    for suffix in ("", ".wal"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _remove(path: Path) -> None:
    for suffix in ("", ".wal"):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink()


def _roll_back(cursor: DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # a failed COMMIT has already rolled back
        cursor.execute("ROLLBACK")


def _is_full(error: Exception) -> bool:
    return bool(re.search(r"No space left|File too large|Disk quota", str(error)))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].removesuffix(".")
