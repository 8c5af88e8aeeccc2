"""One transformer layer: attention, then a feed-forward network or a mixture of experts.

Legend: B batch, S sequence, D model.
"""

from __future__ import annotations

from torch import Tensor, nn

from moe_core.nn.attention import Attention, LayerCache
from moe_core.nn.layers import FFN, RMSNorm, Rotary
from moe_core.nn.moe import MoE
from moe_core.nn.observe import NULL, Observer
from moe_core.specs import GQA, Architecture


class Block(nn.Module):
    """Pre-norm residual layer `layer` of `arch`, whose number is the seed of its weights."""

    def __init__(self, arch: Architecture, layer: int) -> None:
        super().__init__()
        assert isinstance(arch.attention, GQA), "the bench builds grouped-query attention only"
        self.layer = layer
        self.attention_norm = RMSNorm(arch.hidden, arch.norm_eps)
        self.attention = Attention(arch.hidden, arch.attention, arch.norm_eps, seed=layer)
        self.ffn_norm = RMSNorm(arch.hidden, arch.norm_eps)
        self.ffn: FFN | MoE
        if arch.is_moe_layer(layer):
            assert arch.experts is not None
            self.ffn = MoE(arch.experts, arch.hidden, arch.gated, seed=layer)
        else:
            self.ffn = FFN(arch.hidden, arch.ffn_width, arch.gated, seed=layer)

    def forward(
        self,
        x_BSD: Tensor,
        rotary: Rotary,
        cache: LayerCache | None = None,
        start: int = 0,
        ids_BS: Tensor | None = None,
        observer: Observer = NULL,
    ) -> Tensor:
        with observer.span("norm"):
            normed_BSD = self.attention_norm(x_BSD)
        with observer.span("attention"):
            x_BSD = x_BSD + self.attention(normed_BSD, rotary, cache, start)
        with observer.span("norm"):
            normed_BSD = self.ffn_norm(x_BSD)
        return x_BSD + self._feed_forward(normed_BSD, ids_BS, observer)

    def _feed_forward(self, x_BSD: Tensor, ids_BS: Tensor | None, observer: Observer) -> Tensor:
        if isinstance(self.ffn, MoE):
            return self.ffn(x_BSD, layer=self.layer, ids_BS=ids_BS, observer=observer)
        with observer.span("ffn"):
            return self.ffn(x_BSD)
