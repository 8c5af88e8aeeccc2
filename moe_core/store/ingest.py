"""Ingest: bundles become rows. One transaction a run, checked, idempotent; a bad bundle blocks no other.

Bundles are the truth: `refresh` makes the tables agree with them, `rebuild` starts from nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from duckdb import DuckDBPyConnection

from moe_core.errors import ConfigError, StoreError
from moe_core.runs import bundle, facts
from moe_core.runs.bundle import Bundle
from moe_core.runs.layout import TABLES
from moe_core.settings import REFERENCE
from moe_core.store import queries
from moe_core.store.db import Store

EAGER = 500_000  # decisions of a run that are taken in with it; of a longer one when they are asked for
MOST = 6_000_000  # decisions of a run that the database holds: more make no chart better, only slower
SPAN = 4096  # tokens of a sequence that are held or left out together


class Report(NamedTuple):
    """What a refresh did: run ids added or replaced, removed, and sentences about bad bundles."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    problems: tuple[str, ...]


def refresh(store: Store, reference: Path = REFERENCE) -> Report:
    """Make the tables agree with the bundles: new and replaced runs in, vanished ones out.

    A corrupt bundle is moved to `runs/.quarantine` with its reason and reported. Cheap when
    nothing is new (one manifest read per run).
    """
    bundle.clean(store.settings.runs_dir)
    known = dict(store.rows("SELECT run_id, manifest_sha256 FROM runs"))
    added: list[str] = []
    problems: list[str] = []
    present: set[str] = set()
    for path, name in _candidates(store.settings.runs_dir, reference):
        try:
            run_id, new = _second_look(partial(_take, store, path, name, known, present))
        except StoreError as error:
            problems.append(_set_aside(store, path, name, error))
            if path.exists():  # not corrupt, only out of reach: rows it has already stay
                present.add(path.name)
            continue
        present.add(run_id)
        added += [run_id] if new else []
    removed = sorted(set(known) - present)
    for run_id in removed:
        _forget(store, run_id)
    return Report(tuple(added), tuple(removed), tuple(problems))


def ingest_run(store: Store, run_id: str) -> None:
    """Take in one published run, again if it was replaced. Raises StoreError if it is corrupt."""
    path = store.settings.runs_dir / bundle.check_run_id(run_id)
    known = dict(store.rows("SELECT run_id, manifest_sha256 FROM runs WHERE run_id = $id", id=run_id))
    try:
        _second_look(partial(_take, store, path, None, known))
    except StoreError as error:
        raise StoreError(_set_aside(store, path, None, error)) from error


def rebuild(store: Store, reference: Path = REFERENCE) -> Report:
    """Empty every table and fill it again from the bundles."""
    with store.transaction() as cursor:
        for table in ("runs", *TABLES):
            cursor.execute(f"DELETE FROM {table}")
    return refresh(store, reference)


def delete(store: Store, run_id: str) -> bool:
    """Delete a run made here: its bundle, then its rows. False if there was none. Raises ConfigError
    for a shipped reference run."""
    bundle.check_run_id(run_id)
    found = store.rows("SELECT reference FROM runs WHERE run_id = $run_id", run_id=run_id)
    if found and found[0][0] is not None:
        raise ConfigError(f"run_id ({run_id}): is a shipped reference run and cannot be deleted")
    removed = bundle.remove(store.settings.runs_dir, run_id)
    _forget(store, run_id)
    return removed or bool(found)


def _candidates(runs_dir: Path, reference: Path) -> Iterator[tuple[Path, str | None]]:
    """Own runs first: they win over a shipped run with the same identity."""
    for path in bundle.published(runs_dir):
        yield path, None
    if reference.is_dir():
        for path in sorted(reference.iterdir()):
            if (path / "manifest.json").exists():
                yield path, path.name


def _take(
    store: Store, path: Path, reference: str | None, known: Mapping[str, str], skip: Container[str] = ()
) -> tuple[str, bool]:
    """Run id of a bundle, and whether its rows were written now: not if they are known or in `skip`."""
    found = bundle.read(path)
    run_id = found.manifest.run_id
    new = run_id not in skip and known.get(run_id) != found.sha256
    if new:
        _ingest(store, found, reference)
    return run_id, new


