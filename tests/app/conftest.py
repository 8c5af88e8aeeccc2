"""One filled store for the chart tests, made once: a bench run, a second batch, and a sweep over k."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pandas as pd
import pytest

from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.store import ingest, queries
from moe_core.store.db import Store
from tests import synthetic


class Filled(NamedTuple):
    """An open store and the ids of what is in it."""

    store: Store
    bench: str
    other: str
    sweep: str

    def frame(self, query: Callable[..., pd.DataFrame], **options: object) -> pd.DataFrame:
        """One query about the bench run."""
        return query(self.store, self.bench, **options)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("charts") / "state").prepare()
    specs = (RunSpec(), RunSpec(batch=2), RunSpec(lab="topk_sweep"))
    ids = [synthetic.write_bundle(settings.runs_dir, spec, seed=3).name for spec in specs]
    store = Store.open(settings)
    ingest.refresh(store, reference=settings.data_dir / "none")
    assert len(queries.history(store)) == 3
    yield Filled(store, *ids)
    store.close()
