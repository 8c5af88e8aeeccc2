"""Balance: losses and rules that keep experts evenly used, and the measures of how even they are.

Legend: T tokens, E experts, K top-k, N routed pairs, Q sequences. Losses are scalars without their
coefficient, differentiable through the scores; counts carry no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from moe_core.nn.router import LinearRouter
from moe_core.nn.routing import Routing, counts


def switch_loss(routing: Routing) -> Tensor:
    """E * sum_i f_i P_i (Fedus et al. 2021, arXiv 2101.03961, eq 4-6), f_i being shares of the T*K pairs.

    Dividing f by K (as DeepSeek does, Hugging Face does not) makes it 1 at uniform routing for any
    K. f counts pairs before a capacity drops any. Uniform is a stationary point, not the minimum.
    """
    wanted_E = routing.wanted_E().to(routing.scores_TE.dtype)
    share_E = wanted_E / wanted_E.sum().clamp_min(1.0)
    mean_E = routing.probabilities_TE().sum(0) / max(routing.tokens, 1)
    return routing.experts * (share_E * mean_E).sum()


def sequence_loss(routing: Routing, sequences: int) -> Tensor:
    """The same product within each sequence, then their mean (DeepSeek-V3, arXiv 2412.19437, eq 17-20).

    The T tokens are `sequences` (Q) equally long sequences one after the other. Pairs that a
    capacity dropped are not seen: V3 drops none.
    """
    length = routing.tokens // max(sequences, 1)
    assert length * sequences == routing.tokens, "sequences must be equally long"
    cell_N = routing.token_ids_N // max(length, 1) * routing.experts + routing.expert_ids_N
    load_QE = counts(cell_N, sequences * routing.experts).view(sequences, routing.experts)
    share_QE = load_QE.to(routing.scores_TE.dtype) / load_QE.sum(-1, keepdim=True).clamp_min(1)
    summed_QE = routing.probabilities_TE().view(sequences, length, routing.experts).sum(1)
    products_Q = routing.experts * (share_QE * summed_QE / max(length, 1)).sum(-1)
    return products_Q.sum() / max(sequences, 1)


def router_z_loss(routing: Routing) -> Tensor:
    """Mean square of the log-sum-exp of the logits (ST-MoE, arXiv 2202.08906, eq 5): keeps them small."""
    assert routing.logits_TE is not None, "a hash router has no logits to keep small"
    return routing.logits_TE.logsumexp(-1).square().sum() / max(routing.tokens, 1)


def mutual_information_loss(routing: Routing) -> Tensor:
    """-H(e) + mean over tokens of H(e|x), in nats (DS-MoE, arXiv 2404.05567): minus what a token tells of e.

    From 0 down to -ln E, where every token is sure of one expert and all experts are used alike.
    """
    share_TE = routing.probabilities_TE()
    mean_E = share_TE.sum(0) / max(routing.tokens, 1)
    sure = torch.special.entr(share_TE).sum() / max(routing.tokens, 1)
    return sure - torch.special.entr(mean_E).sum()


@dataclass(frozen=True)
class BiasUpdate:
    """Balancing without a loss: b_i += gamma * sign(mean load - load_i) (arXiv 2408.15664, algorithm 1).

    gamma 0.001 is DeepSeek-V3's. Call it once per optimiser step with the load of the whole batch,
    summed over its parts. The bias is fp32 in every model: steps this small vanish in bf16.
    """

    gamma: float = 1e-3

    @torch.no_grad()
    def __call__(self, router: LinearRouter, load_E: Tensor) -> None:
        assert router.selection_bias_E is not None, "the router was built without selection_bias"
        violation_E = load_E.float().mean() - load_E.float()
        router.selection_bias_E += self.gamma * violation_E.sign()


class LoadStatistics(NamedTuple):
    """How evenly E experts are used. All but `load_E` and `dead` are nan when there are no pairs.

    load_E         int64, pairs per expert.
    cv             population standard deviation / mean (Shazeer et al. 2017 square it, eq 7).
    max_over_mean  load of the busiest expert in units of the even share, 1 to E.
    entropy        of the shares, in nats, 0 to ln E.
    effective      exp(entropy) / E: the share of experts that is effectively used.
    dead           share of experts that received nothing.
    """

    load_E: Tensor
    cv: float
    max_over_mean: float
    entropy: float
    effective: float
    dead: float


def load_statistics(load_E: Tensor) -> LoadStatistics:
    """Statistics of a load, which may be the sum over many passes. Waits for the device, once.

    Computed on the host: Apple devices have no float64.
    """
    host_E = load_E.cpu()
    share_E = host_E.double() / host_E.sum()
    relative_E = share_E * host_E.numel()
    entropy = torch.special.entr(share_E).sum()
    return LoadStatistics(
        load_E=load_E,
        cv=relative_E.std(correction=0).item(),
        max_over_mean=relative_E.max().item(),
        entropy=entropy.item(),
        effective=entropy.exp().item() / host_E.numel(),
        dead=(host_E == 0).double().mean().item(),
    )
