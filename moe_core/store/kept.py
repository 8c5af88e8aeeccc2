"""Kept: rows that are versions. What scenarios and reviews share: identities, versions, times."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from duckdb import DuckDBPyConnection

from moe_core.errors import ConfigError
from moe_core.runs.layout import RUN_ID
from moe_core.specs import Spec
from moe_core.store.db import Store

Table = Literal["scenarios", "reviews"]
_KEYS: dict[Table, str] = {"scenarios": "scenario_id", "reviews": "review_id"}


def new_id() -> str:
    """16 hex digits that nothing has yet: safe in a path and in a URL."""
    return secrets.token_hex(8)


def check_id(found: str) -> str:
    """`found`, if it can be an identity. Raises ConfigError."""
    if not RUN_ID.fullmatch(found):
        raise ConfigError(f"id ({found[:40]!r}): must be 16 hexadecimal digits")
    return found


def now() -> datetime:
    """UTC without a zone, as the store keeps times."""
    return datetime.now(UTC).replace(tzinfo=None)


def append(
    cursor: DuckDBPyConnection, table: Table, identity: str, content: Spec, author: str, base: int
) -> int:
    """Add the version after `base`. Raises ConfigError when somebody else has saved one meanwhile."""
    key = _KEYS[table]
    latest = cursor.execute(
        f"SELECT coalesce(max(version), 0) FROM {table} WHERE {key} = $id", {"id": identity}
    ).fetchall()[0][0]
    if latest != base:
        raise ConfigError(f"version ({base}): version {latest} was saved meanwhile; open it first")
    cursor.execute(
        f"INSERT INTO {table} VALUES ($id, $version, $created, $author, $content)",
        {
            "id": identity,
            "version": base + 1,
            "created": now(),
            "author": author,
            "content": content.model_dump_json(),
        },
    )
    return base + 1


def versions(store: Store, table: Table, identity: str) -> list[tuple[int, datetime, str, str]]:
    """version, created, author, content of each, the oldest first."""
    return store.rows(
        f"SELECT version, created, author, content FROM {table} WHERE {_KEYS[table]} = $id ORDER BY version",
        id=identity,
    )


def identities(store: Store, table: Table) -> set[str]:
    """Everything of a kind that the database has."""
    return {found for (found,) in store.rows(f"SELECT DISTINCT {_KEYS[table]} FROM {table}")}


def restore(
    cursor: DuckDBPyConnection, table: Table, identity: str, rows: Iterable[tuple[int, str, str, str]]
) -> None:
    """Bring back versions that are lacking, as (version, created, author, content); those there stay."""
    for version, created, author, content in rows:
        cursor.execute(
            f"INSERT INTO {table} VALUES ($id, $version, $created, $author, $content) ON CONFLICT DO NOTHING",
            {
                "id": identity,
                "version": version,
                "created": datetime.fromisoformat(created),
                "author": author,
                "content": content,
            },
        )


def erase(cursor: DuckDBPyConnection, table: Table, identity: str) -> None:
    """Every version goes."""
    cursor.execute(f"DELETE FROM {table} WHERE {_KEYS[table]} = $id", {"id": identity})
