"""Each aggregate against the obvious computation over the same rows in pandas and numpy."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.runs import bundle
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.store import ingest, routing
from moe_core.store.db import Store
from tests import synthetic

Write = Callable[..., Path]
specs = st.builds(
    lambda experts, share, batch, seq, seed, layers, model: (
        RunSpec(
            experts=experts,
            top_k=max(1, round(share * experts)),
            batch=batch,
            seq=seq,
            seed=seed,
            model=model,
        ),
        layers,
    ),
    experts=st.sampled_from([1, 2, 5, 16, 64, 65, 128]),
    share=st.floats(0, 1),
    batch=st.integers(1, 9),
    seq=st.integers(16, 40),
    seed=st.integers(0, 99),
    layers=st.integers(1, 3),
    model=st.sampled_from(["carved", "trained"]),
)
few = settings(max_examples=12, deadline=None)


@contextmanager
def recorded(spec: RunSpec, layers: int) -> Iterator[tuple[Store, str, pd.DataFrame]]:
    """A store with this run and another beside it; the run's decisions joined with its tokens."""
    with tempfile.TemporaryDirectory() as directory:
        installation = Settings(data_dir=Path(directory)).prepare()
        other = RunSpec(experts=3, top_k=2, batch=2, seq=16)
        synthetic.write_bundle(installation.runs_dir, other, layers=2)
        path = synthetic.write_bundle(installation.runs_dir, spec, layers=layers, seed=spec.seed)
        store = Store.open(installation)
        try:
            ingest.refresh(store, Path(directory) / "none")
            found = bundle.read(path)
            rows = found.table("decisions").to_pandas().merge(found.table("tokens").to_pandas(), on="token")
            yield store, path.name, rows
        finally:
            store.close()


@few
@given(specs)
def test_the_load_conserves_every_pair(case: tuple[RunSpec, int]):
    spec, layers = case
    with recorded(spec, layers) as (store, run_id, rows):
        whole = routing.load(store, run_id)
        split = routing.load(store, run_id, by_domain=True)
        tokens = spec.batch * spec.seq
        assert whole.pairs.sum() == split.pairs.sum() == tokens * spec.top_k * layers
        assert (whole.groupby("layer").pairs.sum() == tokens * spec.top_k).all()
        assert len(whole) == layers * spec.experts
        assert len(split) == layers * spec.experts * rows.domain.nunique()
        np.testing.assert_allclose(whole.groupby("layer").share.sum(), 1)
        np.testing.assert_allclose(whole.groupby("layer").ratio.mean(), 1)
        np.testing.assert_allclose(split.groupby(["layer", "domain"]).ratio.mean(), 1)
        merged = split.groupby(["layer", "expert"]).pairs.sum().to_numpy()
        np.testing.assert_array_equal(merged, whole.pairs)


@few
@given(specs)
def test_balance_is_the_textbook_s(case: tuple[RunSpec, int]):
    spec, layers = case
    with recorded(spec, layers) as (store, run_id, rows):
        balance = routing.balance(store, run_id).set_index("layer")
        curve = routing.load_curve(store, run_id)
        for layer, part in rows.groupby("layer"):
            load_E = np.bincount(part.expert, minlength=spec.experts)
            share_E = load_E / load_E.sum()
            row = balance.loc[layer]
            entropy = -sum(p * np.log2(p) for p in share_E if p > 0)
            expected = [load_E.std() / load_E.mean(), load_E.max() / load_E.mean(), entropy]
            found = [row.cv, row.max_over_mean, row.entropy_bits]
            np.testing.assert_allclose(found, expected, atol=1e-9)
            np.testing.assert_allclose(row.effective_share, 2**entropy / spec.experts)
            assert (row.experts, row.pairs, row.dead) == (spec.experts, load_E.sum(), (load_E == 0).sum())
            assert load_E[int(row.hottest)] == load_E.max()
            ranked = curve[curve.layer == layer]
            np.testing.assert_allclose(ranked.share, np.sort(share_E)[::-1])
            assert list(ranked["rank"]) == list(range(1, spec.experts + 1))


