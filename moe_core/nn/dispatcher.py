"""Dispatcher: brings tokens to experts and results back. What expert parallelism will replace.

Legend: T tokens, D model, E experts, N routed pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from moe_core.nn.routing import Routing


class Plan(NamedTuple):
    """Pairs in expert order.

    order_N      int64, the pair that stands at each sorted place; within an expert, in pair order.
    token_ids_N  int64, its token.
    ends_E       int32, one past the last sorted place of each expert (`offs` of `F.grouped_mm`).
    """

    order_N: Tensor
    token_ids_N: Tensor
    ends_E: Tensor


def plan(routing: Routing) -> Plan:
    """Sorts the pairs by expert. Nothing here waits for the device."""
    order_N = torch.argsort(routing.expert_ids_N, stable=True)
    ends_E = torch.cumsum(routing.load_E(), 0).to(torch.int32)
    return Plan(order_N, routing.token_ids_N[order_N], ends_E)


def dispatch(x_TD: Tensor, plan: Plan) -> Tensor:
    """[N, D]: the token of every pair, in expert order."""
    return x_TD.index_select(0, plan.token_ids_N)


def combine(rows_ND: Tensor, weights_N: Tensor | None, plan: Plan, tokens: int) -> Tensor:
    """[T, D] in the dtype of the rows: per token, the sum of its rows times their weights, in fp32.

    `rows_ND` are in expert order, `weights_N` in pair order (None: every weight is 1).
    """
    scaled_ND = rows_ND.float()
    if weights_N is not None:
        scaled_ND = scaled_ND * weights_N[plan.order_N, None]
    y_TD = scaled_ND.new_zeros(tokens, rows_ND.shape[1])
    return y_TD.index_add(0, plan.token_ids_N, scaled_ND).to(rows_ND.dtype)
