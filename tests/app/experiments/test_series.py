"""Series: arms and parts, means and intervals over seeds, differences paired by seed, two ways to fail."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from app.experiments import series
from moe_core.labs.training.table import question
from tests import synthetic_training


def rows(setting: str = "full", origin: str = "measured here", **spec: object) -> pd.DataFrame:
    """The synthetic collapse experiment."""
    made = synthetic_training.tables(question("collapse", setting, **spec))  # type: ignore[arg-type]
    return pd.DataFrame(made["series"]).assign(origin=origin)[list(series.COLUMNS)]


def few(*values: tuple[str, int, float, float]) -> pd.DataFrame:
    """Rows of one metric: arm, seed, x, value."""
    frame = pd.DataFrame(values, columns=["arm", "seed", "x", "value"])
    return frame.assign(origin="measured here", metric="heldout", axis="step")[list(series.COLUMNS)]


@pytest.mark.parametrize(
    ("arm", "strategy", "part"),
    [
        ("none, k=1", "none", "k=1"),
        ("uniform, k=2", "uniform", "k=2"),
        ("continued dense, equal FLOPs", "continued dense, equal FLOPs", ""),
        ("1: auxiliary loss 0.01, bias (sign) 0.02", "1: auxiliary loss 0.01, bias (sign) 0.02", ""),
        ("none", "none", ""),
        (", k=1", ", k=1", ""),
    ],
)
def test_an_arm_is_a_strategy_and_a_part(arm: str, strategy: str, part: str) -> None:
    assert (series.strategy(arm), series.part(arm)) == (strategy, part)


def test_parts_are_there_only_where_every_arm_has_one() -> None:
    assert series.parts(rows()) == ["k=1", "k=2"]
    mixed = few(("all experts", 0, 1, 2.0), ("sparse, k=3", 0, 1, 2.0))
    assert series.parts(mixed) == [""]
    assert len(series.chosen(mixed, "heldout", "step", "")) == 2


def test_names_are_cut_only_where_arms_stay_apart() -> None:
    assert series.strategies(["none, k=1", "bias, k=1"]) == {"none, k=1": "none", "bias, k=1": "bias"}
    assert series.strategies(["none, k=1", "none, k=2"]) == {
        "none, k=1": "none, k=1",
        "none, k=2": "none, k=2",
    }
    assert series.strategies(["expert_choice"]) == {"expert_choice": "expert choice"}


def test_what_has_no_curve_is_not_offered() -> None:
    found = series.metrics(series.without_floor(rows()))
    assert found[0] == "maxvio_step"
    assert "maxvio_step_p95" not in found
    assert "heldout" not in found  # one point an arm: it is told as differences
    family = rows().assign(metric="bias.3")
    assert "bias.3" not in series.metrics(pd.concat([rows(), family]))


def test_runs_of_different_lengths_are_laid_over_one_another_by_their_share() -> None:
    short = rows("quick", "measured here")
    assert series.axes(short, "loss") == ["step", series.SHARE]
    long = rows("full", "measured elsewhere").assign(x=lambda frame: frame["x"] * 12)
    both = pd.concat([long, short])
    assert series.axes(both, "loss")[0] == series.SHARE
    found = series.chosen(both, "loss", series.SHARE, "k=1")
    assert found.groupby("origin")["x"].max().to_dict() == {"measured here": 1.0, "measured elsewhere": 1.0}


def test_an_empty_choice_is_an_empty_frame() -> None:
    nothing = series.chosen(rows(), "no such metric", "step", "k=1")
    assert nothing.empty
    assert list(nothing.columns) == list(series.COLUMNS)
    assert series.differences(nothing, "none").empty
    assert series.ends(nothing).empty


def test_the_interval_is_that_of_student() -> None:
    found = series.means(few(("a", 0, 1, 1.0), ("a", 1, 1, 2.0), ("a", 2, 1, 3.0), ("b", 0, 1, 5.0)))
    a, b = found.set_index("arm").loc["a"], found.set_index("arm").loc["b"]
    half = 4.302652729911275 / math.sqrt(3)  # t(0.975, 2), spread 1
    assert (a["value"], a["high"] - a["value"]) == (2.0, pytest.approx(half, rel=1e-9))
    assert np.isnan(b["low"])
    assert np.isnan(b["high"])


def test_differences_are_paired_by_seed_and_only_where_both_have_it() -> None:
    table = few(
        *(("none", seed, 10, 2.0 + seed) for seed in range(3)),
        *(("bias", seed, 10, 1.5 + seed + 0.1 * seed) for seed in (0, 1, 5)),
    )
    found = series.differences(table, "none").set_index("seed")["value"]
    assert found.to_dict() == {0: pytest.approx(-0.5), 1: pytest.approx(-0.4)}
    spread = series.differences(table, "none").iloc[0]
    assert spread["mean"] == pytest.approx(-0.45)
    assert spread["low"] < -0.45 < spread["high"]  # far from the spread of the losses themselves
    assert spread["high"] - spread["low"] < 1.3


def test_a_curve_ends_as_its_last_quarter_does() -> None:
    table = few(*(("a", 0, step, float(step)) for step in range(8)))
    assert series.ends(table)["value"].tolist() == [6.5]


def test_the_floor_belongs_to_its_part_and_is_not_trained() -> None:
    table = rows()
    assert series.floor(table, "maxvio_step", "k=2") == (
        synthetic_training.FLOOR,
        pytest.approx(synthetic_training.FLOOR * 1.5),
    )
    assert series.floor(table, "loss", "k=2") is None
    assert not any("uniform" in arm for arm in series.without_floor(table)["arm"])


@pytest.mark.parametrize(
    ("effective", "router", "verdict"),
    [(0.4, 0.8, "collapsed"), (0.99, 0.99, "flat"), (0.99, 0.7, "healthy"), (0.3, 0.99, "collapsed")],
)
def test_collapse_and_flat_routing_are_two_failures(effective: float, router: float, verdict: str) -> None:
    table = pd.concat(
        few(("a", 0, 1, value)).assign(metric=name)
        for name, value in (("effective", effective), ("router_effective", router))
    )
    assert series.failures(table)["verdict"].tolist() == [verdict]


def test_a_picture_becomes_rows_and_a_heatmap() -> None:
    picture = {
        "lab": "balancing",
        "series": [
            {"arm": "1", "seed": 0, "metric": "loss", "axis": "step", "x": [1.0, 2.0], "value": [5.0, 4.0]}
        ],
        "loads": [{"arm": "1", "seed": 0, "step": 2, "load": [[1, 3], [0, 0]]}],
    }
    found = series.named(series.of_picture(picture), ["no balancing"])
    assert found["value"].tolist() == [5.0, 4.0]
    assert set(found["arm"]) == {"1: no balancing"}
    loads = series.loads_of_picture(picture)
    assert loads["ratio"].tolist() == [0.5, 1.5, 0.0, 0.0]
    for nothing in (None, {}, {"series": [], "loads": []}):
        assert series.of_picture(nothing).empty
        assert series.loads_of_picture(nothing).empty


def test_what_others_start_from_is_no_rival() -> None:
    started = rows("full").assign(arm=lambda frame: "before, " + frame["arm"])
    both = pd.concat([rows("full"), started])
    assert set(series.beside_each_other(both)["arm"]) == set(series.without_floor(rows("full"))["arm"])
