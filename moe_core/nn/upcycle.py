"""Upcycle: make a mixture out of a dense decoder, to train it further. Carving (`carve`) never trains on.

Copying the feed-forward network into every expert is sparse upcycling (Komatsuzaki et al. 2022, arXiv
2212.05055): exact while a token's weights add up to 1. Virtual groups and weight scaling are He et al.'s
(arXiv 2410.07524, sections 2.3 and 2.4): fine experts that start as shards of copies, a router that starts
with one row a copy, so that its top-k takes whole copies. Drawing a part of every expert anew is
Drop-Upcycling (arXiv 2502.19261, section 3). Shards alone are the naive reading of "split the FFN".

Nothing is shared with the dense model: both may be trained. Legend: T tokens, D model, F ffn, W width of an
expert, E experts, K top-k, C copies, P shards (pieces) of a copy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from moe_core.errors import ConfigError
from moe_core.nn.initial import generator
from moe_core.nn.layers import FFN
from moe_core.nn.model import Decoder, initialise
from moe_core.nn.moe import MoE
from moe_core.nn.router import LinearRouter
from moe_core.specs import Experts, Router

SUM_TO_ONE = Router(kind="softmax", renormalise=True)  # the same as softmax over the selected logits
RAW = Router(kind="softmax", renormalise=False)
ALL_ALIKE = Router(kind="unit")  # every weight is 1


class FFNWeights(NamedTuple):
    """A feed-forward network as parts of its neurons. gates_XFD: gate and up, or up alone; down_FD."""

    gates_XFD: Tensor
    down_FD: Tensor


def copied(dense: Decoder, experts: int, top_k: int, seed: int = 0, router: Router = SUM_TO_ONE) -> Decoder:
    """Every expert is the dense FFN: equal to `dense` where the weights of a token add up to 1.

    With `RAW` the output of a layer is the dense one times the mass of the top-k.
    """
    mixture = _mixture(dense, Experts(count=experts, top_k=top_k, width=_width(dense), router=router), seed)
    for ffn, moe in _layers(dense, mixture):
        whole = _weights(ffn)
        _fill(moe, [whole] * experts)
    return mixture


def sharded(dense: Decoder, experts: int, top_k: int, seed: int = 0) -> Decoder:
    """Every expert is a shard of the dense FFN, with weight 1: equal to `dense` only with top-k = experts.

    Raises ConfigError unless the FFN divides into so many shards.
    """
    width = _shard_width(dense, experts)
    mixture = _mixture(dense, Experts(count=experts, top_k=top_k, width=width, router=ALL_ALIKE), seed)
    for ffn, moe in _layers(dense, mixture):
        _fill(moe, _shards(_weights(ffn), experts))
    return mixture


def virtual_groups(
    dense: Decoder, copies: int, shards: int, top_k: int, seed: int = 0, scaled: bool = True
) -> Decoder:
    """`copies * shards` experts in groups of `shards`, each group a whole copy: equal to `dense` if `scaled`.

    All experts of a group have the same row of the router, so that the best `top_k` experts are whole groups
    and the weights of a group are equal: every shard gets 1 / shards of what the dense FFN gives it, which
    scaling makes up for. Raises ConfigError unless the FFN divides, and top_k into whole groups.
    """
    width = _shard_width(dense, shards)
    if top_k % shards:
        raise ConfigError(f"top_k ({top_k}): must be a multiple of shards ({shards})")
    spec = Experts(count=copies * shards, top_k=top_k, width=width, router=SUM_TO_ONE)
    mixture = _mixture(dense, spec, seed)
    for ffn, moe in _layers(dense, mixture):
        pieces = _shards(_weights(ffn), shards)
        _fill(moe, [_scaled(piece, shards) for piece in pieces] * copies if scaled else pieces * copies)
        _group_router(moe.router, shards)
    return mixture


def partly_drawn(dense: Decoder, experts: int, top_k: int, seed: int = 0, share: float = 0.5) -> Decoder:
    """`copied`, but in every expert that `share` of the neurons, other ones in each, is drawn anew.

    Normal, with mean and deviation of the same matrix's weights of those neurons (2502.19261, section 3).
    share 0 is `copied`. Raises ConfigError for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share ({share}): must be from 0 to 1")
    mixture = copied(dense, experts, top_k, seed)
    for layer, (ffn, moe) in enumerate(_layers(dense, mixture)):
        draw = generator(seed, f"upcycle.{layer}")
        _fill(moe, [_redrawn(_weights(ffn), share, draw) for _ in range(experts)])
    return mixture


