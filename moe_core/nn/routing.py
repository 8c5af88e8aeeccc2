"""Routing: the one noun that routers, kernels, the store and the charts share.

Legend: T tokens, D model, F ffn, E experts, K top-k, N routed pairs.
Every router (token choice, expert choice, Switch with capacity, hash) returns the same
coordinate list of routed pairs. A pair is one row of the `decisions` table.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Routing(NamedTuple):
    """Routed pairs in coordinate form.

    token_ids_N   int64, which token; for token choice the pairs are token-major, best first.
    expert_ids_N  int64, which expert.
    weights_N     float, what the expert's output is multiplied by (Llama-4: its input).
    scores_TE     at least float32, the router's score of every expert (a probability for softmax routers).
    logits_TE     at least float32, what scores were made from; None where there is no linear router (hash).
    demand_E      int64, pairs each expert was asked for before a capacity; None when none was set.
    per_token     K when the pairs are token-major with exactly K for every token, else None.
    """

    token_ids_N: Tensor
    expert_ids_N: Tensor
    weights_N: Tensor
    scores_TE: Tensor
    logits_TE: Tensor | None = None
    demand_E: Tensor | None = None
    per_token: int | None = None

    @property
    def tokens(self) -> int:
        return self.scores_TE.shape[0]

    @property
    def experts(self) -> int:
        return self.scores_TE.shape[1]

    def load_E(self) -> Tensor:
        """Pairs each expert received, int64."""
        return counts(self.expert_ids_N, self.experts)

    def wanted_E(self) -> Tensor:
        """Pairs each expert would have received without a capacity, int64."""
        return self.load_E() if self.demand_E is None else self.demand_E

    def dropped_pairs(self) -> int:
        """Pairs that a capacity threw away. Waits for the device."""
        return 0 if self.demand_E is None else int(self.demand_E.sum()) - self.token_ids_N.numel()

    def slots_N(self) -> Tensor:
        """Rank of each pair among the pairs of its token, 0 first, in the order given."""
        return rank_within(self.token_ids_N, self.tokens)

    def dropped_T(self) -> Tensor:
        """True for tokens that reached no routed expert (capacity drops, expert choice)."""
        return counts(self.token_ids_N, self.tokens) == 0

    def probabilities_TE(self) -> Tensor:
        """Scores as shares of each token's total, rows summing to 1 (DeepSeek-V3, eq 19).

        Softmax scores are shares already. Scores below zero (carved models) count as none; a token without
        a score above zero has no probabilities, its row is zero.
        """
        positive_TE = self.scores_TE.clamp_min(0.0)
        return positive_TE / positive_TE.sum(-1, keepdim=True).clamp_min(1e-20)


def counts(ids_N: Tensor, bins: int) -> Tensor:
    """How often each of 0 .. bins - 1 occurs, int64. Unlike `bincount`, never waits for the device."""
    return torch.zeros(bins, dtype=torch.int64, device=ids_N.device).scatter_add_(
        0, ids_N, torch.ones_like(ids_N)
    )


def rank_within(ids_N: Tensor, bins: int) -> Tensor:
    """Rank of each entry among the entries with its id, 0 first, in the order given."""
    order_N = torch.argsort(ids_N, stable=True)
    per_bin = counts(ids_N, bins)
    first = torch.cumsum(per_bin, 0) - per_bin
    positions_N = torch.arange(order_N.numel(), device=order_N.device)
    return torch.empty_like(order_N).scatter_(0, order_N, positions_N - first[ids_N[order_N]])
