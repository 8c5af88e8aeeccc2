"""E11: what is timed is the same layer in three sizes, on other weights each time; ratios are of medians."""

from __future__ import annotations

import pytest
import torch

from moe_core.labs.bank import Pool
from moe_core.labs.training import decode_over_batch as lab
from moe_core.labs.training.decode_over_batch import ACTIVE, MIXTURE, TOTAL, DecodeLayer
from moe_core.perf import distinct
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.runs.context import RunContext
from moe_core.specs import Experts, RunSpec, Training

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab, "HIDDEN", 32)
        patch.setattr(lab, "BANK", Experts(count=8, top_k=2, width=16))
        patch.setitem(lab.LADDER, "quick", (1, 2, 64, 128))
        patch.setitem(lab.ROUNDS, "quick", 4)
        patch.setattr("moe_core.labs.bank.OVERFLOW", 0.01)
        yield


@pytest.fixture(scope="module")
def done(small: None, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_DATA_DIR", str(tmp_path_factory.mktemp("state")))
        spec = RunSpec(lab="decode_over_batch", device="cpu", dtype="fp32", training=Training(seeds=2))
        return bundle.verify(lab.execute(spec, RunContext()))


@pytest.fixture
def layer(small: None) -> DecodeLayer:
    pool = Pool.filled(lab._largest() * 2, torch.float32, CPU)
    return DecodeLayer.drawn(pool, 0, CPU, torch.float32, 128)


def test_three_sizes_of_one_layer(layer):
    calls = layer.calls(5, 0)
    assert {name: tuple(call().shape) for name, call in calls.items()} == {
        name: (5, 32) for name in (MIXTURE, ACTIVE, TOTAL)
    }


def test_the_next_call_has_other_weights(layer):
    first, second = (layer._dense(layer.x_TD[:3], 2)() for _ in "ab")
    assert not torch.equal(first, second)


def test_a_batch_reaches_no_more_experts_than_it_has_choices(layer):
    assert layer.hit(1, 0) == 2
    assert 2 <= layer.hit(3, 1) <= 6
    assert layer.hit(128, 2) == 8


def test_seconds_are_of_every_call_in_turn():
    order = []
    found = lab.one_round({name: lambda name=name: order.append(name) for name in "abc"}, CPU)
    assert order == ["a", "b", "c"]
    assert set(found) == {"a", "b", "c"}
    assert min(found.values()) >= 0


def test_ratios_are_of_the_medians_and_findings_of_the_ratios(done):
    series = done.table("series").to_pandas()
    seconds = series[series.metric == "seconds"].set_index(["arm", "seed", "x"]).value
    ratios = series[series.metric == "ratio_dense_total"].set_index(["seed", "x"]).value
    for (seed, tokens), ratio in ratios.items():
        assert ratio == pytest.approx(seconds[MIXTURE, seed, tokens] / seconds[TOTAL, seed, tokens])
    found = done.manifest.summary["findings"]
    means = ratios.groupby("x").mean()
    for place, tokens in (("b1", 1.0), ("mid", 2.0), ("most", 64.0), ("prompt", 128.0)):
        assert found[f"ratio_dense_total.{place}"]["value"] == pytest.approx(means[tokens])
        assert found[f"ratio_dense_active.{place}"]["seeds"] == 2


def test_experts_reached_stand_beside_the_formula(done):
    series = done.table("series").to_pandas()
    reached = series[(series.metric == "experts_reached") & (series.seed == 0)].set_index(["arm", "x"]).value
    for tokens in (1, 2, 64, 128):
        assert reached["uniform formula", tokens] == distinct.uniform(8, 2, tokens)
    assert reached[MIXTURE, 1.0] == 2.0
    assert done.manifest.provenance["dtype"] == "fp32"


def test_the_middle_is_where_half_of_the_experts_are_expected():
    experts, top_k = 32, 2
    assert min(range(1, 64), key=lambda t: abs(distinct.uniform(experts, top_k, t) - experts / 2)) == lab.MID
