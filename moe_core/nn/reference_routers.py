"""Reference routers: the worst and the best a router could do, to judge the real one between them.

Legend: T tokens, D model, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_core.nn.carve import sharing
from moe_core.nn.layers import activate
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.nn.numerics import wide
from moe_core.nn.router import from_choice
from moe_core.nn.routing import Routing


class RandomRouter(nn.Module):
    """Experts drawn at random, the same ones in every pass."""

    def __init__(self, experts: int, top_k: int, seed: int) -> None:
        super().__init__()
        self.experts, self.top_k, self.seed = experts, top_k, seed

    def forward(self, x_TD: Tensor, ids_T: Tensor | None = None) -> Routing:
        generator = torch.Generator().manual_seed(self.seed)
        scores_TE = torch.rand(len(x_TD), self.experts, generator=generator).to(x_TD.device)
        return _unit_choice(scores_TE, self.top_k)


class OracleRouter(nn.Module):
    """Reads the true contribution of every expert, ||expert(x)||, by running them all."""

    def __init__(self, moe: MoE, top_k: int) -> None:
        super().__init__()
        self.moe = [moe]  # in a list, so that its weights are not registered a second time
        self.top_k = top_k

    def forward(self, x_TD: Tensor, ids_T: Tensor | None = None) -> Routing:
        weights = self.moe[0].weights
        norms = [
            torch.linalg.vector_norm(
                wide(F.linear(activate(F.linear(x_TD, gate_up_GD), weights.gated), down_DF)), dim=-1
            )
            for gate_up_GD, down_DF in zip(weights.gate_up_EGD, weights.down_EDF, strict=True)
        ]
        return _unit_choice(torch.stack(norms, dim=1), self.top_k)


def _unit_choice(scores_TE: Tensor, top_k: int) -> Routing:
    chosen_TK = scores_TE.topk(top_k, dim=-1).indices
    return from_choice(chosen_TK, torch.ones_like(chosen_TK, dtype=scores_TE.dtype), scores_TE)


def with_random_router(model: Decoder, seed: int = 0) -> Decoder:
    """`model`'s experts behind random routers."""
    return _rerouted(model, lambda moe, layer: RandomRouter(moe.spec.count, moe.spec.top_k, seed + layer))


def with_oracle_router(model: Decoder) -> Decoder:
    """`model`'s experts behind routers that know every expert's true contribution. For carved models."""
    return _rerouted(model, lambda moe, _: OracleRouter(moe, moe.spec.top_k))


def with_top_k(model: Decoder, top_k: int) -> Decoder:
    """The same weights with another top-k."""
    assert model.arch.experts is not None
    experts = model.arch.experts.model_copy(update={"top_k": top_k})
    return sharing(model, model.arch.model_copy(update={"experts": experts}))


def _rerouted(model: Decoder, build: Callable[[MoE, int], nn.Module]) -> Decoder:
    twin = sharing(model, model.arch)
    for layer, ffn in enumerate(twin.feed_forwards):
        if isinstance(ffn, MoE):
            ffn.router = build(ffn, layer)
    return twin
