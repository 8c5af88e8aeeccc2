"""Dispatcher: what goes out comes back, in both ways of adding up."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moe_core.nn.dispatcher import combine, dispatch, plan, to_pair_order
from moe_core.nn.routing import Routing

sizes = st.tuples(st.integers(0, 12), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))


def token_choice(tokens: int, experts: int, top_k: int, seed: int) -> tuple[Routing, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores_TE = torch.rand(tokens, experts, generator=generator)
    weights_TK, chosen_TK = scores_TE.topk(min(top_k, experts), dim=-1)
    token_ids_N = torch.arange(tokens).repeat_interleave(chosen_TK.shape[1])
    routing = Routing(
        token_ids_N, chosen_TK.flatten(), weights_TK.flatten(), scores_TE, per_token=chosen_TK.shape[1]
    )
    return routing, torch.randn(tokens, 3, generator=generator)


@given(sizes)
@settings(deadline=None, max_examples=60)
def test_rows_stand_in_expert_order_and_ends_bound_them(size: tuple[int, int, int, int]) -> None:
    routing, x_TD = token_choice(*size)
    order = plan(routing)
    experts_N = routing.expert_ids_N[order.order_N]
    assert experts_N.tolist() == sorted(routing.expert_ids_N.tolist())
    assert order.ends_E.dtype == torch.int32
    assert order.ends_E.tolist() == routing.load_E().cumsum(0).tolist()
    rows_ND = dispatch(x_TD, order)
    torch.testing.assert_close(rows_ND, x_TD[routing.token_ids_N[order.order_N]])
    torch.testing.assert_close(to_pair_order(rows_ND, order), x_TD[routing.token_ids_N])


@given(sizes, st.booleans())
@settings(deadline=None, max_examples=60)
def test_both_ways_of_combining_agree_with_a_plain_sum(
    size: tuple[int, int, int, int], weighted: bool
) -> None:
    routing, x_TD = token_choice(*size)
    order = plan(routing)
    rows_ND = dispatch(x_TD, order) * (1 + routing.expert_ids_N[order.order_N, None])
    expected_TD = torch.zeros_like(x_TD)
    for token, expert, weight in zip(*(a.tolist() for a in routing[:3]), strict=True):
        expected_TD[token] += x_TD[token] * (1 + expert) * (weight if weighted else 1.0)
    for r in (routing, routing._replace(per_token=None)):
        torch.testing.assert_close(combine(rows_ND, order, r, weighted), expected_TD)


def test_both_ways_of_combining_have_the_same_gradients() -> None:
    routing, x_TD = token_choice(9, 5, 3, seed=1)
    order = plan(routing)
    gradients = []
    for per_token in (3, None):
        rows_ND = dispatch(x_TD, order).requires_grad_()
        weights_N = routing.weights_N.clone().requires_grad_()
        y_TD = combine(rows_ND, order, routing._replace(weights_N=weights_N, per_token=per_token))
        gradients.append(torch.autograd.grad(y_TD.square().sum(), (rows_ND, weights_N)))
    for fast, general in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, general)


@pytest.mark.parametrize("per_token", [3, None])
def test_bf16_rows_are_added_in_fp32_and_keep_their_dtype(per_token: int | None) -> None:
    routing = Routing(torch.zeros(3, dtype=torch.int64), torch.arange(3), torch.ones(3), torch.ones(1, 3))
    rows_ND = torch.tensor([[256.0], [1.0], [1.0]], dtype=torch.bfloat16)  # in bf16, 256 + 1 is 256
    y_TD = combine(rows_ND, plan(routing), routing._replace(per_token=per_token))
    assert y_TD.dtype == torch.bfloat16
    assert y_TD.item() == 258.0