@few
@given(specs)
def test_coactivation_counts_tokens_that_chose_both(case: tuple[RunSpec, int]):
    spec, layers = case
    with recorded(spec, layers) as (store, run_id, rows):
        everywhere = routing.coactivation(store, run_id)
        one = routing.coactivation(store, run_id, layer=0)
        pd.testing.assert_frame_equal(everywhere[everywhere.layer == 0].reset_index(drop=True), one)
        part = rows[rows.layer == 0]
        chosen_TE = np.zeros((spec.batch * spec.seq, spec.experts), int)
        chosen_TE[part.token, part.expert] = 1
        both_EE = chosen_TE.T @ chosen_TE
        np.testing.assert_array_equal(both_EE[one.expert_a, one.expert_b], one.tokens)
        alive = chosen_TE.sum(0) > 0
        assert len(one) == alive.sum() ** 2
        chance_EE = np.outer(chosen_TE.mean(0), chosen_TE.mean(0))
        expected = (both_EE / len(chosen_TE))[one.expert_a, one.expert_b]
        np.testing.assert_allclose(one.lift, expected / chance_EE[one.expert_a, one.expert_b])
        np.testing.assert_allclose(one.share, one.tokens / chosen_TE.sum(0)[one.expert_a])


@few
@given(specs, st.sampled_from(["decode", "consecutive"]))
def test_distinct_experts_are_counted_over_full_groups(case: tuple[RunSpec, int], grouping: str):
    spec, layers = case
    sizes = (1, 2, 3, 8, 64, 4096)
    with recorded(spec, layers) as (store, run_id, rows):
        frame = routing.distinct(store, run_id, grouping, sizes)
        if grouping == "decode":
            blocks = [np.arange(spec.batch) * spec.seq + position for position in range(spec.seq)]
        else:
            blocks = [np.arange(spec.batch * spec.seq)]
        possible = [size for size in sizes if size <= len(blocks[0])]
        assert list(frame[frame.layer == 0]["size"]) == possible
        part = rows[rows.layer == layers - 1].groupby("token").expert.agg(set)
        for size in possible:
            groups = [
                block[start : start + size]
                for block in blocks
                for start in range(0, len(block) - size + 1, size)
            ]
            expected = np.mean([len(set.union(*part.loc[group])) for group in groups])
            row = frame[(frame.layer == layers - 1) & (frame["size"] == size)].iloc[0]
            assert row["distinct"] == pytest.approx(expected)
            even = spec.experts * (1 - (1 - spec.top_k / spec.experts) ** size)
            assert row.uniform == pytest.approx(even)


def test_random_groups_of_tokens_mix_the_domains(store: Store, bundle_dir: Write, nothing: Path):
    path = bundle_dir()
    ingest.refresh(store, nothing)
    mean = {
        grouping: routing.distinct(store, path.name, grouping, [32])["distinct"].mean()
        for grouping in ("random", "consecutive")
    }
    assert mean["random"] > mean["consecutive"] * 1.1
    whole = routing.distinct(store, path.name, "random", [2048])
    together = routing.distinct(store, path.name, "consecutive", [2048])
    pd.testing.assert_frame_equal(whole, together)
    with pytest.raises(ConfigError, match="must be one of decode, consecutive, random"):
        routing.distinct(store, path.name, "x'; DROP TABLE runs")


@few
@given(specs, st.sampled_from(["domain", "kind"]))
def test_lift_is_conditional_over_marginal(case: tuple[RunSpec, int], by: str):
    spec, layers = case
    with recorded(spec, layers) as (store, run_id, rows):
        frame = routing.lift(store, run_id, by)
        rows["name"] = rows.domain if by == "domain" else rows.byte.map(kind)
        part = rows[rows.layer == 0]
        joint = pd.crosstab(part.expert, part.name)
        expected = joint / joint.sum() / (joint.sum(axis=1) / joint.sum().sum()).to_numpy()[:, None]
        found = frame[frame.layer == 0].pivot(index="expert", columns="name", values="lift")
        np.testing.assert_allclose(found, expected)
        assert frame.pairs.sum() == len(rows)


