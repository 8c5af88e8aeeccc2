from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from moe_core.errors import ConfigError
from moe_core.runs import bundle
from moe_core.specs import RunSpec
from moe_core.store import ingest, queries, routing
from moe_core.store.db import Store
from moe_core.version import question_id
from tests import synthetic

SMALL = RunSpec(batch=8, seq=32, experts=4, top_k=2)
OTHER = RunSpec(batch=8, seq=32, experts=8, top_k=2)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
Write = Callable[..., Path]


def test_an_empty_store_answers(store: Store):
    assert queries.history(store).empty
    assert queries.latest(store, "0" * 16) is None
    assert queries.latest_for_spec(store, SMALL) is None
    assert queries.nearest(store, SMALL) is None
    with pytest.raises(ConfigError, match=r"run_id \(0{16}\): must be a run in the store"):
        queries.run(store, "0" * 16)


def test_history_is_newest_first_and_complete(store: Store, bundle_dir: Write, nothing: Path):
    old = bundle_dir(SMALL, created=NOON)
    sweep = bundle_dir(RunSpec(lab="topk_sweep"), created=NOON + timedelta(hours=1))
    text = bundle_dir(RunSpec(text="hello " * 9), created=NOON + timedelta(hours=2))
    ingest.refresh(store, nothing)
    frame = queries.history(store)
    assert list(frame.run_id) == [text.name, sweep.name, old.name]
    last = frame.iloc[-1]
    assert (last.experts, last.top_k, last.batch, last.seq, last.device) == (4, 2, 8, 32, "Synthetic CPU")
    assert (last.tokens, last.decisions) == (256, 256 * 2 * 8)
    assert last.bits_dense == 1.9
    assert last.prefill_moe_s == 0.08
    assert last.created == NOON.replace(tzinfo=None)
    assert list(frame.own_text) == [True, False, False]
    assert np.isnan(frame.prefill_moe_s[1])
    assert list(queries.history(store, lab="topk_sweep").run_id) == [sweep.name]
    assert len(queries.history(store, limit=1)) == 1


def test_latest_by_question_and_by_spec(store: Store, bundle_dir: Write, nothing: Path):
    bundle_dir(SMALL, device_key="a", created=NOON)
    newer = bundle_dir(SMALL, device_key="b", created=NOON + timedelta(hours=1))
    bundle_dir(OTHER, created=NOON + timedelta(hours=2))
    ingest.refresh(store, nothing)
    assert queries.latest(store, question_id(SMALL)) == newer.name
    assert queries.latest_for_spec(store, SMALL) == newer.name
    assert queries.latest_for_spec(store, RunSpec(experts=128)) is None


def test_latest_for_spec_ignores_the_code_version_and_prefers_own_runs(
    store: Store, bundle_dir: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shipped = tmp_path / "reference"
    made = synthetic.write_bundle(tmp_path / "x", SMALL, device_key="ref", created=NOON + timedelta(days=9))
    shipped.mkdir()
    made.rename(shipped / "default")
    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "question_id", lambda spec: "f" * 16)  # older code
        own = bundle_dir(SMALL, created=NOON)
    ingest.refresh(store, shipped)
    assert queries.latest_for_spec(store, SMALL) == own.name


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (RunSpec(experts=16, top_k=4), (16, 4)),
        (RunSpec(experts=12, top_k=4), (16, 4)),  # 0.42 doublings from 16, 0.58 from 8
        (RunSpec(experts=10, top_k=2), (8, 2)),
        (RunSpec(experts=64, top_k=8, batch=1), (64, 8)),
        (RunSpec(experts=128, top_k=8), (64, 8)),
    ],
)
def test_nearest_measures_in_doublings(store: Store, tmp_path: Path, wanted: RunSpec, found: tuple[int, int]):
    shipped = tmp_path / "reference"
    shipped.mkdir()
    ids = {}
    for experts, top_k in ((16, 4), (8, 2), (64, 8)):
        spec = RunSpec(experts=experts, top_k=top_k, batch=1, seq=16)
        ids[experts, top_k] = bundle_id = synthetic.write_bundle(tmp_path / "made", spec).name
        (tmp_path / "made" / bundle_id).rename(shipped / f"{experts}-{top_k}")
    ingest.refresh(store, shipped)
    assert queries.nearest(store, wanted) == ids[found]


