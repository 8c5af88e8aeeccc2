"""Carve: turn a trained dense decoder into a mixture of any shape, without training.

The feed-forward neurons of a layer are grouped into equal experts, the most active ones become the
shared expert, and the router is the sum of its neurons' linear predictors. Grouping neurons is
MoEfication (arXiv 2110.01786); the always-active shared expert and the balanced assignment are CMoE's
(arXiv 2502.04416); splitting into equal parts is LLaMA-MoE's (arXiv 2406.16554). Ours is that
neurons are grouped by what the router can predict. What the experts of a token then lack of the dense layer's
output is made up for, as far as it goes, by fitting the down projections again (ridge regression).

Every routed weight is 1, so top-k = experts adds up all neurons again: the dense model, to rounding.
Legend: T tokens, D model, F ffn, W expert width, E experts, K top-k, X = D + 1, N neurons of all experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_core.errors import ConfigError
from moe_core.nn.calibration import LayerCalibration
from moe_core.nn.cluster import balanced
from moe_core.nn.layers import FFN, activate
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.nn.router import LinearRouter
from moe_core.specs import Architecture, Experts, Router

HELD = 0.3  # of the mean energy of a neuron: how firmly down projections are held to what they were


class Grouping(NamedTuple):
    """Which neurons go where. Equal widths are reached by padding with -1, a neuron that does nothing."""

    shared_V: Tensor  # V = shared * W
    routed_EW: Tensor


def architecture(dense: Architecture, experts: int, top_k: int, shared: int) -> Architecture:
    """What carving `dense` gives. Raises ConfigError when it has too few neurons."""
    width = -(-dense.ffn_width // (experts + shared))
    if experts + shared > dense.ffn_width:
        raise ConfigError(f"experts ({experts}): must leave every expert a neuron of {dense.ffn_width}")
    mixture = Experts(
        count=experts, top_k=top_k, width=width, shared=shared, router=Router(kind="unit", bias=True)
    )
    name = f"{dense.name}-{experts}x{top_k}+{shared}"
    return dense.model_copy(update={"name": name, "ffn_width": 0, "experts": mixture})


@torch.no_grad()
def carve(
    dense: Decoder,
    calibration: list[LayerCalibration],
    experts: int,
    top_k: int,
    shared: int,
    seed: int = 0,
    groups: Sequence[Grouping] | None = None,
) -> Decoder:
    """The mixture; attention, norms and embeddings are the dense model's own tensors, shared with it.

    groups: those of `grouped`, where they are known: they do not depend on top-k.
    """
    arch = architecture(dense.arch, experts, top_k, shared)
    mixture = sharing(dense, arch)
    assert arch.experts is not None
    found = groups or grouped(calibration, arch.experts, seed)
    for ffn, moe, layer, each in zip(
        dense.feed_forwards, mixture.feed_forwards, calibration, found, strict=True
    ):
        assert isinstance(ffn, FFN), "carving starts from a dense model"
        assert isinstance(moe, MoE)
        _fill_experts(moe, ffn, each)
        _fill_router(moe.router, layer, each.routed_EW)
        if top_k < experts:
            _fit_down(moe, layer.inputs_TD.float())
    return mixture


def grouped(calibration: list[LayerCalibration], experts: Experts, seed: int = 0) -> list[Grouping]:
    """Which neurons go where, of every layer."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # the assignment holds no interpreter lock
        return list(pool.map(partial(group, experts=experts, seed=seed), calibration))


def group(layer: LayerCalibration, experts: Experts, seed: int = 0) -> Grouping:
    """The neurons with the largest mean contribution are shared; the others are clustered."""
    by_activity_F = layer.mean_F.argsort(descending=True, stable=True)
    shared_V = by_activity_F[: experts.shared_total_width]
    rest = by_activity_F[experts.shared_total_width :].sort().values
    labels = balanced(layer.features_FX()[rest], experts.count, seed)
    routed_EW = torch.full((experts.count, experts.width), -1)
    for expert in range(experts.count):
        members = rest[labels == expert]
        routed_EW[expert, : len(members)] = members
    return Grouping(shared_V, routed_EW)


