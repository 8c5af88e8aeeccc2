from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from moe_core.errors import ConfigError, StoreError
from moe_core.runs import bundle
from moe_core.runs.layout import TABLES
from moe_core.settings import ROOT, Settings
from moe_core.specs import RunSpec
from moe_core.store import ingest, queries
from moe_core.store.db import Store
from tests import synthetic
from tests.synthetic import BENCH_TABLES

SMALL = RunSpec(batch=8, seq=32, experts=4, top_k=2)
OTHER = RunSpec(batch=8, seq=32, experts=8, top_k=2)
SWEEP = RunSpec(lab="topk_sweep")
Write = Callable[..., Path]


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every run, by run id instead of by key."""
    keys = dict(store.rows("SELECT run, run_id FROM runs"))
    rows = {"runs": store.rows("SELECT * EXCLUDE (run) FROM runs ORDER BY run_id")}
    for table in TABLES:
        found = store.rows(f"SELECT * FROM {table}")
        rows[table] = sorted((keys[row[0]], *row[1:]) for row in found)
    return rows


def test_the_tables_say_what_the_bundle_says(store: Store, bundle_dir: Write, nothing: Path):
    path = bundle_dir(SMALL)
    assert ingest.refresh(store, nothing) == ingest.Report((path.name,), (), ())
    found = bundle.verify(path)
    for name in BENCH_TABLES:
        key = queries.key(store, path.name)
        frame = store.frame(f"SELECT * EXCLUDE (run) FROM {name} WHERE run = $key", key=key)
        expected = found.table(name).to_pandas()
        empty = [column for column in expected if expected[column].isna().all()]  # of a trace alone
        assert frame[empty].isna().all(axis=None)
        pd.testing.assert_frame_equal(
            frame.drop(columns=empty), expected.drop(columns=empty), check_dtype=False
        )
    run = queries.run(store, path.name)
    assert run.spec == SMALL.model_dump(mode="json")
    assert run.summary == found.manifest.summary
    assert run.provenance == found.manifest.provenance
    assert run.created == found.manifest.created.replace(tzinfo=None)


def test_columns_go_where_they_are_called_so_whatever_their_order(
    store: Store, bundle_dir: Write, nothing: Path, monkeypatch: pytest.MonkeyPatch
):
    path = bundle_dir(SMALL)
    with store.transaction() as cursor:
        cursor.execute("ALTER TABLE timings ADD COLUMN younger INTEGER")  # at the end, as migrations do
    monkeypatch.setitem(TABLES, "timings", TABLES["timings"].insert(0, pa.field("younger", pa.int32())))
    ingest.refresh(store, nothing)
    frame = store.frame("SELECT * EXCLUDE (run, younger) FROM timings")
    expected = bundle.verify(path).table("timings").drop_columns(["younger"]).to_pandas()
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False)
    assert store.rows("SELECT count(younger) FROM timings") == [(0,)]


def test_again_changes_nothing(store: Store, bundle_dir: Write, nothing: Path):
    path = bundle_dir(SMALL)
    ingest.refresh(store, nothing)
    before = contents(store)
    assert ingest.refresh(store, nothing) == ingest.Report((), (), ())
    ingest.ingest_run(store, path.name)
    assert contents(store) == before


def test_rebuilt_equals_original(store: Store, bundle_dir: Write, nothing: Path):
    for spec in (SMALL, OTHER, SWEEP):
        bundle_dir(spec)
    ingest.refresh(store, nothing)
    before = contents(store)
    assert len(ingest.rebuild(store, nothing).added) == 3
    assert contents(store) == before


def test_a_replaced_run_replaces_its_rows(store: Store, bundle_dir: Write, nothing: Path):
    path = bundle_dir(SMALL, seed=0)
    ingest.ingest_run(store, path.name)
    before = contents(store)
    bundle_dir(SMALL, seed=1)
    assert ingest.refresh(store, nothing).added == (path.name,)
    after = contents(store)
    assert len(after["decisions"]) == len(before["decisions"])
    assert after["decisions"] != before["decisions"]
    assert len(after["runs"]) == 1


def test_a_vanished_bundle_takes_its_rows_along(
    store: Store, bundle_dir: Write, settings: Settings, nothing: Path
):
    path, other = bundle_dir(SMALL), bundle_dir(OTHER)
    ingest.refresh(store, nothing)
    bundle.remove(settings.runs_dir, path.name)
    assert ingest.refresh(store, nothing).removed == (path.name,)
    assert {row[0] for row in contents(store)["decisions"]} == {other.name}


def test_a_sweep_has_quality_and_no_decisions(store: Store, bundle_dir: Write, nothing: Path):
    path = bundle_dir(SWEEP)
    ingest.refresh(store, nothing)
    assert set(queries.quality(store, path.name).top_k) == {1, 2, 4, 8, 16}
    assert contents(store)["decisions"] == []


# -- damage ----------------------------------------------------------------------------------------


def spoil(path: Path) -> None:
    data = bytearray((path / "decisions.parquet").read_bytes())
    data[100] ^= 1
    (path / "decisions.parquet").write_bytes(data)


def test_a_corrupt_bundle_is_set_aside_and_blocks_no_other(
    store: Store, bundle_dir: Write, settings: Settings, nothing: Path
):
    bad, good = bundle_dir(SMALL), bundle_dir(OTHER)
    spoil(bad)
    report = ingest.refresh(store, nothing)
    assert report.added == (good.name,)
    (problem,) = report.problems
    aside = settings.quarantine_dir / bad.name
    assert f"{bad}/decisions.parquet is corrupt" in problem
    assert f"moved to {aside}" in problem
    assert "corrupt" in (aside / "reason.txt").read_text()
    assert {path.name for path in bundle.published(settings.runs_dir)} == {good.name}
    assert {row[0] for row in contents(store)["decisions"]} == {good.name}
    assert ingest.refresh(store, nothing) == ingest.Report((), (), ())


def test_a_corrupt_run_asked_for_by_name(store: Store, bundle_dir: Write):
    path = bundle_dir(SMALL)
    spoil(path)
    with pytest.raises(StoreError, match=r"checksum differs.*moved to"):
        ingest.ingest_run(store, path.name)
    assert not path.exists()
    with pytest.raises(StoreError, match="missing"):
        ingest.ingest_run(store, path.name)


def test_a_foreign_bundle_stays_where_it_is(store: Store, bundle_dir: Write, nothing: Path):
    path = bundle_dir(SMALL)
    ingest.refresh(store, nothing)
    rows = len(contents(store)["decisions"])
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"schema": 3}))
    report = ingest.refresh(store, nothing)
    assert "update MoEScope" in report.problems[0]
    assert path.exists()
    assert len(contents(store)["decisions"]) == rows > 0


def test_a_bundle_under_another_name_is_corrupt(store: Store, bundle_dir: Write, nothing: Path):
    path = bundle_dir(SMALL)
    path.rename(path.with_name("0" * 16))
    (problem,) = ingest.refresh(store, nothing).problems
    assert path.name in problem
    assert contents(store)["runs"] == []


def test_decisions_of_an_expert_that_does_not_exist(store: Store, bundle_dir: Write, nothing: Path):
    path = bundle_dir(SMALL)
    synthetic.alter(path, lambda found: found["architectures"]["moe"]["experts"].update(count=3))
    (problem,) = ingest.refresh(store, nothing).problems
    assert "names expert 3 in layer 0, which has 3 experts" in problem


def test_a_run_replaced_while_it_is_read_is_not_called_corrupt(
    store: Store, bundle_dir: Write, nothing: Path, monkeypatch: pytest.MonkeyPatch
):
    path = bundle_dir(SMALL, seed=0)
    read = bundle.read

    def slow(where: Path) -> bundle.Bundle:
        found = read(where)
        monkeypatch.setattr(bundle, "read", read)
        bundle_dir(SMALL, seed=1)  # the worker publishes in between
        return found

    monkeypatch.setattr(bundle, "read", slow)
    assert ingest.refresh(store, nothing) == ingest.Report((path.name,), (), ())


def test_an_ingest_that_dies_half_way_leaves_nothing(
    store: Store, bundle_dir: Write, monkeypatch: pytest.MonkeyPatch
):
    path = bundle_dir(SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "_insert_run", _die)
        with pytest.raises(RuntimeError):
            ingest.ingest_run(store, path.name)
    assert all(rows == [] for rows in contents(store).values())
    ingest.ingest_run(store, path.name)
    assert len(contents(store)["runs"]) == 1


def _die(*_: object) -> None:
    raise RuntimeError


def test_rows_survive_a_killed_process(settings: Settings, bundle_dir: Write, nothing: Path):
    path = bundle_dir(SMALL)
    code = (
        "import os; from moe_core.settings import Settings; from moe_core.store.db import Store; "
        "from moe_core.store import ingest; "
        f"ingest.ingest_run(Store.open(Settings.load()), '{path.name}'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -signal.SIGKILL
    store = Store.open(settings)
    assert store.notices == ()
    assert ingest.refresh(store, nothing) == ingest.Report((), (), ())
    assert len(contents(store)["decisions"]) == 8 * 32 * 8 * 2
    store.close()


# -- shipped references ----------------------------------------------------------------------------


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A shipped run called `default`, made on another device."""
    made = synthetic.write_bundle(tmp_path / "elsewhere", SMALL, device_key="reference")
    (tmp_path / "reference").mkdir()
    return made.rename(tmp_path / "reference" / "default").parent


