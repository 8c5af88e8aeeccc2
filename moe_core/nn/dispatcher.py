"""Dispatcher: brings tokens to experts and results back. What expert parallelism will replace.

Legend: T tokens, D model, E experts, K top-k, N routed pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from moe_core.nn.numerics import take, wide, wide_dtype
from moe_core.nn.routing import Routing


class DispatchPlan(NamedTuple):
    """Pairs in expert order.

    order_N      int64, the pair that stands at each sorted place; within an expert, in pair order.
    token_ids_N  int64, its token.
    ends_E       int32, one past the last sorted place of each expert (`offs` of `F.grouped_mm`).
    """

    order_N: Tensor
    token_ids_N: Tensor
    ends_E: Tensor


def plan(routing: Routing) -> DispatchPlan:
    """Sorts the pairs by expert. Nothing here waits for the device."""
    sorted_N, order_N = torch.sort(routing.expert_ids_N, stable=True)
    experts_E = torch.arange(routing.experts, device=sorted_N.device)
    ends_E = torch.searchsorted(sorted_N, experts_E, right=True, out_int32=True)
    return DispatchPlan(order_N, routing.token_ids_N[order_N], ends_E)


def load_of(plan: DispatchPlan) -> list[int]:
    """Pairs of each expert, on the host. Waits for the device, once."""
    load: list[int] = torch.diff(plan.ends_E, prepend=plan.ends_E.new_zeros(1)).tolist()
    return load


def dispatch(x_TD: Tensor, plan: DispatchPlan) -> Tensor:
    """[N, D]: the token of every pair, in expert order."""
    return take(x_TD, plan.token_ids_N)


def combine(rows_ND: Tensor, plan: DispatchPlan, routing: Routing, weighted: bool = True) -> Tensor:
    """[T, D] in the dtype of the rows: per token the sum of its rows, times their weights if `weighted`.

    `rows_ND` are in expert order. Sums are at least fp32, in pair order for plain token choice; with drops
    or expert choice CUDA adds them in an order of its own, so the last bit may differ between runs.
    """
    dtype = wide_dtype(rows_ND.dtype)
    weights_N = (routing.weights_N if weighted else torch.ones_like(routing.weights_N)).to(dtype)
    if routing.per_token is None:
        y_TD = rows_ND.new_zeros(routing.tokens, rows_ND.shape[1], dtype=dtype)
        scaled_ND = wide(rows_ND) * weights_N[plan.order_N, None]
        return y_TD.index_add(0, plan.token_ids_N, scaled_ND).to(rows_ND.dtype)
    rows_TKD = to_pair_order(rows_ND, plan).view(routing.tokens, routing.per_token, rows_ND.shape[1])
    weights_T1K = weights_N.view(routing.tokens, 1, routing.per_token)
    return torch.bmm(weights_T1K, wide(rows_TKD)).squeeze(1).to(rows_ND.dtype)


def to_pair_order(rows_ND: Tensor, plan: DispatchPlan) -> Tensor:
    """[N, D] from expert order back to the order of the routing's pairs."""
    places_N = torch.arange(plan.order_N.numel(), device=rows_ND.device)
    return rows_ND.index_select(0, torch.empty_like(plan.order_N).scatter_(0, plan.order_N, places_N))
