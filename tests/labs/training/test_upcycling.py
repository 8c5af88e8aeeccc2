"""E6: exact at the start, paired arms, and the same loss over steps and over FLOPs."""

import copy
import json

import pytest
import torch

from moe_core.labs.training import upcycling
from moe_core.labs.training.arms import SIZES
from moe_core.labs.training.upcycling import COPIES, DENSE, DENSE_FLOPS, DROP, GROUPS, SCRATCH
from moe_core.perf.training import step_flops
from moe_core.specs import Architecture
from tests.labs.training.published import TINY, Published, mean, of_seed, published
from tests.nn.small import decoder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published(upcycling, tmp_path_factory.mktemp("upcycling"), START={"quick": 6})


def test_the_contract_of_names_is_kept(run):
    names = {
        *("error.copy", "error.copy_raw_softmax", "error.shards", "error.virtual_groups"),
        *(f"loss_difference.{name}" for name in ("tokens", "flops", "scratch_first", "scratch_last", "drop")),
    }
    assert names <= set(run.findings)
    assert all(found["seeds"] == 2 for found in run.findings.values())
    assert all(found["low"] <= found["value"] <= found["high"] for found in run.findings.values())


def test_copies_and_virtual_groups_are_exact_at_the_start_and_nothing_else_is(run):
    assert run.value("error.copy") < 1e-12
    assert run.value("error.virtual_groups") < 1e-12
    assert run.value("error.virtual_groups_not_scaled") == pytest.approx(0.5, abs=1e-9)
    for name in ("copy_raw_softmax", "shards", "drop"):
        assert run.value(f"error.{name}") > 0.1


def test_the_error_of_shards_ends_at_zero_with_all_of_them(run):
    curve = run.series["shards", 0, "start_error", "top_k"]
    assert [k for k, _ in curve] == list(range(1, 9))
    assert curve[-1][1] < 1e-12 < 0.05 < curve[-2][1]
    assert run.last("shards", "start_error")[0] == dict(curve)[upcycling.TOP_K]


def test_what_is_exact_starts_at_the_loss_of_the_dense_model(run):
    for seed in (0, 1):
        start = run.series["dense start", seed, "heldout", "step"][-1][1]
        for arm in (DENSE, DENSE_FLOPS, COPIES, GROUPS):
            assert run.series[arm, seed, "heldout", "step"][0] == (0.0, pytest.approx(start, abs=1e-5))
        assert run.series[SCRATCH, seed, "heldout", "step"][0][1] > start + 0.1


def test_findings_are_differences_of_the_series(run):
    pairs = {"tokens": DENSE, "flops": DENSE_FLOPS}
    for name, dense in pairs.items():
        difference = mean(run.last(COPIES, "heldout")) - mean(run.last(dense, "heldout"))
        assert run.value(f"loss_difference.{name}") == pytest.approx(difference)
    last = mean(run.last(SCRATCH, "heldout")) - mean(run.last(COPIES, "heldout"))
    assert run.value("loss_difference.scratch_last") == pytest.approx(last)
    fifth = [run.series[arm, 0, "heldout", "step"][1] for arm in (SCRATCH, COPIES)]
    assert [x for x, _ in fifth] == [round(TINY.steps / 5)] * 2
    assert run.value("loss_difference.drop") == pytest.approx(
        mean(run.last(DROP, "heldout")) - mean(run.last(COPIES, "heldout"))
    )


def test_every_curve_is_drawn_over_flops_too(run):
    moe, dense = (
        Architecture.parse_json(json.dumps(run.manifest["architectures"][name])) for name in ("moe", "dense")
    )
    for arm, arch in ((COPIES, moe), (SCRATCH, moe), (DENSE, dense), (DENSE_FLOPS, dense)):
        flops = step_flops(arch, TINY.batch, TINY.seq)
        steps, over = (run.series[arm, 1, "heldout", axis] for axis in ("step", "flops"))
        assert over == [(pytest.approx(x * flops), value) for x, value in steps]


def test_equal_flops_are_equal_to_a_step(run):
    ends = [run.series[arm, 0, "heldout", "flops"][-1][0] for arm in (COPIES, DENSE_FLOPS, DENSE)]
    step = ends[2] / TINY.steps
    assert abs(ends[0] - ends[1]) <= step / 2 + 1
    assert ends[2] < 0.95 * ends[0]


@pytest.mark.parametrize("size", [upcycling.SIZES["quick"], upcycling.SIZES["full"], SIZES["quick"]])
def test_all_mixtures_take_the_same_flops_but_for_the_router(size):
    dense = decoder(hidden=size.hidden, ffn_width=size.width, layers=size.layers)
    flops = {one.arm.name: one.flops for one in upcycling.continued(dense, 0, size)}
    assert flops[COPIES] == flops[DROP] == flops[SCRATCH]
    router = 3 * 2 * size.tokens * size.layers * size.hidden * upcycling.EXPERTS
    assert flops[GROUPS] - flops[COPIES] == router


def test_training_is_deterministic_by_seed(run, tmp_path):
    again = published(upcycling, tmp_path, seeds=1, START={"quick": 6})
    assert again.series == of_seed(run, 0)


def test_arms_share_nothing_that_is_trained():
    dense = decoder(hidden=32, ffn_width=32)
    models = [one.model for one in upcycling.continued(dense, 0, TINY)]
    before = copy.deepcopy(dense.state_dict())
    for model in models:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
    assert all(torch.equal(before[name], value) for name, value in dense.state_dict().items())
    assert len({parameter.data_ptr() for m in models for parameter in m.parameters()}) == sum(
        len(list(model.parameters())) for model in models
    )
