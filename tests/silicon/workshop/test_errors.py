"""The aggregated errors: they say what the points say, and a folder that exists is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from moe_core.silicon.workshop import errors, layer_accuracy, layer_tables
from moe_core.silicon.workshop import served as workshop
from moe_core.silicon.workshop.errors import CUTS, EDGES, GROUP

ONE = ("h100_sxm", "vllm", "bf16")


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return errors.of_group(*ONE)


def test_scores_are_those_of_the_points(tables: dict[str, pd.DataFrame]) -> None:
    expected = layer_accuracy.score(layer_accuracy.errors(*ONE))
    found = tables["groups"].iloc[0]
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert tuple(found[GROUP]) == ONE


def test_every_cut_holds_every_row_once(tables: dict[str, pd.DataFrame]) -> None:
    rows = tables["groups"].iloc[0]["rows"]
    counted = tables["cuts"].groupby("cut")["rows"].sum()
    assert set(counted.index) == set(CUTS)
    assert (counted == rows).all()
    whole = (
        tables["cuts"].assign(sum=tables["cuts"]["mape"] * tables["cuts"]["rows"]).groupby("cut")["sum"].sum()
    )
    assert (whole / rows).to_numpy() == pytest.approx(tables["groups"].iloc[0]["mape"])


def test_bins_and_scatter_lose_no_row(tables: dict[str, pd.DataFrame]) -> None:
    rows = tables["groups"].iloc[0]["rows"]
    assert tables["bins"]["rows"].sum() == rows
    assert (tables["bins"]["low"].iloc[0], tables["bins"]["high"].iloc[-1]) == (EDGES[0], EDGES[-1])
    scatter = tables["scatter"]
    assert scatter["rows"].sum() == rows
    assert len(scatter) < 1000  # what a browser gets
    inside = (scatter["inside"] * scatter["rows"]).sum() / rows
    assert inside == pytest.approx(tables["groups"].iloc[0]["coverage"])


def test_a_bin_of_the_scatter_holds_its_points(tables: dict[str, pd.DataFrame]) -> None:
    """Middles of bins an eighth of a decade wide: no point is further than a sixteenth from its own."""
    points = layer_accuracy.errors(*ONE)
    binned = errors._binned(points["measured"])
    assert np.abs(np.log10(binned / points["measured"])).max() <= 1 / 16 + 1e-9


def test_the_worst_are_the_worst(tables: dict[str, pd.DataFrame]) -> None:
    points = layer_accuracy.errors(*ONE)
    off = np.log2(points["predicted"] / points["measured"]).abs()
    worst = tables["worst"]
    assert worst["off"].iloc[0] == pytest.approx(off.max())
    assert worst["off"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("tokens", "words"),
    [(1, "1 to 8"), (8, "1 to 8"), (9, "9 to 64"), (512, "65 to 512"), (16384, "above 512")],
)
def test_ranges_of_tokens(tokens: int, words: str) -> None:
    assert errors._tokens(tokens) == words


def test_what_is_written_is_read_and_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    told: list[str] = []

    def compute(report: errors.Report) -> dict[str, pd.DataFrame]:
        report(0.5, "half")
        told.append((tmp_path / errors.PROGRESS).read_text())
        return dict.fromkeys(errors.TABLES, frame)

    monkeypatch.setattr(errors, "compute", compute)
    assert errors.read(tmp_path) is None
    target = errors.write(tmp_path)
    assert target.name == errors.fingerprint()
    assert '"half"' in told[0]
    assert [path.name for path in tmp_path.iterdir()] == [target.name]  # no progress, nothing half made
    found = errors.read(tmp_path)
    assert found is not None
    assert set(found) == set(errors.TABLES)
    assert found["groups"].equals(frame)
    errors.write(tmp_path)
    assert len(told) == 1


def test_a_computation_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(report: errors.Report) -> dict[str, pd.DataFrame]:
        report(0.1, "before")
        raise RuntimeError("no")

    monkeypatch.setattr(errors, "compute", broken)
    with pytest.raises(RuntimeError):
        errors.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


class Everything(NamedTuple):
    """The score of every group of layers, every table made of their errors, and what was told meanwhile."""

    summary: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    shares: list[float]


@pytest.fixture(scope="module")
def everything(served: tuple[list[workshop.ServedCase], dict[str, int]]) -> Everything:
    """A million errors of layers are computed once for the summary and the tables."""
    shares: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workshop, "cases", lambda: served)
        patch.setattr(layer_accuracy, "errors", _kept(layer_accuracy.errors))
        summary = layer_accuracy.summary()
        tables = errors.compute(lambda share, words: shares.append(share))
    return Everything(summary, tables, shares)


def _kept(of: Any) -> Callable[..., pd.DataFrame]:
    """Like `of`, and what it answered stays until the end."""
    known: dict[tuple[str, ...], pd.DataFrame] = {}

    def ask(*group: str) -> pd.DataFrame:
        if group not in known:
            known[group] = of(*group)
        return known[group]

    ask.cache_clear = of.cache_clear  # type: ignore[attr-defined]
    return ask


@pytest.mark.slow
def test_all_of_it_from_what_ships(everything: Everything) -> None:
    found, heard = everything.tables, everything.shares
    assert heard == sorted(heard)
    assert heard[-1] < 1
    assert set(found) == set(errors.TABLES)
    assert len(found["groups"]) == found["groups"][GROUP].drop_duplicates().shape[0] >= 12
    served = found["served"]
    assert set(served["kind"]) == {"dense", "mixture"}
    assert (served[["tpot", "tpot_predicted", "ttft", "ttft_predicted"]] > 0).all().all()


@pytest.mark.slow
def test_groups_have_the_scores_of_the_summary(everything: Everything) -> None:
    columns = list(everything.summary.columns)
    pd.testing.assert_frame_equal(everything.tables["groups"][columns], everything.summary)


@pytest.mark.slow
def test_every_group_is_in_the_summary(everything: Everything) -> None:
    summary = everything.summary
    assert len(summary) == len(layer_tables.groups())
    many = summary[summary["architectures"] >= 8]
    assert len(many) > 20
    assert many["coverage"].between(0.72, 0.88).all()
    assert (many["median"] < many["mape"]).all()