def _fill_experts(moe: MoE, ffn: FFN, groups: Grouping) -> None:
    parts = ffn.gate_up_GD.chunk(2 if ffn.gated else 1)  # gate and up, or up alone
    nowhere_EW = groups.routed_EW < 0
    picked_EW = groups.routed_EW.clamp_min(0)
    moe.gate_up_EGD = nn.Parameter(torch.cat([part_FD[picked_EW] for part_FD in parts], dim=1))
    down_EWD = ffn.down_DF.T[picked_EW].masked_fill(nowhere_EW[..., None], 0.0)
    moe.down_EDF = nn.Parameter(down_EWD.transpose(1, 2).contiguous())
    if moe.shared is not None:
        shared_V = groups.shared_V
        moe.shared.gate_up_GD = nn.Parameter(torch.cat([part_FD[shared_V] for part_FD in parts]))
        moe.shared.down_DF = nn.Parameter(ffn.down_DF[:, shared_V].contiguous())


def _fill_router(router: nn.Module, layer: LayerCalibration, routed_EW: Tensor) -> None:
    """The predicted contribution of an expert is the sum of its neurons' predictions."""
    assert isinstance(router, LinearRouter)
    padded_FX = torch.cat((layer.predictor_FX, torch.zeros(1, layer.predictor_FX.shape[1])))  # row -1
    predictor_EX = padded_FX[routed_EW].sum(1)
    router.weight_ED = nn.Parameter(predictor_EX[:, :-1].contiguous())
    router.bias_E = nn.Parameter(predictor_EX[:, -1].contiguous())


def _fit_down(moe: MoE, x_TD: Tensor) -> None:
    """Down projections that bring what this routing gives nearest to what all experts together would.

    Least squares of what is missing, over tokens of the calibration, held to the old weights by a ridge.
    """
    all_TN, visited_TN = _hidden(moe, x_TD)
    hidden_TN = all_TN * visited_TN
    routed_ND = moe.down_EDF.transpose(1, 2).flatten(0, 1)
    shared = [] if moe.shared is None else [moe.shared.down_DF.T]
    missing_TD = (all_TN - hidden_TN) @ torch.cat([routed_ND, *shared])
    gram_NN = hidden_TN.T @ hidden_TN
    gram_NN.diagonal().add_(HELD * gram_NN.diagonal().mean())
    change_ND = torch.cholesky_solve(hidden_TN.T @ missing_TD, torch.linalg.cholesky(gram_NN))
    routed = len(routed_ND)
    moe.down_EDF.add_(change_ND[:routed].view(len(moe.down_EDF), -1, x_TD.shape[1]).transpose(1, 2))
    if moe.shared is not None:
        moe.shared.down_DF.add_(change_ND[routed:].T)


def _hidden(moe: MoE, x_TD: Tensor) -> tuple[Tensor, Tensor]:
    """What every neuron of every expert would fire with, and 1 where the token visits its expert, else 0."""
    routing = moe.router(x_TD)
    visited_TE = x_TD.new_zeros(len(x_TD), moe.spec.count)
    visited_TE[routing.token_ids_N, routing.expert_ids_N] = 1.0
    both_TEG = F.linear(x_TD, moe.gate_up_EGD.flatten(0, 1)).view(len(x_TD), moe.spec.count, -1)
    all_TN = activate(both_TEG, moe.gated).flatten(1)
    visited_TN = visited_TE.repeat_interleave(moe.spec.width, dim=1)
    if moe.shared is None:
        return all_TN, visited_TN
    shared_TV = moe.shared.hidden_activations(x_TD)
    return torch.cat([all_TN, shared_TV], dim=1), torch.cat([visited_TN, torch.ones_like(shared_TV)], dim=1)


def sharing(model: Decoder, arch: Architecture) -> Decoder:
    """A decoder of `arch` that uses `model`'s own tensors wherever the names and shapes agree."""
    with torch.device("meta"):
        twin = Decoder(arch)
    tensors = model.state_dict()
    matching = {
        name: tensors[name]
        for name, value in twin.state_dict().items()
        if name in tensors and tensors[name].shape == value.shape
    }
    twin.load_state_dict(matching, strict=False, assign=True)
    twin.rotary = model.rotary
    return twin.eval()
