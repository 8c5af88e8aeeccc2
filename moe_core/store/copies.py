"""Copies: rows and the files beside them, brought to agree. What one of them lost, the other still has.

After a database was lost or rebuilt its rows come back from the files; a file that is missing or
damaged is written again from the rows. Nothing that is there is overwritten by what is older.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from duckdb import DuckDBPyConnection

from moe_core.errors import ConfigError, StoreError
from moe_core.store import kept, reviews, scenarios, shelf
from moe_core.store.db import Store
from moe_core.store.shelf import C, Shelf


def refill(store: Store) -> tuple[str, ...]:
    """Reviews and scenarios of which the database lacked something; their identities. Raises StoreError."""
    settings = store.settings
    return (
        *_agree(store, "reviews", shelf.of_reviews(settings), reviews.copy, reviews.restore),
        *_agree(store, "scenarios", shelf.of_scenarios(settings), scenarios.copy, scenarios.restore),
    )


def _agree(
    store: Store,
    table: kept.Table,
    files: Shelf[C],
    copy: Callable[[Store, str], C],
    restore: Callable[[DuckDBPyConnection, C], None],
) -> tuple[str, ...]:
    filed = {one.identity: one for one in files.every()}
    before = {identity: _readable(store, identity, copy) for identity in kept.identities(store, table)}
    lacking = [one for one in filed.values() if before.get(one.identity) != one]
    for one in lacking:
        with store.transaction() as cursor:
            restore(cursor, one)
    after = {one.identity: _readable(store, one.identity, copy) for one in lacking}
    for identity, row in {**before, **after}.items():
        if row is not None and filed.get(identity) != row:
            with suppress(StoreError):  # a full disk: the rows are there, the next start tries again
                files.put(row)
    return tuple(identity for identity in after if after[identity] != before.get(identity))


def _readable(store: Store, identity: str, copy: Callable[[Store, str], C]) -> C | None:
    with suppress(ConfigError):  # written by another version: it stays as it is
        return copy(store, identity)
    return None