def test_nearest_never_offers_own_text_or_another_lab(store: Store, bundle_dir: Write, nothing: Path):
    bundle_dir(RunSpec(text="secret " * 9))
    bundle_dir(RunSpec(lab="topk_sweep"))
    ingest.refresh(store, nothing)
    assert queries.nearest(store, RunSpec(), reference_only=False) is None


def test_timings_are_medians_with_spread(store: Store, bundle_dir: Write, nothing: Path):
    path = bundle_dir(RunSpec(batch=8, seq=16, repeats=11))
    ingest.refresh(store, nothing)
    raw = bundle.read(path).table("timings").to_pandas()
    frame = queries.timings(store, path.name)
    assert len(frame) == len(raw) // 11
    for row in frame.itertuples():
        chosen = (raw.model == row.model) & (raw.phase == row.phase) & (raw.component == row.component)
        seconds = raw[chosen].seconds
        expected = np.quantile(seconds, [0.1, 0.5, 0.9])
        np.testing.assert_allclose([row.p10_s, row.median_s, row.p90_s], expected)
        assert row.repeats == 11


def test_memory_and_quality(store: Store, bundle_dir: Write, nothing: Path):
    path = bundle_dir(SMALL)
    ingest.refresh(store, nothing)
    memory = queries.memory(store, path.name)
    for model, rows in memory.groupby("model"):
        total = rows[rows.component == "total"].predicted_bytes.item()
        assert rows[rows.component != "total"].predicted_bytes.sum() == total, model
    assert memory[memory.component == "activations"].measured_bytes.isna().all()
    quality = queries.quality(store, path.name, domain="all").set_index("model").bits_per_byte
    assert quality.dense < quality.oracle < quality.moe < quality.random
    assert set(queries.quality(store, path.name).domain) == {"all", *synthetic.SAMPLES}


def test_diff_sets_two_runs_side_by_side(store: Store, bundle_dir: Write, nothing: Path):
    a, b = bundle_dir(SMALL, seed=0).name, bundle_dir(RunSpec(batch=16, seq=32), seed=1).name
    ingest.refresh(store, nothing)
    frame = queries.diff(store, a, b)
    assert set(frame.section) == {"timings", "memory", "quality", "balance"}
    index = ["section", "model", "item"]
    assert not frame.duplicated(index).any()
    rows = frame.set_index(index)
    total = queries.timings(store, a).query("model == 'moe' and phase == 'decode' and component == 'total'")
    assert rows.loc["timings", "moe", "decode total"].a == total.median_s.item()
    assert rows.loc["memory", "moe", "experts"].ratio == 2.0
    only_a = rows.loc["quality", "moe", "all, top-2"]
    assert only_a.a > 0
    assert np.isnan(only_a.b)
    mirrored = queries.diff(store, b, a).set_index(index)
    np.testing.assert_allclose(mirrored.ratio, 1 / rows.ratio, rtol=1e-9)
    assert (queries.diff(store, a, a).ratio == 1).all()


@pytest.mark.parametrize(
    "ask",
    [
        queries.timings,
        queries.memory,
        queries.quality,
        routing.load,
        routing.balance,
        lambda store, run_id: queries.diff(store, run_id, run_id),
    ],
)
def test_a_run_deleted_between_two_queries_is_one_sentence(
    store: Store,
    bundle_dir: Write,
    nothing: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[..., object],
):
    """Somebody deletes it right after its key was looked up."""
    path = bundle_dir(SMALL)
    ingest.refresh(store, nothing)
    key = queries.key

    def looked_up(of: Store, run_id: str) -> int:
        found = key(of, run_id)
        ingest.delete(of, run_id)
        return found

    monkeypatch.setattr(queries, "key", looked_up)
    with pytest.raises(ConfigError, match="must be a run in the store"):
        ask(store, path.name)


def test_a_run_deleted_before_its_row_is_read_is_one_sentence(
    store: Store, bundle_dir: Write, nothing: Path, monkeypatch: pytest.MonkeyPatch
):
    path = bundle_dir(SMALL)
    ingest.refresh(store, nothing)
    rows = store.rows

    def late(sql: str, **values: object) -> list[tuple[object, ...]]:
        if "summary" in sql:
            ingest._forget(store, path.name)
        return rows(sql, **values)

    monkeypatch.setattr(store, "rows", late)
    with pytest.raises(ConfigError, match="must be a run in the store"):
        queries.run(store, path.name)