def _redrawn(whole: FFNWeights, share: float, draw: torch.Generator) -> FFNWeights:
    width = whole.down_FD.shape[0]
    chosen = torch.randperm(width, generator=draw)[: round(share * width)]
    if not len(chosen):
        return whole

    def renewed(weight_FD: Tensor) -> Tensor:
        part = weight_FD[chosen]
        fresh = torch.randn(part.shape, generator=draw, dtype=part.dtype)
        return weight_FD.index_copy(0, chosen, part.mean() + part.std(correction=0) * fresh)

    return FFNWeights(torch.stack([renewed(part_FD) for part_FD in whole.gates_XFD]), renewed(whole.down_FD))


@torch.no_grad()
def _mixture(dense: Decoder, experts: Experts, seed: int) -> Decoder:
    """A mixture whose routers are drawn by `seed` and whose other parts are copies of the dense model's."""
    name = f"{dense.arch.name}-{experts.count}x{experts.top_k}"
    arch = dense.arch.model_copy(update={"name": name, "ffn_width": 0, "experts": experts})
    mixture = Decoder(arch).to(dense.embedding.weight.dtype)
    initialise(mixture, seed)
    mixture.load_state_dict(dense.state_dict(), strict=False)
    return mixture.train(dense.training)


def _layers(dense: Decoder, mixture: Decoder) -> list[tuple[FFN, MoE]]:
    found = []
    for ffn, moe in zip(dense.feed_forwards, mixture.feed_forwards, strict=True):
        assert isinstance(ffn, FFN), "upcycling starts from a dense model"
        assert isinstance(moe, MoE)
        found.append((ffn, moe))
    return found


def _width(dense: Decoder) -> int:
    assert dense.arch.experts is None, "upcycling starts from a dense model"
    return dense.arch.ffn_width


def _shard_width(dense: Decoder, shards: int) -> int:
    width = _width(dense)
    if shards < 1 or width % shards:
        raise ConfigError(f"shards ({shards}): must divide the {width} neurons of the dense model")
    return width // shards


def _weights(ffn: FFN) -> FFNWeights:
    gates_XFD = ffn.gate_up_GD.detach().unflatten(0, (2 if ffn.gated else 1, -1))
    return FFNWeights(gates_XFD, ffn.down_DF.detach().T)


def _shards(whole: FFNWeights, shards: int) -> list[FFNWeights]:
    """Consecutive neurons."""
    pairs = zip(whole.gates_XFD.chunk(shards, 1), whole.down_FD.chunk(shards), strict=True)
    return [FFNWeights(*pair) for pair in pairs]


def _scaled(piece: FFNWeights, factor: float) -> FFNWeights:
    """Output times `factor`, spread evenly over the matrices that the output is linear in.

    He et al. (section 2.4) spread it over all of them, which is exact for a squared ReLU; a SiLU gate is
    not linear in its input, so the gate rows stay, and up and down rows take a square root each.
    """
    if len(piece.gates_XFD) == 1:
        return piece._replace(down_FD=piece.down_FD * factor)
    gate_FD, up_FD = piece.gates_XFD
    root = factor**0.5
    return FFNWeights(torch.stack((gate_FD, up_FD * root)), piece.down_FD * root)


def _fill(moe: MoE, experts: list[FFNWeights]) -> None:
    gate_up_EGD = torch.stack([one.gates_XFD.flatten(0, 1) for one in experts])
    down_EDF = torch.stack([one.down_FD.T for one in experts])
    assert gate_up_EGD.shape == moe.gate_up_EGD.shape
    moe.gate_up_EGD, moe.down_EDF = nn.Parameter(gate_up_EGD), nn.Parameter(down_EDF.contiguous())


def _group_router(router: nn.Module, shards: int) -> None:
    """The rows of the first experts, one a group, repeated within each group."""
    assert isinstance(router, LinearRouter)
    rows_CD = router.weight_ED.detach()[: len(router.weight_ED) // shards]
    router.weight_ED = nn.Parameter(rows_CD.repeat_interleave(shards, 0))
