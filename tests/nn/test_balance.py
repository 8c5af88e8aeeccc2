"""Balance: losses against their formulas, the bias rule against a skewed router, load statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moe_core.nn.balance import (
    BiasUpdate,
    load_statistics,
    mutual_information_loss,
    router_z_loss,
    sequence_loss,
    switch_loss,
)
from moe_core.nn.router import TokenChoice, build, from_choice
from moe_core.nn.routing import Routing
from moe_core.specs import Experts


def top_k(scores_TE: Tensor, k: int) -> Routing:
    chosen_TK = scores_TE.topk(k, dim=-1).indices
    return from_choice(chosen_TK, scores_TE.gather(-1, chosen_TK), scores_TE, scores_TE.log())


def random_probabilities(tokens: int, experts: int, seed: int) -> Tensor:
    return torch.randn(tokens, experts, generator=torch.Generator().manual_seed(seed)).softmax(-1)


def router_of(kind: str, count: int, k: int, hidden: int = 6, **fields: object) -> TokenChoice:
    spec = Experts.parse({"count": count, "top_k": k, "width": 4, "router": {"kind": kind, **fields}})
    router = build(spec, hidden)
    assert isinstance(router, TokenChoice)
    return router


def test_uniform_is_not_the_minimum_of_the_switch_loss() -> None:
    """Claim B35 is false: 100 tokens at (1, 0) and 900 at (0.49, 0.51) give 0.934 with a 10/90 load."""
    scores_TE = torch.tensor([[1.0, 0.0]] * 100 + [[0.49, 0.51]] * 900)
    routing = top_k(scores_TE, 1)
    assert routing.load_E().tolist() == [100, 900]
    assert switch_loss(routing).item() == pytest.approx(0.9344, abs=1e-5)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_switch_loss_is_one_at_uniform_for_any_k(k: int) -> None:
    chosen_TK = (torch.arange(8)[:, None] + torch.arange(k)) % 8
    uniform_TE = torch.full((8, 8), 1 / 8)
    assert switch_loss(from_choice(chosen_TK, torch.ones(8, k), uniform_TE)).item() == pytest.approx(1.0)


def test_switch_loss_is_the_number_of_experts_at_collapse() -> None:
    scores_TE = torch.zeros(10, 8).index_fill(1, torch.tensor([3]), 1.0)
    assert switch_loss(top_k(scores_TE, 1)).item() == pytest.approx(8.0)


@given(st.integers(1, 20), st.integers(1, 7), st.integers(1, 7), st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_switch_loss_equals_its_formula(tokens: int, experts: int, k: int, seed: int) -> None:
    k = min(k, experts)
    routing = top_k(random_probabilities(tokens, experts, seed), k)
    f = np.bincount(routing.expert_ids_N.numpy(), minlength=experts) / (tokens * k)
    p = routing.scores_TE.double().numpy().mean(0)
    assert switch_loss(routing).item() == pytest.approx(experts * float(f @ p), rel=1e-4)


def test_a_capacity_does_not_hide_imbalance_from_the_loss() -> None:
    free, x_TD = skewed("switch")
    capped = router_of("switch", 8, 1, hidden=16, capacity_factor=1.0)
    capped.load_state_dict(free.state_dict())
    loss = switch_loss(capped(x_TD))
    torch.testing.assert_close(loss, switch_loss(free(x_TD)))
    assert loss > 1.2 * switch_loss(capped(x_TD)._replace(demand_E=None))


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_sequence_loss_is_the_mean_over_sequences(sequences: int, length: int, seed: int) -> None:
    scores_TE = random_probabilities(sequences * length, 5, seed)
    parts = [switch_loss(top_k(part_TE, 2)) for part_TE in scores_TE.split(length)]
    torch.testing.assert_close(sequence_loss(top_k(scores_TE, 2), sequences), torch.stack(parts).mean())


def test_sequence_loss_sees_what_the_batch_hides() -> None:
    scores_TE = torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4)
    assert switch_loss(top_k(scores_TE, 1)).item() == pytest.approx(1.0)
    assert sequence_loss(top_k(scores_TE, 1), 2).item() == pytest.approx(2.0)


def test_sigmoid_scores_are_normalised_before_the_loss() -> None:
    routing = top_k(random_probabilities(12, 4, 0), 2)
    doubled = routing._replace(scores_TE=routing.scores_TE * 2)
    torch.testing.assert_close(switch_loss(doubled), switch_loss(routing))


def test_z_loss_equals_its_formula() -> None:
    logits_TE = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    routing = top_k(logits_TE.softmax(-1), 1)._replace(logits_TE=logits_TE)
    expected = np.square(np.log(np.exp(logits_TE.double().numpy()).sum(1))).mean()
    assert router_z_loss(routing).item() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("loss", [switch_loss, router_z_loss, lambda r: sequence_loss(r, 2)])
def test_losses_reach_the_router_and_vanish_without_tokens(loss) -> None:  # type: ignore[no-untyped-def]
    router = router_of("softmax", 4, 2)
    loss(router(torch.randn(10, 6, generator=torch.Generator().manual_seed(1)))).backward()
    assert router.weight_ED.grad is not None
    assert router.weight_ED.grad.abs().sum() > 0
    assert loss(router(torch.zeros(0, 6))).item() == 0.0


def test_descending_the_switch_loss_balances_a_skewed_router() -> None:
    router, x_TD = skewed("softmax")
    optimiser = torch.optim.SGD(router.parameters(), lr=1.0)
    before = load_statistics(router(x_TD).load_E())
    for _ in range(200):
        optimiser.zero_grad()
        switch_loss(router(x_TD)).backward()
        optimiser.step()
    assert load_statistics(router(x_TD).load_E()).cv < 0.6 * before.cv


def skewed(kind: str, **fields: object) -> tuple[TokenChoice, Tensor]:
    """A router whose first expert is everybody's favourite."""
    generator = torch.Generator().manual_seed(2)
    router = router_of(kind, 8, 1 if kind == "switch" else 2, hidden=16, **fields)
    x_TD = torch.cat((torch.randn(256, 15, generator=generator), torch.ones(256, 1)), dim=1)
    with torch.no_grad():
        router.weight_ED.normal_(0.0, 0.2, generator=generator)
        router.weight_ED[0, -1] += 3.0
    return router, x_TD


