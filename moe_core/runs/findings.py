"""Findings: what experiments found, read from the bundles.

The web process asks its store the same (`moe_core.store.findings`), which a command cannot open beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC
from pathlib import Path

from moe_core.claims.findings import Findings, LabRun, best
from moe_core.errors import StoreError
from moe_core.runs import bundle


def findings(runs_dir: Path, reference: Path) -> Findings:
    """By lab and name, of runs made here and of those that ship; what cannot be read is left out."""
    shipped = sorted(path.parent for path in reference.glob("*/manifest.json"))
    return best([*_found(bundle.published(runs_dir), True), *_found(shipped, False)])


def _found(paths: list[Path], here: bool) -> Iterator[LabRun]:
    for path in paths:
        with suppress(StoreError):  # the web process sets it aside and says so
            facts = bundle.read(path).manifest
            known = facts.summary.get("findings")
            if facts.complete and isinstance(known, Mapping):
                created = facts.created.astimezone(UTC).replace(tzinfo=None)
                where = f"{facts.provenance.get('device')}, {created:%Y-%m-%d}"
                yield LabRun(str(facts.spec["lab"]), facts.run_id, created, here, where, known)
