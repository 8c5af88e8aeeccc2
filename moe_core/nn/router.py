"""Routers: how tokens and experts find each other. One table, one signature, one result.

Legend: T tokens, D model, E experts, K top-k, N routed pairs, G groups, V vocabulary.
`router(x_TD, ids_T) -> Routing`; logits and scores are always computed in fp32. Selection reads
detached scores, so that gradients reach the router through the weights alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_core.nn.routing import Routing
from moe_core.specs import Experts

Score = Callable[[Tensor], Tensor]


class LinearRouter(nn.Module):
    """Base: one linear score per expert."""

    bias_E: nn.Parameter | None

    def __init__(self, experts: Experts, hidden: int, seed: int = 0) -> None:
        super().__init__()
        self.spec = experts
        self.weight_ED = nn.Parameter(torch.empty(experts.count, hidden).normal_(0.0, 0.02))
        self.bias_E = nn.Parameter(torch.zeros(experts.count)) if experts.router.bias else None

    def logits(self, x_TD: Tensor) -> Tensor:
        """[T, E] in fp32 whatever the model's dtype: rounding a logit can change the expert."""
        bias_E = None if self.bias_E is None else self.bias_E.float()
        with torch.autocast(x_TD.device.type, enabled=False):
            return F.linear(x_TD.float(), self.weight_ED.float(), bias_E)


def softmax(logits_TE: Tensor) -> Tensor:
    return logits_TE.softmax(-1)


def identity(logits_TE: Tensor) -> Tensor:
    return logits_TE


class Rule(NamedTuple):
    """What sets one token-choice router apart from another."""

    score: Score
    weigh: Callable[[TokenChoice, Tensor, Tensor, Tensor], Tensor]


class TokenChoice(LinearRouter):
    """Every token takes its K best experts."""

    def __init__(self, experts: Experts, hidden: int, seed: int = 0, *, rule: Rule) -> None:
        super().__init__(experts, hidden, seed)
        self.rule = rule

    def forward(self, x_TD: Tensor, ids_T: Tensor | None = None) -> Routing:
        logits_TE = self.logits(x_TD)
        scores_TE = self.rule.score(logits_TE)
        chosen_TK = scores_TE.detach().topk(self.spec.top_k, dim=-1).indices
        return from_choice(chosen_TK, self.rule.weigh(self, logits_TE, scores_TE, chosen_TK), scores_TE)


def from_choice(chosen_TK: Tensor, weights_TK: Tensor, scores_TE: Tensor) -> Routing:
    """The pairs of a token choice, token-major, best first."""
    tokens, top_k = chosen_TK.shape
    token_ids_N = torch.arange(tokens, device=chosen_TK.device).repeat_interleave(top_k)
    return Routing(token_ids_N, chosen_TK.flatten(), weights_TK.flatten(), scores_TE)


def weigh_softmax(router: TokenChoice, logits_TE: Tensor, scores_TE: Tensor, chosen_TK: Tensor) -> Tensor:
    spec = router.spec.router
    if spec.mask_first:
        return logits_TE.gather(-1, chosen_TK).softmax(-1) * spec.scaling
    weights_TK = scores_TE.gather(-1, chosen_TK)
    if spec.renormalise:
        weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
    return weights_TK * spec.scaling


def weigh_unit(router: TokenChoice, logits_TE: Tensor, scores_TE: Tensor, chosen_TK: Tensor) -> Tensor:
    return torch.ones_like(chosen_TK, dtype=scores_TE.dtype)


ROUTERS: dict[str, Callable[..., nn.Module]] = {
    "softmax": partial(TokenChoice, rule=Rule(softmax, weigh_softmax)),
    "unit": partial(TokenChoice, rule=Rule(identity, weigh_unit)),
}


def build(experts: Experts, hidden: int, seed: int = 0) -> nn.Module:
    """The router that `experts.router.kind` names; `seed` for what it draws itself (noise, hash table)."""
    return ROUTERS[experts.router.kind](experts, hidden, seed)