def test_references_come_in_under_their_names(store: Store, bundle_dir: Write, reference: Path):
    own = bundle_dir(SMALL)
    assert len(ingest.refresh(store, reference).added) == 2
    names = dict(store.rows("SELECT reference, run_id FROM runs"))
    assert names[None] == own.name
    assert names["default"] == bundle.read(reference / "default").manifest.run_id
    assert ingest.refresh(store, reference) == ingest.Report((), (), ())


def test_a_reference_cannot_be_deleted(store: Store, reference: Path):
    (run_id,) = ingest.refresh(store, reference).added
    with pytest.raises(ConfigError, match="shipped reference run"):
        ingest.delete(store, run_id)
    assert (reference / "default").exists()


def test_a_corrupt_reference_stays_and_is_reported(store: Store, bundle_dir: Write, reference: Path):
    own = bundle_dir(OTHER)
    spoil(reference / "default")
    report = ingest.refresh(store, reference)
    assert report.added == (own.name,)
    assert len(report.problems) == 1
    assert (reference / "default").exists()


def test_the_run_made_here_wins_over_the_same_shipped_one(
    store: Store, bundle_dir: Write, settings: Settings, reference: Path
):
    (shipped,) = ingest.refresh(store, reference).added
    own = bundle_dir(SMALL, device_key="reference", seed=3)
    assert own.name == shipped
    assert ingest.refresh(store, reference).added == (shipped,)
    assert store.rows("SELECT reference FROM runs") == [(None,)]
    assert ingest.refresh(store, reference) == ingest.Report((), (), ())
    assert ingest.delete(store, shipped)
    assert ingest.refresh(store, reference).added == (shipped,)
    assert store.rows("SELECT reference FROM runs") == [("default",)]


# -- deleting --------------------------------------------------------------------------------------


def test_delete_takes_bundle_and_rows(store: Store, bundle_dir: Write, nothing: Path):
    path, other = bundle_dir(SMALL), bundle_dir(OTHER)
    ingest.refresh(store, nothing)
    assert ingest.delete(store, path.name)
    assert not path.exists()
    rows = contents(store)
    assert all({row[0] for row in rows[table]} == {other.name} for table in BENCH_TABLES)
    assert not ingest.delete(store, path.name)
    assert ingest.refresh(store, nothing) == ingest.Report((), (), ())


@pytest.mark.parametrize("run_id", ["' OR 1=1 --", "../" * 5, "0' UNION SELECT 1; DROP TABLE runs; --", ""])
def test_an_id_is_never_sql_or_a_path(store: Store, bundle_dir: Write, nothing: Path, run_id: str):
    bundle_dir(SMALL)
    ingest.refresh(store, nothing)
    before = contents(store)
    for refuse in (ingest.delete, ingest.ingest_run, queries.run, queries.timings):
        with pytest.raises(ConfigError, match="run_id"):
            refuse(store, run_id)
    assert queries.latest(store, run_id) is None
    assert contents(store) == before
    assert os.listdir(store.settings.runs_dir)
