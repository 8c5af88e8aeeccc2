"""`runs` and `ingest`: what was run here. `runs` reads the bundles, so it works beside a web process."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from moe_core.cli.output import Json, answer, table
from moe_core.errors import StoreError
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.settings import Settings
from moe_core.units import significant

_FIELDS = ("lab", "model", "experts", "top_k", "shared", "batch", "seq")


def runs(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List the runs made here, newest first."""
    settings = Settings.load()
    found, problems = [], []
    for path in bundle.published(settings.runs_dir):
        try:
            found.append(bundle.read(path))
        except StoreError as error:
            problems.append(str(error))
    found.sort(key=lambda item: item.manifest.created, reverse=True)
    rows = [_row(item) for item in found[:limit]]
    text = [*table(_cells(rows)), *problems] if rows else ["no runs yet", *problems]
    answer({"runs": rows, "problems": problems}, as_json, text)


def ingest(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Empty the database first.")] = False,
    as_json: Json = False,
) -> None:
    """Bring the database up to date with the runs. (The web process does so by itself.)"""
    from moe_core.store import copies  # DuckDB: not for every command
    from moe_core.store import ingest as into
    from moe_core.store.db import Store

    store = Store.open(Settings.load())
    try:
        try:
            report = into.rebuild(store) if rebuild else into.refresh(store)
        except StoreError:
            if not rebuild:
                raise
            store.close()
            store = Store.anew(store.settings)  # it could not even be emptied
            report = into.refresh(store)
        copies.refill(store)
        notices = [*store.notices, *report.problems]
    finally:
        store.close()
    values = {"added": list(report.added), "removed": list(report.removed), "problems": notices}
    text = [f"{len(report.added)} runs added, {len(report.removed)} removed", *notices]
    answer(values, as_json, text)


def _row(found: Bundle) -> dict[str, Any]:
    manifest = found.manifest
    return {
        "run_id": manifest.run_id,
        "created": manifest.created.isoformat(timespec="seconds"),
        **{name: manifest.spec.get(name) for name in _FIELDS},
        "device": manifest.provenance.get("device"),
        "bits_per_byte": manifest.summary.get("bits_per_byte", {}),
        "duration_s": manifest.duration_s,
        "bundle": str(found.path),
    }


def _cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    head = ["run", "created", "lab", "experts", "top-k", "shared", "tokens", "bits/byte", "dense", "device"]
    return [head, *([*_identity(row), *_numbers(row), str(row["device"])] for row in rows)]


def _identity(row: dict[str, Any]) -> list[str]:
    return [row["run_id"], row["created"][:16].replace("T", " "), row["lab"]]


def _numbers(row: dict[str, Any]) -> list[str]:
    bits = [row["bits_per_byte"].get(name) for name in ("moe", "dense")]
    sizes = [str(row[name]) for name in ("experts", "top_k", "shared")]
    shown = ["-" if value is None else significant(value) for value in bits]
    return [*sizes, f"{row['batch']} x {row['seq']}", *shown]
