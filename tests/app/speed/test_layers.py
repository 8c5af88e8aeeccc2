"""What a layer sweep says: ratios, dense-equivalents, predictions; and its figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from app.figure import Figure
from app.speed import charts as speed_charts
from app.speed import layers, view
from app.speed.layers import ACTIVE, BEST, CHOSEN, GROUPED, LOOP, TOTAL, Facts, Split
from moe_core.perf import calibrate
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.store import ingest, queries
from moe_core.store.db import Store
from moe_core.store.queries import Run
from tests import synthetic_layers

SWEEP, REAL, PROBE = RunSpec(lab="layer_sweep"), RunSpec(lab="real_layers"), calibrate.question()


@pytest.fixture
def stored(settings: Settings, bundle_dir: Callable[..., Path], tmp_path: Path) -> Callable[[RunSpec], Run]:
    """A run of each lab, through bundle and store."""
    paths = {spec.lab: bundle_dir(spec) for spec in (SWEEP, REAL, PROBE)}
    store = Store.open(settings)
    ingest.refresh(store, tmp_path / "no-reference")
    yield lambda spec: queries.run(store, paths[spec.lab].name)
    store.close()


@pytest.fixture
def sweep(stored: Callable[[RunSpec], Run]) -> tuple[Run, Facts, pd.DataFrame]:
    run = stored(SWEEP)
    (facts,) = layers.facts(run)
    columns = synthetic_layers.layers(SWEEP)["layers"]
    keys = ["subject", "series", "tokens", "width"]
    grouped = pd.DataFrame(columns).groupby(keys, as_index=False)
    frame = grouped.agg(
        hit=("hit", "median"),
        median_s=("seconds", "median"),
        p10_s=("seconds", "min"),
        p90_s=("seconds", "max"),
    )
    return run, facts, layers.of(frame, facts)


def test_the_store_gives_back_what_was_swept(
    settings: Settings, bundle_dir: Callable[..., Path], tmp_path: Path
):
    path = bundle_dir(SWEEP)
    store = Store.open(settings)
    ingest.refresh(store, tmp_path / "no-reference")
    frame = queries.layers(store, path.name)
    store.close()
    assert set(frame["series"]) == {"auto", "grouped", "loop", "dense", "same_work"}
    assert (frame["repeats"] == 3).all()
    assert frame[frame["series"] == "dense"]["hit"].isna().all()
    assert ((frame["p10_s"] <= frame["median_s"]) & (frame["median_s"] <= frame["p90_s"])).all()


def test_names_are_given_to_kernels_and_the_two_widths(sweep: tuple[Run, Facts, pd.DataFrame]):
    _, facts, frame = sweep
    assert set(frame["name"].dropna()) == {BEST, CHOSEN, GROUPED, LOOP, ACTIVE, TOTAL}
    assert set(frame[frame["name"] == TOTAL]["width"]) == {facts.layer.total_width}


def test_a_split_adds_up_and_work_never_exceeds_the_whole(sweep: tuple[Run, Facts, pd.DataFrame]):
    for one in layers.splits(sweep[2]):
        assert one.work + one.code == pytest.approx(one.total)
        assert 0 <= one.code <= one.total


def test_the_best_kernel_is_the_least_of_all_that_were_measured(sweep: tuple[Run, Facts, pd.DataFrame]):
    _, facts, frame = sweep
    raw = frame[frame["series"] != "best"].drop(columns="name")
    chosen = (raw["series"] == "auto") & (raw["tokens"] <= 64)
    worse = raw.assign(median_s=raw["median_s"].where(~chosen, 2 * raw["median_s"]))
    found = layers.of(worse, facts)
    best, grouped, auto = (layers.seconds(found, name) for name in (BEST, GROUPED, CHOSEN))
    assert best[1] == grouped[1] < auto[1]
    assert best[1024] == auto[1024] < grouped[1024]
    active = layers.seconds(found, ACTIVE)
    for one in layers.splits(found):
        assert one.total == pytest.approx(best[one.tokens] / active[one.tokens])
    title = speed_charts.over_tokens(found.dropna(subset="name"), pd.DataFrame(), facts.label).title
    assert "3.00× our best kernel's time" in title


def test_the_answer_says_whether_code_or_architecture_explains_most():
    def said(few: Split, many: Split) -> str:
        return view.compared("On this machine", few, many)

    code, work = Split(1, 6.1, 1.5, 4.6), Split(1, 6.1, 5.0, 1.1)
    assert said(code, Split(1024, 3.9, 1.2, 2.7)) == (
        "On this machine a mixture layer takes 6.10× a dense layer of the same active size for one token, "
        "3.90× for 1,024. Most of that is this code's overhead, not the architecture"
    )
    assert "Most of that is the architecture" in said(work, Split(1024, 3.9, 3.0, 0.9))
    mixed = said(work, Split(1024, 3.9, 1.2, 2.7))
    assert "this code's overhead for 1,024 tokens, and the architecture for 1 token" in mixed
    assert "Most" not in said(Split(1, 0.9, 0.8, 0.1), Split(1024, 0.8, 0.7, 0.1))
    assert said(code, code).count("×") == 1  # a sweep that was cut short has one end


def test_the_dense_layers_own_time_is_nobodys_overhead():
    assert Split(1, 1.3, 1.0, 0.3).overhead == pytest.approx(1.0)
    assert Split(1, 3.0, 2.5, 0.5).overhead == pytest.approx(0.25)
    assert Split(1, 1.3, 0.8, 0.5).overhead == pytest.approx(1.0)
    assert Split(1, 0.9, 0.8, 0.1).overhead is None


def test_the_equivalent_width_takes_as_long(sweep: tuple[Run, Facts, pd.DataFrame]):
    _, facts, frame = sweep
    found = layers.equivalents(frame, facts)
    best = layers.seconds(frame, BEST)
    inside = found[(found["name"] == BEST) & ~found["beyond"]]
    assert len(inside)
    for row in inside.to_dict("records"):
        back = (
            synthetic_layers.dense_s(facts.layer.hidden, row["width"], row["tokens"]) * 1.01
        )  # its median repeat
        assert back == pytest.approx(best[row["tokens"]], rel=1e-3)


def test_a_device_that_follows_the_law_is_predicted(sweep: tuple[Run, Facts, pd.DataFrame]):
    _, facts, frame = sweep
    found = layers.predicted(frame, facts, synthetic_layers.calibration(), "bf16")
    assert set(found["name"]) == {BEST, ACTIVE, TOTAL}
    dense = found[found["name"] != BEST]
    assert dense["error"].abs().max() < 0.05
    assert (found["predicted_s"] >= found["roof_s"]).all()


def test_no_modelled_point_is_above_the_roof(sweep: tuple[Run, Facts, pd.DataFrame]):
    _, facts, frame = sweep
    known = synthetic_layers.calibration()
    roof = layers.limits(facts, known, "bf16")
    for row in layers.roofline(frame, facts, known, "bf16").to_dict("records"):
        assert row["modelled"] <= roof.reachable(row["intensity"]) * (1 + 1e-9)


def figures(run: Run, facts: Facts, frame: pd.DataFrame) -> list[Figure]:
    known = synthetic_layers.calibration()
    predicted = layers.predicted(frame, facts, known, "bf16")
    points = layers.roofline(frame, facts, known, "bf16")
    return [
        speed_charts.over_tokens(frame.dropna(subset="name"), predicted, facts.label),
        speed_charts.over_tokens(frame.dropna(subset="name"), pd.DataFrame(), facts.label),
        speed_charts.split(layers.splits(frame)),
        speed_charts.equivalent(layers.equivalents(frame, facts), {"active": 1.0, "total": 3.4}),
        speed_charts.predicted(predicted, "the test model"),
        speed_charts.roofline(points, layers.limits(facts, known, "bf16"), "The test model"),
    ]


def test_every_figure_says_its_finding_and_compiles_under_the_schema(
    sweep: tuple[Run, Facts, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("altair.utils.schemapi.DEBUG_MODE", True)
    for figure in figures(*sweep):
        assert any(letter.isdigit() for letter in figure.title), figure.title
        assert not figure.title.endswith(".")
        assert len(figure.alt) > 40
        assert len(figure.data)


def test_the_loop_is_said_to_be_code(sweep: tuple[Run, Facts, pd.DataFrame]):
    assert "3.00× our best kernel's time" in figures(*sweep)[0].title


def test_real_sizes_are_facts_of_their_own(stored: Callable[[RunSpec], Run]):
    mixtral, qwen = layers.facts(stored(REAL))
    assert (mixtral.layer.hidden, mixtral.layer.width, mixtral.random) == (4096, 14336, True)
    assert qwen.layer.experts == 128


def test_a_calibration_comes_back_from_the_store(stored: Callable[[RunSpec], Run]):
    assert layers.calibration(stored(PROBE)) == synthetic_layers.calibration()
