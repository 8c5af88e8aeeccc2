"""Selection: which experts a token may take, and how many tokens an expert may take.

Legend: T tokens, E experts, K top-k, N routed pairs, G groups, S experts of a group.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from moe_core.nn.routing import Routing, rank_within
from moe_core.specs import Experts


def top_experts(ranked_TE: Tensor, experts: Experts, group_best: int) -> Tensor:
    """[T, K]: each token's best experts, best first, within its best groups where there are groups."""
    router = experts.router
    if router.groups > 1:
        ranked_TE = keep_groups(ranked_TE, router.groups, router.top_groups, group_best)
    return ranked_TE.topk(experts.top_k, dim=-1).indices


def keep_groups(ranked_TE: Tensor, groups: int, top_groups: int, group_best: int) -> Tensor:
    """Scores with -inf outside each token's `top_groups` best groups of consecutive experts.

    A group is worth the sum of its `group_best` best scores: 2 in DeepSeek-V3 (arXiv 2412.19437,
    section 2.1.2), 1 in DeepSeek-V2 (arXiv 2405.04434, section 2.1.2).
    """
    tokens, experts = ranked_TE.shape
    ranked_TGS = ranked_TE.view(tokens, groups, experts // groups)
    worth_TG = ranked_TGS.topk(min(group_best, experts // groups), dim=-1).values.sum(-1)
    kept_TG = torch.zeros_like(worth_TG, dtype=torch.bool)
    kept_TG.scatter_(1, worth_TG.topk(top_groups, dim=-1).indices, True)
    return ranked_TGS.masked_fill(~kept_TG[:, :, None], -math.inf).view(tokens, experts)


def capacity(tokens: int, experts: Experts) -> int:
    """Pairs one expert may take: ceil(T * K / E * factor), at most T (Fedus et al. 2021, eq 3).

    Without a factor it is 1: every expert takes its even share (expert choice).
    """
    even = tokens * experts.top_k / experts.count
    ample = even * (experts.router.capacity_factor or 1.0)
    return min(tokens, math.ceil(ample - 1e-9))  # 1.1 * 10 is 11, not 12


def drop_over(routing: Routing, limit: int) -> Routing:
    """Keeps the first `limit` pairs of each expert, in token order.

    Waits for the device once, to know how many stay. The weights that stay are not renormalised: what
    a dropped pair would have added is lost.
    """
    kept_N = (rank_within(routing.expert_ids_N, routing.experts) < limit).nonzero().squeeze(1)
    return routing._replace(
        token_ids_N=routing.token_ids_N[kept_N],
        expert_ids_N=routing.expert_ids_N[kept_N],
        weights_N=routing.weights_N[kept_N],
        demand_E=routing.load_E(),
        per_token=None,
    )