def test_bias_update_follows_the_sign_rule() -> None:
    router = router_of("sigmoid", 4, 1, selection_bias=True)
    BiasUpdate(gamma=0.5)(router, torch.tensor([5, 1, 3, 3]))
    assert router.selection_bias_E is not None
    assert router.selection_bias_E.tolist() == [-0.5, 0.5, 0.0, 0.0]


def test_bias_update_balances_a_skewed_router_and_leaves_its_weights() -> None:
    router, x_TD = skewed("sigmoid", selection_bias=True)
    weights_ED = router.weight_ED.detach().clone()
    before = load_statistics(router(x_TD).load_E())
    for _ in range(500):
        BiasUpdate(gamma=0.002)(router, router(x_TD).load_E())
    after = load_statistics(router(x_TD).load_E())
    assert before.max_over_mean > 3.0
    assert after.max_over_mean < 1.3
    torch.testing.assert_close(router.weight_ED.detach(), weights_ED, rtol=0, atol=0)


def test_load_statistics_of_a_known_load() -> None:
    s = load_statistics(torch.tensor([6, 2, 0, 0]))
    assert s.load_E.tolist() == [6, 2, 0, 0]
    assert s.cv == pytest.approx(math.sqrt(6.0) / 2.0)
    assert s.max_over_mean == pytest.approx(3.0)
    assert s.entropy == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert s.effective == pytest.approx(math.exp(s.entropy) / 4)
    assert s.dead == 0.5


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=64).filter(any))
def test_load_statistics_keep_their_bounds(load: list[int]) -> None:
    s, experts = load_statistics(torch.tensor(load)), len(load)
    array = np.array(load, dtype=float)
    assert s.cv == pytest.approx(array.std() / array.mean(), abs=1e-9)
    assert 1 - 1e-9 <= s.max_over_mean <= experts + 1e-9
    assert -1e-9 <= s.entropy <= math.log(experts) + 1e-9
    assert 1 / experts - 1e-9 <= s.effective <= 1 + 1e-9
    assert s.dead == load.count(0) / experts


def test_load_statistics_without_pairs_are_undefined_and_all_dead() -> None:
    s = load_statistics(torch.zeros(3, dtype=torch.int64))
    assert s.dead == 1.0
    assert all(math.isnan(v) for v in (s.cv, s.max_over_mean, s.entropy, s.effective))


# -- mutual information (DS-MoE) -------------------------------------------------------------------


def mutual_information_by_hand(p_TE: np.ndarray) -> float:
    """-H(e) + 1/|X| sum_x H(e|x), p(e) = 1/|X| sum_x p(e|x) (arXiv 2404.05567), term by term."""
    tokens, experts = p_TE.shape
    total = 0.0
    for token in range(tokens):
        total -= sum(p * math.log(p) for p in p_TE[token] if p > 0) / tokens
    for expert in range(experts):
        p = p_TE[:, expert].mean()
        total += p * math.log(p) if p > 0 else 0.0
    return total


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 9), st.integers(0, 999))
def test_mutual_information_by_hand(tokens: int, experts: int, seed: int) -> None:
    logits_TE = torch.randn(
        tokens, experts, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).requires_grad_()
    loss = mutual_information_loss(top_k((3 * logits_TE).softmax(-1), 1))
    by_hand = mutual_information_by_hand((3 * logits_TE).softmax(-1).detach().numpy())
    assert loss.item() == pytest.approx(by_hand, abs=1e-12)
    assert -math.log(experts) - 1e-12 <= loss.item() <= 1e-12


def test_the_gradient_of_mutual_information_is_that_of_finite_differences() -> None:
    logits_TE = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(logits_TE: Tensor) -> Tensor:
        return mutual_information_loss(top_k(logits_TE.softmax(-1), 2))

    assert torch.autograd.gradcheck(loss, logits_TE.requires_grad_())


def test_mutual_information_is_best_where_tokens_are_sure_and_experts_used_alike() -> None:
    sure = torch.eye(4, dtype=torch.float64)
    assert mutual_information_loss(top_k(sure, 1)).item() == pytest.approx(-math.log(4))
    assert mutual_information_loss(top_k(sure[[1, 1, 1]], 1)).item() == pytest.approx(0.0, abs=1e-12)
    undecided = torch.full((8, 4), 0.25, dtype=torch.float64)
    assert mutual_information_loss(top_k(undecided, 1)).item() == pytest.approx(0.0, abs=1e-12)
