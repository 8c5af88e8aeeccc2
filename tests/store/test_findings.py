"""Findings from the store are those from the bundles, and go with the run that made them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from moe_core.claims.ledger import settle
from moe_core.claims.spec import claims
from moe_core.runs.findings import findings as from_bundles
from moe_core.settings import Settings
from moe_core.store import ingest
from moe_core.store.db import Store
from moe_core.store.findings import findings
from tests import synthetic
from tests.claims.found import spec, summary

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
K1 = "maxvio_step.none.k1"


def test_store_and_bundles_say_the_same(store: Store, settings: Settings, nothing: Path) -> None:
    runs = settings.runs_dir
    synthetic.write_bundle(
        runs, spec("collapse", setting="full"), findings={K1: summary(3.7, 3.1, 4.2)}, created=NOW
    )
    later = NOW + timedelta(hours=1)
    found = {K1: summary(9, seeds=1), "ratio_step.k1": summary(3, seeds=1)}
    synthetic.write_bundle(runs, spec("collapse", setting="quick"), findings=found, created=later)
    synthetic.write_bundle(runs, spec("gates"), findings={}, created=NOW)
    part = {"bias_gradient": summary(0)}
    synthetic.write_bundle(runs, spec("bias"), findings=part, complete=False)
    synthetic.write_bundle(runs)
    ingest.refresh(store, nothing)
    assert findings(store) == from_bundles(runs, nothing)
    assert set(findings(store)) == {"collapse"}
    one = findings(store)["collapse"]
    assert (one[K1].value, one["ratio_step.k1"].value) == (3.7, 3)  # of a law, the run of three seeds
    assert one[K1].here
    assert one[K1].where == "Synthetic CPU, 2026-11-28"


def test_a_deleted_run_takes_its_evidence_along(store: Store, settings: Settings, nothing: Path) -> None:
    path = synthetic.write_bundle(
        settings.runs_dir, spec("collapse"), findings={K1: summary(3.7, 3.1, 4.2)}, created=NOW
    )
    ingest.refresh(store, nothing)
    assert settle(claims()["A51"], findings(store)).outcome == "holds under its condition"
    ingest.delete(store, path.name)
    assert findings(store) == {}
    assert settle(claims()["A51"], findings(store)).outcome == "no evidence"


def test_shipped_runs_count_and_are_not_from_here(store: Store, tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    path = synthetic.write_bundle(tmp_path / "made", spec("gates"), findings={"max_difference": summary(0)})
    reference.mkdir()
    path.rename(reference / "gates")
    ingest.refresh(store, reference)
    assert not findings(store)["gates"]["max_difference"].here
    assert findings(store) == from_bundles(tmp_path / "none", reference)
