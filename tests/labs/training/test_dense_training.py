"""E5: every expert trained, few kept: what is left out, and what each arm costs."""

import pytest
import torch

from moe_core.labs.training import corpus, dense_training
from moe_core.labs.training.dense_training import ACTIVE, DENSE, EXPERTS, SPARSE, TOP_K, WITH, WITHOUT
from moe_core.labs.training.loop import cross_entropy
from moe_core.nn import balance
from moe_core.nn.model import Decoder, initialise
from moe_core.nn.observe import RoutingLog
from moe_core.perf.params import count
from moe_core.perf.training import step_flops
from tests.labs.training.published import TINY, Published, mean, of_seed, published

ARMS = {arm.name: arm for arm in dense_training.compared(TINY)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published(dense_training, tmp_path_factory.mktemp("dense_training"))


def model(name: str, seed: int = 0) -> Decoder:
    decoder = Decoder(ARMS[name].arch)
    initialise(decoder, seed)
    return decoder


def test_the_contract_of_names_is_kept(run):
    names = {f"loss.k{k}" for k in TOP_K} | {"loss_ratio.active30"}
    names |= {f"loss_difference.{name}" for name in ("with_without_mi", "against_sparse")}
    assert names <= set(run.findings)
    assert ACTIVE / EXPERTS == 0.3


def test_with_every_expert_the_loss_is_that_of_training(run):
    for arm in (WITH, WITHOUT):
        for seed in (0, 1):
            _, full = run.series[arm, seed, "heldout", "top_k"][-1]
            assert full == pytest.approx(run.series[arm, seed, "heldout", "step"][-1][1], abs=1e-6)
            _, renormalised = run.series[arm, seed, "heldout_renormalised", "top_k"][-1]
            assert renormalised == pytest.approx(full, abs=1e-5)


def test_findings_are_taken_from_the_series(run):
    few = [dict(run.series[WITH, seed, "heldout", "top_k"])[ACTIVE] for seed in (0, 1)]
    every = [dict(run.series[WITH, seed, "heldout", "top_k"])[EXPERTS] for seed in (0, 1)]
    ratio = mean([a / b for a, b in zip(few, every, strict=True)])
    assert run.value("loss_ratio.active30") == pytest.approx(ratio)
    against = mean(few) - mean(run.last(SPARSE, "heldout"))
    assert run.value("loss_difference.against_sparse") == pytest.approx(against)


def test_arms_have_the_same_neurons_and_dense_training_the_flops_of_the_dense_model():
    total = {name: count(arm.arch).total for name, arm in ARMS.items()}
    router = TINY.layers * TINY.hidden * EXPERTS
    assert total[WITH] == total[WITHOUT] == total[SPARSE] == total[DENSE] + router
    flops = {name: step_flops(arm.arch, TINY.batch, TINY.seq) for name, arm in ARMS.items()}
    assert flops[WITH] - flops[DENSE] == 3 * 2 * TINY.tokens * router
    assert flops[SPARSE] < 0.6 * flops[WITH]


def test_fewer_experts_are_the_best_ones_with_the_weights_they_had():
    full = model(WITHOUT)
    x_TD = torch.randn(30, TINY.hidden, generator=torch.Generator().manual_seed(0))
    moe = full.feed_forwards[0]
    every = moe.router(x_TD)
    for k in (1, 3):
        fewer = dense_training.at_top_k(full, k, False).feed_forwards[0].router(x_TD)
        best = every.scores_TE.topk(k, dim=-1)
        assert torch.equal(fewer.expert_ids_N.view(30, k), best.indices)
        assert torch.equal(fewer.weights_N.view(30, k), best.values)
        shares = dense_training.at_top_k(full, k, True).feed_forwards[0].router(x_TD).weights_N.view(30, k)
        torch.testing.assert_close(shares.sum(-1), torch.ones(30))
    assert full.arch.experts.top_k == EXPERTS


def test_every_expert_and_the_router_get_a_gradient():
    """Even of four tokens: DS-MoE's dense gradients (arXiv 2404.05567)."""
    for name in (WITH, WITHOUT):
        decoder, log = model(name), RoutingLog()
        cross_entropy(decoder, next(corpus.windows(1, 4, 0)).ids_BS, log).backward()
        for ffn in decoder.feed_forwards:
            assert (ffn.down_EDF.grad.flatten(1).norm(dim=1) > 0).all()
            assert ffn.router.weight_ED.grad.norm() > 0


def test_the_loss_is_that_of_every_layer_with_its_coefficient():
    decoder, log = model(WITH), RoutingLog()
    decoder(next(corpus.windows(2, 16, 0)).ids_BS, observer=log)
    routings = [routing for _, routing in log.seen]
    assert len(routings) == TINY.layers
    by_hand = sum(balance.mutual_information_loss(routing).item() for routing in routings)
    assert dense_training.information(routings).item() == pytest.approx(dense_training.ALPHA * by_hand)


def test_training_is_deterministic_by_seed(run, tmp_path):
    assert published(dense_training, tmp_path, seeds=1).series == of_seed(run, 0)
