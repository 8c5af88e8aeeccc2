"""Experiments in the store: which run stands for which, series in order, loads around the fair share."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from moe_core.errors import ConfigError
from moe_core.labs.training.table import question
from moe_core.runs import bundle
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.store import experiments, ingest
from moe_core.store.db import Store
from tests import synthetic, synthetic_training

Write = Callable[..., Path]


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A reference directory with the full run of one experiment."""
    reference = tmp_path / "reference"
    made = synthetic.write_bundle(tmp_path / "made", question("collapse", "full"), device_key="elsewhere")
    reference.mkdir()
    made.rename(reference / "collapse-full")
    return reference


def test_the_newest_of_each_setting_stands_for_it_shipped_beside_made_here(
    store: Store, bundle_dir: Write, shipped: Path
) -> None:
    now = datetime.now(UTC)
    bundle_dir(question("collapse", seed=1), created=now - timedelta(hours=2))
    newest = bundle_dir(question("collapse"), created=now - timedelta(hours=1)).name
    bundle_dir(question("bias"), created=now, complete=True)
    bundle_dir(RunSpec(batch=1, seq=16))
    ingest.refresh(store, shipped)
    found = experiments.newest(store)
    rows = {
        (row.lab, row.setting, row.reference): row.run_id
        for row in found.astype(object).fillna("").itertuples()
    }
    assert set(rows) == {
        ("bias", "quick", ""),
        ("collapse", "quick", ""),
        ("collapse", "full", "collapse-full"),
    }
    assert rows["collapse", "quick", ""] == newest


def test_a_run_that_is_under_way_stands_for_nothing(store: Store, nothing: Path) -> None:
    ingest.refresh(store, nothing)
    assert experiments.newest(store).empty


def test_series_come_whole_in_the_order_of_their_arms(store: Store, bundle_dir: Write, nothing: Path) -> None:
    spec = question("collapse", "full")
    run_id = bundle_dir(spec).name
    ingest.refresh(store, nothing)
    found = experiments.series(store, run_id)
    made = pd.DataFrame(synthetic_training.tables(spec)["series"])
    assert list(found["arm"].unique()) == list(made["arm"].unique())
    keys = ["arm", "seed", "metric", "axis", "x"]
    together = found.merge(made, on=keys, suffixes=("", "_made"))
    assert len(together) == len(found) == len(made)
    assert (together["value"] == together["value_made"]).all()
    losses = experiments.series(store, run_id, metric="loss")
    assert set(losses["metric"]) == {"loss"}
    assert (
        losses[losses["arm"] == "none, k=1"].groupby("seed")["x"].apply(list).tolist()
        == [[float(step) for step in synthetic_training.STEPS]] * 3
    )


def test_loads_are_told_around_the_fair_share_of_their_layer(
    store: Store, bundle_dir: Write, nothing: Path
) -> None:
    run_id = bundle_dir(question("collapse")).name
    ingest.refresh(store, nothing)
    found = experiments.loads(store, run_id)
    means = found.groupby(["arm", "seed", "step", "layer"])["ratio"].mean()
    assert means.to_numpy() == pytest.approx(1.0)
    none = found[found["arm"] == "none, k=1"]
    assert none["ratio"].max() == pytest.approx(500 / (1200 / synthetic_training.EXPERTS))


def test_a_window_without_any_load_has_no_shares(store: Store, settings: Settings, nothing: Path) -> None:
    def idle(table: dict[str, list[object]]) -> dict[str, list[object]]:
        return table | {"load": [0] * len(table["load"])}

    spec = question("collapse")
    tables = synthetic_training.tables(spec)
    path = synthetic.write_bundle(settings.runs_dir, spec)
    manifest = bundle.read(path).manifest
    bundle.publish(settings.runs_dir, manifest, tables | {"loads": idle(tables["loads"])})
    ingest.refresh(store, nothing)
    assert experiments.loads(store, path.name)["ratio"].eq(0).all()


def test_findings_are_numbers_with_intervals_where_seeds_allow(
    store: Store, bundle_dir: Write, nothing: Path
) -> None:
    one, three = bundle_dir(question("collapse")).name, bundle_dir(question("collapse", "full")).name
    ingest.refresh(store, nothing)
    single, several = experiments.findings(store, one), experiments.findings(store, three)
    assert tuple(single.columns) == experiments.FINDING
    assert single["low"].isna().all()
    row = several.set_index("name").loc["maxvio_step.none.k1"]
    assert row["value"] == pytest.approx(4.1)
    assert row["low"] < 4.1 < row["high"]
    assert int(row["seeds"]) == 3


def test_two_runs_are_compared_finding_by_finding(store: Store, bundle_dir: Write, nothing: Path) -> None:
    ids = [bundle_dir(spec).name for spec in (question("collapse"), question("collapse", "full"))]
    ingest.refresh(store, nothing)
    rows = experiments.diff(store, *ids).set_index("item")
    none = rows.loc["maxvio_step.none.k1"]
    assert none["a"] == pytest.approx(4.0)
    assert none["ratio"] == pytest.approx(4.1 / 4.0)
    assert set(rows["section"]) == {"findings"}


@pytest.mark.parametrize("query", [experiments.series, experiments.loads, experiments.findings])
def test_an_unknown_run_is_one_sentence(store: Store, query: Callable[..., pd.DataFrame]) -> None:
    with pytest.raises(ConfigError, match="must be a run in the store"):
        query(store, "0" * 16)
