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
    weights_N     float, what the expert's output is multiplied by.
    scores_TE     float32, the router's score of every expert (a probability for softmax routers).
    """

    token_ids_N: Tensor
    expert_ids_N: Tensor
    weights_N: Tensor
    scores_TE: Tensor

    @property
    def tokens(self) -> int:
        return self.scores_TE.shape[0]

    @property
    def experts(self) -> int:
        return self.scores_TE.shape[1]

    def load_E(self) -> Tensor:
        """Pairs each expert received, int64."""
        return torch.bincount(self.expert_ids_N, minlength=self.experts)

    def slots_N(self) -> Tensor:
        """Rank of each pair among the pairs of its token, 0 first, in the order given."""
        order_N = torch.argsort(self.token_ids_N, stable=True)
        per_token_T = torch.bincount(self.token_ids_N, minlength=self.tokens)
        first_T = torch.cumsum(per_token_T, 0) - per_token_T
        slots_N = torch.empty_like(order_N)
        positions_N = torch.arange(order_N.numel(), device=order_N.device)
        slots_N[order_N] = positions_N - first_T[self.token_ids_N[order_N]]
        return slots_N

    def dropped_T(self) -> Tensor:
        """True for tokens that reached no routed expert (capacity drops, expert choice)."""
        return torch.bincount(self.token_ids_N, minlength=self.tokens) == 0
