"""The decoder: embedding, blocks, final norm, head. Dense and mixture are the same class.

Legend: B batch, S sequence, D model, V vocabulary.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_core.errors import ConfigError
from moe_core.nn.attention import KVCache, LayerCache
from moe_core.nn.block import Block
from moe_core.nn.initial import linear, normal
from moe_core.nn.layers import FFN, RMSNorm, Rotary
from moe_core.nn.moe import MoE
from moe_core.nn.observe import NULL, Observer
from moe_core.specs import GQA, Architecture, Extras


class Decoder(nn.Module):
    """A decoder-only language model of `arch`. Raises ConfigError for attention it cannot build.

    Its weights are always the same ones; `initialise` draws others, by seed.
    """

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        if not isinstance(arch.attention, GQA):
            raise ConfigError(f"attention.kind ({arch.attention.kind}): must be gqa to be run here")
        if arch.extras != Extras():
            raise ConfigError(f"extras ({arch.name}): must be empty to be run here; they can be counted only")
        self.arch = arch
        table_VD = normal(arch.vocab, arch.hidden, seed=0, part="embedding")
        self.embedding = nn.Embedding.from_pretrained(table_VD, freeze=False)
        self.rotary = Rotary(arch.attention.head_dim, arch.max_positions, arch.rope_theta)
        self.blocks = nn.ModuleList(Block(arch, layer) for layer in range(arch.layers))
        self.norm = RMSNorm(arch.hidden, arch.norm_eps)
        self.head = None if arch.tied else linear(arch.hidden, arch.vocab, False, 0, "head")

    def forward(self, ids_BS: Tensor, cache: KVCache | None = None, observer: Observer = NULL) -> Tensor:
        """Logits [B, S, V] for token ids [B, S]; with a cache, ids continue what is cached.

        Raises ConfigError for positions beyond the model's or the cache's, and for another batch than
        the cache's.
        """
        start = 0 if cache is None else cache.filled
        assert cache is None or len(cache.layers) == len(self.blocks), "a cache is made by its own model"
        with observer.span("embed"):
            x_BSD = self.embedding(ids_BS)
        for layer, block in enumerate(self.blocks):
            layer_cache = None if cache is None else cache.layers[layer]
            x_BSD = block(x_BSD, self.rotary, layer_cache, start, ids_BS, observer)
        if cache is not None:
            cache.advance(ids_BS.shape[1])
        with observer.span("head"):
            weight_VD = self.embedding.weight if self.head is None else self.head.weight
            return F.linear(self.norm(x_BSD), weight_VD)

    @property
    def feed_forwards(self) -> list[FFN | MoE]:
        """The feed-forward part of every layer, in order."""
        return [cast(Block, block).ffn for block in self.blocks]

    def new_cache(self, batch: int, positions: int) -> KVCache:
        """An empty KV cache for `batch` sequences of up to `positions` tokens."""
        if positions > self.arch.max_positions:
            raise ConfigError(f"positions ({positions}): must be at most {self.arch.max_positions}")
        weight, spec = self.embedding.weight, self.arch.attention
        assert isinstance(spec, GQA)
        layers = [LayerCache(batch, spec, positions, weight.device, weight.dtype) for _ in self.blocks]
        return KVCache(layers, positions)


@torch.no_grad()
def initialise(model: Decoder, seed: int) -> None:
    """Fresh weights: normal with deviation 0.02, the residual outputs scaled down (GPT-2, section 2.3)."""
    generator = torch.Generator(device=model.embedding.weight.device).manual_seed(seed)
    residual = 0.02 / math.sqrt(2 * model.arch.layers)
    for name, parameter in model.named_parameters():
        if name.endswith(("norm.weight",)):
            parameter.fill_(1.0)
        elif "bias" in name:
            parameter.zero_()
        else:
            into_residual = "down_" in name or name.endswith("out.weight")
            parameter.normal_(0.0, residual if into_residual else 0.02, generator=generator)