def kind(byte: int) -> str:
    if byte >= 128:
        return "non-ASCII"
    character = chr(byte)
    tests = {
        "newline": character in "\r\n",
        "space": byte <= 32,
        "digit": character.isdigit(),
        "capital": character.isupper(),
        "letter": character.islower(),
    }
    return next((name for name, true in tests.items() if true), "punctuation")


@few
@given(specs)
def test_flow_follows_first_choices(case: tuple[RunSpec, int]):
    spec, layers = case
    with recorded(spec, layers) as (store, run_id, rows):
        frame = routing.flow(store, run_id)
        assert frame.tokens.sum() == spec.batch * spec.seq * (layers - 1)
        assert (frame.next_layer == frame.layer + 1).all()
        np.testing.assert_allclose(frame.groupby(["layer", "source"]).share.sum(), 1)
        if layers > 1:
            first = rows[rows.slot == 0].pivot(index="token", columns="layer", values="expert")
            expected = pd.crosstab(first[0], first[1])
            for row in frame[frame.layer == 0].itertuples():
                assert row.tokens == expected.loc[row.source, row.target]


def test_probabilities_sum_to_one(store: Store, bundle_dir: Write, nothing: Path):
    path = bundle_dir()
    ingest.refresh(store, nothing)
    frame = routing.probabilities(store, path.name)
    np.testing.assert_allclose(frame.groupby(["layer", "domain"]).probability.sum(), 1, rtol=1e-5)
    assert len(frame) == 8 * 8 * 16


def test_layers_without_experts_and_dead_experts(store: Store, bundle_dir: Write, settings: Settings):
    """Every second layer dense, some tokens dropped, one expert never chosen."""
    path = bundle_dir(RunSpec(batch=2, seq=16, experts=4, top_k=1))
    found = bundle.read(path)
    tables = {name: found.table(name) for name in found.tables}
    decisions = {
        "layer": [1, 1, 1, 3, 3],
        "token": [0, 1, 5, 0, 1],
        "slot": [0] * 5,
        "expert": [0, 1, 1, 3, 3],
        "weight": [1.0] * 5,
    }
    manifest = found.manifest.model_copy(update={"files": {}})
    bundle.publish(settings.runs_dir, manifest, tables | {"decisions": decisions})
    ingest.ingest_run(store, path.name)
    load = routing.load(store, path.name).pivot(index="layer", columns="expert", values="pairs")
    np.testing.assert_array_equal(load, [[1, 2, 0, 0], [0, 0, 0, 2]])
    assert list(routing.balance(store, path.name).dead) == [2, 3]
    flow = routing.flow(store, path.name)
    assert list(flow.itertuples(index=False, name=None)) == [(1, 3, 0, 3, 1, 1.0), (1, 3, 1, 3, 1, 1.0)]
    distinct = routing.distinct(store, path.name, "consecutive", [1, 2, 32])
    np.testing.assert_allclose(distinct[distinct.layer == 1]["distinct"], [3 / 32, 3 / 16, 2])


def test_a_run_without_decisions_gives_empty_frames(store: Store, bundle_dir: Write, nothing: Path):
    run_id = bundle_dir(RunSpec(lab="topk_sweep")).name
    ingest.refresh(store, nothing)
    for question in (routing.load, routing.load_curve, routing.balance, routing.coactivation, routing.flow):
        frame = question(store, run_id)
        assert frame.empty
        assert len(frame.columns) >= 5
    assert routing.distinct(store, run_id).empty
    assert routing.lift(store, run_id).empty
