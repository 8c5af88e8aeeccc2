"""Scenarios that were given a name: saved, annotated, versioned. Nothing is overwritten.

A copy of each lies beside the database (`shelf`), and `copies.refill` brings it back, as with reviews.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from duckdb import DuckDBPyConnection

from moe_core.errors import ConfigError
from moe_core.review import Case
from moe_core.store import kept, shelf
from moe_core.store.db import Store
from moe_core.store.shelf import CaseCopy, CaseVersion


class Named(NamedTuple):
    """One version of a saved scenario."""

    scenario_id: str
    version: int
    latest: int
    author: str
    case: Case


def save(store: Store, case: Case, author: str = "", scenario_id: str | None = None, base: int = 0) -> Named:
    """Save a new scenario, or the version after `base` of an old one. Raises ConfigError."""
    identity = kept.check_id(scenario_id) if scenario_id else kept.new_id()
    with store.transaction() as cursor:
        version = kept.append(cursor, "scenarios", identity, case, author, base)
    shelf.of_scenarios(store.settings).put(copy(store, identity))
    return Named(identity, version, version, author, case)


def read(store: Store, scenario_id: str, version: int | None = None) -> Named:
    """One version, the newest unless one is named. Raises ConfigError if there is none such."""
    rows = store.rows(
        """
        SELECT version, author, content, max(version) OVER () FROM scenarios
        WHERE scenario_id = $id ORDER BY version DESC""",
        id=kept.check_id(scenario_id),
    )
    found = next((row for row in rows if version in (None, row[0])), None)
    if found is None:
        raise ConfigError(
            f"scenario ({scenario_id}, version {version or 'newest'}): must be a saved scenario"
        )
    return Named(scenario_id, found[0], found[3], found[1], Case.parse_json(found[2]))


def listing(store: Store) -> pd.DataFrame:
    """scenario_id, name, note, version, author, created; the newest version of each, newest first."""
    return store.frame(
        """
        SELECT scenario_id, content->>'$.name' AS name, content->>'$.note' AS note, version, author, created
        FROM scenarios
        QUALIFY row_number() OVER (PARTITION BY scenario_id ORDER BY version DESC) = 1
        ORDER BY created DESC, scenario_id"""
    )


def delete(store: Store, scenario_id: str) -> None:
    """Delete every version and the copy. Reviews keep their own copies."""
    identity = kept.check_id(scenario_id)
    shelf.of_scenarios(store.settings).remove(identity)
    with store.transaction() as cursor:
        kept.erase(cursor, "scenarios", identity)


def copy(store: Store, scenario_id: str) -> CaseCopy:
    """All there is of a scenario. Raises ConfigError if there is none such."""
    versions = kept.versions(store, "scenarios", scenario_id)
    if not versions:
        raise ConfigError(f"scenario ({scenario_id}): must be a saved scenario")
    return CaseCopy(
        scenario_id=scenario_id,
        versions=tuple(
            CaseVersion(version=number, created=when.isoformat(), author=who, case=Case.parse_json(content))
            for number, when, who, content in versions
        ),
    )


def restore(cursor: DuckDBPyConnection, found: CaseCopy) -> None:
    """Bring back versions that the database lacks."""
    rows = [(one.version, one.created, one.author, one.content.model_dump_json()) for one in found.versions]
    kept.restore(cursor, "scenarios", found.identity, rows)
