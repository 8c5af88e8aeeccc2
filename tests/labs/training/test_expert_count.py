"""E9: what is equal in a line is equal, and every axis and gain is the arithmetic that it says."""

from __future__ import annotations

import pytest

from moe_core.labs.training import expert_count as lab
from moe_core.labs.training.arms import TrainSize
from moe_core.perf import params
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec, Training

TINY = TrainSize(hidden=32, layers=1, width=8, batch=2, seq=16, steps=4, seeds=2, heldout=64, windows=2)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_DATA_DIR", str(tmp_path_factory.mktemp("state")))
        patch.setitem(lab.SIZES, "quick", TINY)
        spec = RunSpec(lab="expert_count", training=Training())
        return bundle.verify(lab.execute(spec, RunContext()))


@pytest.mark.parametrize("setting", ["quick", "full"])
def test_a_token_passes_the_same_width_in_every_arm(setting):
    arms = {arm.name: arm.arch for arm in lab.compared(lab.SIZES[setting], setting)}
    dense = params.count(arms[lab.DENSE])
    for name, arch in arms.items():
        found = params.count(arch)
        assert found.active.incl_embeddings - found.breakdown.router == dense.total, name
        router_flops = 2 * found.breakdown.router
        flops = lab.flops(arch, lab.SIZES[setting])
        assert flops == lab.flops(arms[lab.DENSE], lab.SIZES[setting]) + router_flops, name


@pytest.mark.parametrize("setting", ["quick", "full"])
def test_finer_experts_have_the_same_total(setting):
    arms = {arm.name: arm.arch for arm in lab.compared(lab.SIZES[setting], setting)}
    line = lab.lines(setting)["granularity"]
    assert len({params.count(arms[count.name]).breakdown.experts for count in line}) == 1
    assert {count.experts // count.top_k for count in line} == {4}


def test_every_mixture_is_trained_once():
    names = [arm.name for arm in lab.compared(lab.SIZES["full"], "full")]
    assert len(names) == len(set(names)) == 1 + 5 + 4 + 2


def test_tokens_and_flops_are_steps_in_other_units(done):
    series = done.table("series").to_pandas()
    arms = {arm.name: arm.arch for arm in lab.compared(TINY, "quick")}
    for name, arch in arms.items():
        mine = series[(series.arm == name) & (series.metric == "loss") & (series.seed == 1)]
        by = {axis: part.sort_values("x") for axis, part in mine.groupby("axis")}
        steps, flops = by["step"].x.to_numpy(), lab.flops(arch, TINY)
        assert by["tokens"].x.to_numpy() == pytest.approx(steps * 2 * 16)
        assert by["flops"].x.to_numpy() == pytest.approx(steps * 2 * 16 * 3 * flops)
        assert by["tokens"].value.tolist() == by["step"].value.tolist() == by["flops"].value.tolist()


def test_findings_are_differences_of_the_lines(done):
    series, found = done.table("series").to_pandas(), done.manifest.summary["findings"]
    lines = series[(series.metric == "heldout") & (series.axis == "experts")]
    loss = lines.pivot_table(index=["arm", "x"], values="value").value
    two = loss["k=2"]
    assert list(two.index) == [2.0, 4.0, 8.0, 32.0]
    assert found["loss_difference.k2_most_least"]["value"] == pytest.approx(two[32.0] - two[2.0])
    assert found["gain_first_doubling"]["value"] == pytest.approx(two[2.0] - two[4.0])
    assert found["gain_last_doubling"]["value"] == pytest.approx((two[8.0] - two[32.0]) / 2)  # two doublings
    fine = loss["granularity"]
    assert found["granularity_gain"]["value"] == pytest.approx(fine[4.0] - fine[32.0])
    assert found["loss_difference.k1_most_least"]["seeds"] == 2
