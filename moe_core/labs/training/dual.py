"""Dual: balancing as an assignment problem, whose prices are what a selection bias is minus of.

Tokens are to be given K experts each so that the scores add up to the most while no expert has more than its
even share of pairs (Su 2026, kexue.fm 11619):
    max sum_te x_te s_te,   sum_e x_te = K for every token,   sum_t x_te = T K / E for every expert.
With a bias b_e (minus the price of the expert) the first constraint is met by taking each token's K best of s
+ b, and g(b) = (T K / E) sum_e b_e - sum_t (sum of the K largest of s_t + b) is a lower bound on minus that
sum, concave in b, with the gradient T K / E - load_e. Going uphill by the sign of it is the rule of DeepSeek,
by the gradient itself the proportional one (arXiv 2512.03915 treats both); the quantile rule takes the best b
at once while the tokens' own thresholds stay as they were.
It ignores that scores move while a model trains: on fixed scores this is exact, in training it is one step
late.
Legend: T tokens, E experts, K top-k.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from moe_core.nn.router import from_choice
from moe_core.nn.routing import Routing


class Assignment(NamedTuple):
    """What a bias does to fixed scores. `value`: g(b) / T; `moved`: share of pairs above the even share."""

    routing: Routing
    value: float
    moved: float


def assign(scores_TE: Tensor, bias_E: Tensor, top_k: int) -> Assignment:
    """Each token's K best of score + bias, and the dual value of that bias."""
    tokens, experts = scores_TE.shape
    best = (scores_TE + bias_E).topk(top_k, dim=-1)
    routing = from_choice(best.indices, scores_TE.gather(-1, best.indices), scores_TE)
    value = top_k / experts * bias_E.sum() - best.values.sum() / tokens
    return Assignment(routing, float(value), moved(routing.load_E()))


def moved(load_E: Tensor) -> float:
    """The share of pairs that an even load would have elsewhere: 0 when even, 1 - 1/E when all go to one."""
    share_E = load_E.double() / load_E.sum().clamp_min(1)
    return float((share_E - 1 / len(load_E)).clamp_min(0).sum())


def quantile_step(scores_TE: Tensor, bias_E: Tensor, top_k: int) -> Tensor:
    """The new bias: minus the price at which each expert would be asked for its even share (Su 2026).

    A token's threshold is its (K + 1)-th largest of score + bias; an expert's price is the (T K / E + 1)-th
    largest of its scores above the tokens' thresholds (kexue.fm 11619, 11626; `qb_dual_update` of Megatron
    is the same update). One exact step of coordinate descent on the dual. A bias is left alone where nothing
    is chosen (K = E).
    """
    tokens, experts = scores_TE.shape
    if top_k >= experts:
        return bias_E
    threshold_T1 = (scores_TE + bias_E).topk(top_k + 1, dim=-1).values[:, -1:]
    even = tokens * top_k // experts
    return -(scores_TE - threshold_T1).topk(even + 1, dim=0).values[-1]