def _second_look(take: Callable[[], tuple[str, bool]]) -> tuple[str, bool]:
    """A bundle that looks corrupt may have been replaced while it was read: look again before judging."""
    try:
        return take()
    except bundle.CorruptError:
        return take()


def _ingest(store: Store, found: Bundle, reference: str | None) -> None:
    run_id = found.manifest.run_id
    if reference is None and found.path.name != run_id:
        raise bundle.CorruptError(f"{found.path} holds run {run_id}: delete it and run it again")
    try:
        facts.check(found.manifest)
    except ConfigError as error:
        raise bundle.CorruptError(
            f"{found.path}/manifest.json cannot be used ({error}): delete the run and run it again"
        ) from error
    later = "counts" in found.tables and _decisions(found) > EAGER
    # All is checked before anything is written, but for what is read when it is asked for.
    tables = {name: found.table(name) for name in found.tables if not (later and name == "decisions")}
    with store.transaction() as cursor:
        _erase(cursor, run_id)
        key = cursor.execute("SELECT nextval('run_keys')").fetchall()[0][0]
        _insert_run(cursor, key, found, reference)
        if later:
            tables["tokens"], kept = _thin(tables["tokens"], _decisions(found))
            said = {"kept": kept, "key": key}
            cursor.execute("UPDATE runs SET kept = $kept, held = false WHERE run = $key", said)
        for name, table in tables.items():
            _insert(cursor, key, name, table)
        if "decisions" in found.tables:
            _sum_up(cursor, key, found)


def hold(store: Store, run_id: str) -> None:
    """Take in the decisions of a long run, if they are not there yet: half a second for five million.

    Raises StoreError when its bundle is gone or corrupt.
    """
    if not _waiting(store, run_id):
        return
    with store.transaction() as cursor:
        rows = _waiting(store, run_id)  # another thread may have been faster
        for key, reference in rows:
            path = store.settings.runs_dir / run_id if reference is None else REFERENCE / reference
            held = cursor.execute("SELECT token FROM tokens WHERE run = $key", {"key": key}).fetchnumpy()
            token_T = np.asarray(held["token"])
            for group in bundle.read(path).groups("decisions"):
                here_N = np.isin(group["token"].to_numpy(), token_T)
                _insert(cursor, key, "decisions", group.filter(pa.array(here_N)))
            cursor.execute("UPDATE runs SET held = true WHERE run = $key", {"key": key})


def decided(store: Store, sql: str, run_id: str, **parameters: Any) -> pd.DataFrame:
    """`queries.for_run` of what looks at decisions one by one."""
    hold(store, run_id)
    return queries.for_run(store, sql, run_id, **parameters)


def _waiting(store: Store, run_id: str) -> list[tuple[Any, ...]]:
    return store.rows("SELECT run, reference FROM runs WHERE run_id = $run_id AND NOT held", run_id=run_id)


def _decisions(found: Bundle) -> int:
    entry = found.manifest.files.get("decisions.parquet")
    return entry.rows if entry else 0


def _insert(cursor: DuckDBPyConnection, key: int, name: str, table: pa.Table) -> None:
    columns = ", ".join(table.column_names)
    cursor.register("incoming", table)
    into = f"INSERT INTO {name} (run, {columns})"  # by name: a migration adds its column at the end
    cursor.execute(f"{into} SELECT $key, {columns} FROM incoming", {"key": key})
    cursor.unregister("incoming")


