"""Causal: what expert choice is worth when nothing of a token's future may be known.

An expert that takes its best C tokens of a batch decides about a token by reading those after it. Generation
cannot. Here each expert takes a token when its score reaches a threshold instead: the score that let the even
share through on text that was read before (the same idea as arXiv 2603.11535). Legend: T tokens, E experts,
K top-k, N routed pairs, B sequences, S tokens of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from moe_core.labs.training.corpus import TextWindow, bits_per_byte
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.nn.observe import RoutingLog
from moe_core.nn.router import ExpertChoice
from moe_core.nn.routing import Routing


class ThresholdRouter(nn.Module):
    """The router of expert choice, but an expert takes the tokens whose score reaches its threshold."""

    threshold_E: Tensor

    def __init__(self, router: ExpertChoice, threshold_E: Tensor) -> None:
        super().__init__()
        self.router = router
        self.register_buffer("threshold_E", threshold_E)

    def forward(self, x_TD: Tensor, ids_T: Tensor | None = None) -> Routing:
        logits_TE = self.router.logits(x_TD)
        scores_TE = logits_TE.softmax(-1)
        expert_ids_N, token_ids_N = (scores_TE >= self.threshold_E).t().nonzero().unbind(1)
        return Routing(token_ids_N, expert_ids_N, scores_TE[token_ids_N, expert_ids_N], scores_TE, logits_TE)


@contextmanager
def causal(model: Decoder, read: TextWindow) -> Iterator[Decoder]:
    """`model` with thresholds in place of expert choice, from what its experts took of the text `read`."""
    layers = [ffn for ffn in model.feed_forwards if isinstance(ffn, MoE)]
    routers = [layer.router for layer in layers]
    log = RoutingLog()
    bits_per_byte(model, read, log)
    passes = [routing for _, routing in log.seen]
    for number, layer in enumerate(layers):
        router = layer.router
        assert isinstance(router, ExpertChoice), "thresholds are for expert choice"
        scores_TE = torch.cat([routing.scores_TE for routing in passes[number :: len(layers)]])
        share = layer.spec.top_k / layer.spec.count
        layer.router = ThresholdRouter(router, scores_TE.quantile(1 - share, dim=0))
    try:
        yield model
    finally:
        for layer, router in zip(layers, routers, strict=True):
            layer.router = router


@torch.no_grad()
def leak(model: Decoder, window: TextWindow) -> float:
    """Share of tokens whose experts change in the first mixture layer when only text after them is changed.

    The second halves of the sequences change places; the tokens of the first halves are looked at. 0 for
    every router that generation can repeat.
    """
    ids_BS = window.ids_BS[:, :-1]
    half = ids_BS.shape[1] // 2
    other_BS = torch.cat([ids_BS[:, :half], ids_BS[:, half:].roll(1, dims=0)], dim=1)
    before, after = (_taken(model, ids)[:, :half] for ids in (ids_BS, other_BS))
    return float((before != after).any(-1).double().mean())


def _taken(model: Decoder, ids_BS: Tensor) -> Tensor:
    """[B, S, E]: which experts took which token in the first mixture layer."""
    log = RoutingLog()
    model(ids_BS, observer=log)
    routing = log.seen[0][1]
    taken_TE = torch.zeros(routing.tokens, routing.experts, dtype=torch.bool)
    taken_TE[routing.token_ids_N, routing.expert_ids_N] = True
    return taken_TE.view(*ids_BS.shape, routing.experts)
