"""Reviews: every save is a new version, every decision a new line of the log; old ones stay readable.

A copy of each review lies beside the database (`shelf`): the command line reads it while the web process
holds the database, and `copies.refill` brings it back when the database had to be made anew.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pandas as pd
from duckdb import DuckDBPyConnection

from moe_core.errors import ConfigError
from moe_core.review import Decision, Review, Saved
from moe_core.store import kept, shelf
from moe_core.store.db import Store
from moe_core.store.shelf import LogLine, ReviewCopy, ReviewVersion


def create(store: Store, review: Review, author: str = "") -> str:
    """Save a new review; its identity."""
    identity = kept.new_id()
    save(store, identity, review, author, base=0)
    return identity


def save(store: Store, review_id: str, review: Review, author: str = "", *, base: int) -> int:
    """Save the version after `base`; its number. Raises ConfigError if `base` is not the newest."""
    with store.transaction() as cursor:
        version = kept.append(cursor, "reviews", kept.check_id(review_id), review, author, base)
    shelf.of_reviews(store.settings).put(copy(store, review_id))
    return version


def log(store: Store, review_id: str, decision: Decision) -> None:
    """Add a line to the decision log. There is no way to change or remove one but deleting the review."""
    newest = read(store, review_id)
    with store.transaction() as cursor:
        cursor.execute(
            """
            INSERT INTO review_log
            SELECT $id, coalesce(max(entry), 0) + 1, $version, $created, $who, $what, $why
            FROM review_log WHERE review_id = $id""",
            {"id": review_id, "version": newest.latest, "created": kept.now(), **decision.model_dump()},
        )
    shelf.of_reviews(store.settings).put(copy(store, review_id))


def read(store: Store, review_id: str, version: int | None = None) -> Saved:
    """One version with the whole log, the newest unless one is named. Raises ConfigError."""
    return copy(store, kept.check_id(review_id)).saved(version)


def listing(store: Store) -> pd.DataFrame:
    """review_id, title, question, scenarios (number), decisions (number), version, author, created.

    The newest version of each review, newest first.
    """
    return store.frame(
        """
        SELECT review_id, content->>'$.title' AS title, content->>'$.question' AS question,
            json_array_length(content, '$.scenarios')::INTEGER AS scenarios,
            (SELECT count(*) FROM review_log WHERE review_log.review_id = reviews.review_id)::INTEGER
                AS decisions,
            version, author, created
        FROM reviews
        QUALIFY row_number() OVER (PARTITION BY review_id ORDER BY version DESC) = 1
        ORDER BY created DESC, review_id"""
    )


def delete(store: Store, review_id: str) -> None:
    """Delete a review with all its versions, its log and its copy."""
    identity = kept.check_id(review_id)
    shelf.of_reviews(store.settings).remove(identity)
    with store.transaction() as cursor:
        kept.erase(cursor, "reviews", identity)
        cursor.execute("DELETE FROM review_log WHERE review_id = $id", {"id": identity})


def copy(store: Store, review_id: str) -> ReviewCopy:
    """All there is of a review. Raises ConfigError if there is none such."""
    versions = kept.versions(store, "reviews", review_id)
    if not versions:
        raise ConfigError(f"review ({review_id}): must be a review in the store")
    lines = store.rows(
        "SELECT entry, version, created, who, what, why FROM review_log WHERE review_id = $id ORDER BY entry",
        id=review_id,
    )
    return ReviewCopy(
        review_id=review_id,
        versions=tuple(
            ReviewVersion(
                version=number, created=when.isoformat(), author=who, review=Review.parse_json(content)
            )
            for number, when, who, content in versions
        ),
        log=tuple(
            LogLine(
                entry=entry,
                version=version,
                created=when.isoformat(),
                decision=Decision(who=who, what=what, why=why),
            )
            for entry, version, when, who, what, why in lines
        ),
    )


def restore(cursor: DuckDBPyConnection, found: ReviewCopy) -> None:
    """Bring back versions and lines of the log that the database lacks."""
    rows = [(one.version, one.created, one.author, one.content.model_dump_json()) for one in found.versions]
    kept.restore(cursor, "reviews", found.identity, rows)
    for line in found.log:
        values: dict[str, Any] = {"id": found.identity, **line.decision.model_dump()}
        values |= {"entry": line.entry, "version": line.version}
        cursor.execute(
            "INSERT INTO review_log VALUES ($id, $entry, $version, $created, $who, $what, $why) "
            "ON CONFLICT DO NOTHING",
            {**values, "created": datetime.fromisoformat(line.created)},
        )
