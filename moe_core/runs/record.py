"""Record: every router decision of a pass, and how probable the router found each expert.

Where a router's scores are not probabilities (sigmoid, carved), an expert's share of the token's total
stands in for one (DeepSeek-V3, eq 19). A token without a score above zero has no probabilities: it counts in
the decisions and not in their mean.

Legend: L MoE layers, T tokens, E experts, K top-k, N = T * K pairs, M domains.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from moe_core.nn.observe import Null
from moe_core.nn.routing import Routing


class Decisions(NamedTuple):
    """What routers decided: compact, on the host."""

    layers_L: tuple[int, ...]
    expert_LTK: np.ndarray  # int16
    weight_LTK: np.ndarray  # float32
    share_LME: np.ndarray  # float64, mean router probability of the tokens that have one

    def columns(self) -> dict[str, Any]:
        """The table `decisions`, by layer, token, slot."""
        layers, tokens, top_k = self.expert_LTK.shape
        return {
            "layer": np.repeat(np.array(self.layers_L, dtype=np.int16), tokens * top_k),
            "token": np.tile(np.repeat(np.arange(tokens, dtype=np.int32), top_k), layers),
            "slot": np.tile(np.arange(top_k, dtype=np.int16), layers * tokens),
            "expert": self.expert_LTK.reshape(-1),
            "weight": self.weight_LTK.reshape(-1),
        }

    def probabilities(self, domains: tuple[str, ...]) -> dict[str, Any]:
        """The table `probabilities`."""
        layers, _, experts = self.share_LME.shape
        return {
            "layer": np.repeat(np.array(self.layers_L, dtype=np.int16), len(domains) * experts),
            "domain": np.tile(np.repeat(np.array(domains, dtype=object), experts), layers),
            "expert": np.tile(np.arange(experts, dtype=np.int16), layers * len(domains)),
            "probability": self.share_LME.reshape(-1),
        }


class Recorder(Null):
    """An observer that keeps references while a pass runs, and brings them to the host when it is over.

    The pass itself only appends to a list: nothing is computed, copied or waited for.
    domains_B: the domain of each sequence, as an index below `domains`.
    """

    def __init__(self, domains_B: list[int], domains: int, seq: int) -> None:
        self._domain_T = torch.tensor(domains_B).repeat_interleave(seq)
        self._domains = domains
        self._seen: list[tuple[int, Routing]] = []
        self._experts: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._layers: tuple[int, ...] = ()
        self._tokens = 0

    def routing(self, layer: int, routing: Routing) -> None:
        self._seen.append((layer, routing))

    def collect(self) -> None:
        """After a pass: its decisions to the host, its tensors let go. Passes follow in token order."""
        seen, self._seen = self._seen, []
        self._layers = tuple(layer for layer, _ in seen)
        tokens = seen[0][1].tokens
        here_T = self._domain_T[self._tokens : self._tokens + tokens]
        scores_TE = seen[0][1].scores_TE
        member_MT = torch.nn.functional.one_hot(here_T, self._domains).T.to(scores_TE.dtype)
        member_MT = member_MT.to(scores_TE.device)
        self._experts.append(_stack([_experts_TK(routing) for _, routing in seen]))
        self._weights.append(_stack([_weights_TK(routing) for _, routing in seen]))
        self._sums.append(_stack([member_MT @ routing.probabilities_TE() for _, routing in seen]))
        self._tokens += tokens

    def decisions(self) -> Decisions:
        """Everything collected."""
        sum_LME = np.sum(np.stack(self._sums).astype(np.float64), axis=0)
        # A token's probabilities sum to one, or to nothing where no score is above zero: then it has none,
        # and no part in the mean.
        tokens_LM1 = sum_LME.sum(-1, keepdims=True)
        share_LME = sum_LME / np.maximum(tokens_LM1, 1e-20)
        return Decisions(
            self._layers, np.concatenate(self._experts, 1), np.concatenate(self._weights, 1), share_LME
        )


def _experts_TK(routing: Routing) -> Tensor:
    assert routing.per_token is not None, "the bench runs token choice without drops"
    return routing.expert_ids_N.view(-1, routing.per_token).to(torch.int16)


def _weights_TK(routing: Routing) -> Tensor:
    assert routing.per_token is not None, "the bench runs token choice without drops"
    return routing.weights_N.view(-1, routing.per_token).float()


def _stack(parts: list[Tensor]) -> np.ndarray:
    """One copy to the host instead of one a layer."""
    stacked: np.ndarray = torch.stack(parts).cpu().numpy()
    return stacked
