"""Whose load is heard: the bundles say the same run, and the same load, as the store does."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_core.runs.heard import heard
from moe_core.scenario import loads
from moe_core.settings import REFERENCE, Settings
from moe_core.specs import RunSpec
from moe_core.store import ingest, queries, routing
from moe_core.store.db import Store
from moe_core.version import question_id
from tests import synthetic
from tests.asked import ASKED, asked

QUESTIONS = (ASKED, asked(batch=2), asked(experts=16, top_k=4), asked(experts=64), asked(seq=32, shared=1))


def choice(store: Store, spec: RunSpec) -> str | None:
    """As `app.data` chooses."""
    own = queries.latest(store, question_id(spec))
    if own and queries.run(store, own).reference is None:
        return own
    same = queries.latest_for_spec(store, spec)
    return same or queries.nearest(store, spec) or queries.nearest(store, spec, reference_only=False)


@pytest.mark.parametrize("made", [(), (ASKED,), (asked(batch=2), asked(experts=16, top_k=4))], ids=len)
def test_bundles_and_store_hear_the_same(tmp_path: Path, made: tuple[RunSpec, ...]) -> None:
    settings = Settings(data_dir=tmp_path / "state").prepare()
    for seed, spec in enumerate(made):
        synthetic.write_bundle(settings.runs_dir, spec, seed=seed)
    store = Store.open(settings)
    try:
        ingest.refresh(store)
        for spec in QUESTIONS:
            found = heard(spec, settings.runs_dir, REFERENCE)
            assert found is not None
            assert found.run.manifest.run_id == choice(store, spec)
            known = loads.recorded(routing.load(store, found.run.manifest.run_id))
            assert found.load == pytest.approx(known, rel=1e-12)
    finally:
        store.close()


def test_where_nothing_was_run_nothing_is_heard(tmp_path: Path) -> None:
    assert heard(ASKED, tmp_path, tmp_path) is None