def _thin(tokens: pa.Table, decisions: int) -> tuple[pa.Table, float]:
    """Of a very long run: tokens of whole sequences, evenly spread, of about `MOST` decisions; their part.

    Of sequences longer than a span, spans. What is counted over all of it stands in `counts`, in the bundle.
    """
    step = -(-decisions // MOST)
    if step == 1:
        return tokens, 1.0
    sequence_T, position_T = (tokens[name].to_numpy().astype(np.int64) for name in ("sequence", "position"))
    span_T = sequence_T << 32 | position_T // SPAN
    kept = tokens.filter(pa.array(np.isin(span_T, np.unique(span_T)[::step])))
    return kept, kept.num_rows / tokens.num_rows


def _sum_up(cursor: DuckDBPyConnection, key: int, found: Bundle) -> None:
    """Counts and banks of a run that brings none; its decisions must be of experts that there are."""
    if "counts" not in found.tables:
        cursor.execute(
            """INSERT INTO counts SELECT run, layer, domain, expert, count(*), sum(weight)
            FROM decisions JOIN tokens USING (run, token) WHERE run = $key GROUP BY ALL""",
            {"key": key},
        )
    if "banks" not in found.tables:
        cursor.execute(
            """INSERT INTO banks SELECT DISTINCT run, layer, experts, 0, shared, top_k
            FROM counts JOIN runs USING (run) WHERE run = $key""",
            {"key": key},
        )
    foreign = cursor.execute(
        """SELECT layer, expert, experts + zero FROM counts LEFT JOIN banks USING (run, layer)
        WHERE run = $key AND (expert < 0 OR expert >= coalesce(experts + zero, 0)) LIMIT 1""",
        {"key": key},
    ).fetchall()
    for layer, expert, experts in foreign:
        raise bundle.CorruptError(
            f"{found.path}/decisions.parquet names expert {expert} in layer {layer}, "
            f"which has {experts or 'no'} experts: delete the run and run it again"
        )


def _insert_run(cursor: DuckDBPyConnection, key: int, found: Bundle, reference: str | None) -> None:
    manifest = found.manifest
    values: dict[str, Any] = {
        "run": key,
        "run_id": manifest.run_id,
        "question_id": manifest.question_id,
        "reference": reference,
        "manifest_sha256": found.sha256,
        "created": manifest.created.astimezone(UTC).replace(tzinfo=None),
        "duration_s": manifest.duration_s,
        "complete": manifest.complete,
    } | _described(found)
    for name in ("spec", "stages", "provenance", "architectures", "summary"):
        values[name] = json.dumps(getattr(manifest, name), sort_keys=True, separators=(",", ":"))
    names = ", ".join(values)
    places = ", ".join(f"${name}" for name in values)
    cursor.execute(f"INSERT INTO runs ({names}) VALUES ({places})", values)


def _described(found: Bundle) -> dict[str, Any]:
    """What the history lists, out of the manifest's looser parts."""
    spec, provenance = found.manifest.spec, found.manifest.provenance
    values = {name: spec[name] for name in ("lab", "model", "top_k", "shared", "batch", "seq")}
    values |= {name: provenance[name] for name in ("device", "device_kind", "device_key", "code_version")}
    return values | {"experts": facts.experts(found.manifest)}


def _erase(cursor: DuckDBPyConnection, run_id: str) -> None:
    keys = cursor.execute("SELECT run FROM runs WHERE run_id = $run_id", {"run_id": run_id}).fetchall()
    for (key,) in keys:
        for table in ("runs", *TABLES):
            cursor.execute(f"DELETE FROM {table} WHERE run = $key", {"key": key})


def _forget(store: Store, run_id: str) -> None:
    with store.transaction() as cursor:
        _erase(cursor, run_id)


def _set_aside(store: Store, path: Path, reference: str | None, error: StoreError) -> str:
    """Move a corrupt bundle of ours out of the way, with its reason; the sentence to show."""
    if reference is not None or not isinstance(error, bundle.CorruptError) or not path.is_dir():
        return str(error)
    target = store.settings.quarantine_dir / path.name
    try:
        target.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        path.rename(target)
    except OSError as refusal:
        return f"{error} (it could not be moved to {target}: {refusal.strerror})"
    with suppress(OSError):  # a full disk must not hide the reason
        (target / "reason.txt").write_text(f"{error}\n", encoding="utf-8")
    return f"{error} (moved to {target})"
