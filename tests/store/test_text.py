from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from moe_core.runs import bundle
from moe_core.specs import RunSpec
from moe_core.store import ingest, text
from moe_core.store.db import Store

Write = Callable[..., Path]


@pytest.fixture
def run_id(store: Store, bundle_dir: Write, nothing: Path) -> str:
    bundle_dir(RunSpec(experts=3, top_k=1, batch=1, seq=16))
    path = bundle_dir(RunSpec(batch=8, seq=64, experts=8, top_k=2))
    ingest.refresh(store, nothing)
    return path.name


def test_a_raster_is_a_window_of_one_layer(store: Store, run_id: str):
    raw = bundle.read(store.settings.runs_dir / run_id).table("decisions").to_pandas()
    frame = text.raster(store, run_id, layer=3, first=100, count=20)
    expected = raw[(raw.layer == 3) & raw.token.between(100, 119)].reset_index(drop=True)
    assert (frame == expected[["token", "slot", "expert", "weight"]]).all(axis=None)
    assert len(frame) == 20 * 2
    assert text.raster(store, run_id, layer=99).empty


def test_text_has_every_byte_with_its_first_choice(store: Store, run_id: str):
    frame = text.text(store, run_id, layer=2, first=0, count=64)
    assert bytes(frame.byte.tolist()).decode().startswith("The cat sat on the mat")
    assert list(frame.token) == list(range(64))
    raster = text.raster(store, run_id, layer=2, count=64)
    assert list(frame.expert) == list(raster[raster.slot == 0].expert)
    assert set(frame.domain) == {"english"}


def test_text_of_a_layer_without_experts_has_no_experts(store: Store, run_id: str):
    frame = text.text(store, run_id, layer=50, count=10)
    assert len(frame) == 10
    assert frame.expert.isna().all()


def test_sequences(store: Store, run_id: str):
    frame = text.sequences(store, run_id)
    assert list(frame["first"]) == [64 * index for index in range(8)]
    assert (frame.tokens == 64).all()
    assert frame.domain.nunique() == 8


def test_snippets_are_spans_of_the_text_that_went_there(store: Store, run_id: str):
    found = bundle.read(store.settings.runs_dir / run_id)
    tokens = found.table("tokens").to_pandas()
    decisions = found.table("decisions").to_pandas()
    chosen = decisions[(decisions.layer == 1) & (decisions.expert == 4)].token
    went = set(chosen)
    frame = text.snippets(store, run_id, layer=1, expert=4, limit=10_000, context=5)
    assert frame.length.sum() == len(went)  # every byte once
    for row in frame.itertuples():
        data = bytes(tokens[tokens.sequence == row.sequence].byte.tolist())
        stop = row.position + row.length
        first = row.sequence * 64 + row.position
        assert {first + offset for offset in range(row.length)} <= went
        assert first - 1 not in went or row.position == 0
        assert first + row.length not in went or stop == 64
        assert row.text == data[row.position : stop].decode(errors="replace")
        assert row.before == data[max(0, row.position - 5) : row.position].decode(errors="ignore")
        assert row.after == data[stop : stop + 5].decode(errors="ignore")


def test_snippets_are_a_repeatable_sample(store: Store, run_id: str):
    few = text.snippets(store, run_id, layer=1, expert=4, limit=7)
    assert len(few) == 7
    assert few.equals(text.snippets(store, run_id, layer=1, expert=4, limit=7))
    assert few.sequence.nunique() > 1
    none = text.snippets(store, run_id, layer=1, expert=99)
    assert none.empty
    assert list(none.columns) == list(few.columns)
