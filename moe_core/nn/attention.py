"""Grouped-query attention with a preallocated KV cache.

Legend: B batch, S new tokens, L cached tokens, D model, H heads, G KV heads, P head dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_core.errors import ConfigError
from moe_core.nn.initial import linear
from moe_core.nn.layers import RMSNorm, Rotary
from moe_core.specs import GQA


class LayerCache:
    """Keys and values of one layer, allocated once: [B, G, positions, P] each."""

    def __init__(
        self, batch: int, spec: GQA, positions: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (batch, spec.kv_heads, positions, spec.head_dim)
        self.keys_BGLP = torch.zeros(shape, device=device, dtype=dtype)
        self.values_BGLP = torch.zeros(shape, device=device, dtype=dtype)

    @property
    def nbytes(self) -> int:
        return self.keys_BGLP.nbytes + self.values_BGLP.nbytes

    def append(self, keys_BGSP: Tensor, values_BGSP: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Write S positions from `start` and return everything up to them.

        Raises ConfigError for another batch, other heads, or positions beyond the cache: assigning to a
        slice would broadcast one sequence to all, or write nothing.
        """
        stop = start + keys_BGSP.shape[2]
        self._check(keys_BGSP, stop)
        self.keys_BGLP[:, :, start:stop] = keys_BGSP
        self.values_BGLP[:, :, start:stop] = values_BGSP
        return self.keys_BGLP[:, :, :stop], self.values_BGLP[:, :, :stop]

    def _check(self, new_BGSP: Tensor, stop: int) -> None:
        batch, kv_heads, positions, head_dim = self.keys_BGLP.shape
        if stop > positions:
            raise ConfigError(f"positions ({stop}): must be at most {positions}, the size of the cache")
        sizes = zip(("batch", "kv_heads", "head_dim"), (0, 1, 3), (batch, kv_heads, head_dim), strict=True)
        for name, axis, size in sizes:
            if new_BGSP.shape[axis] != size:
                raise ConfigError(f"{name} ({new_BGSP.shape[axis]}): must be {size}, that of the cache")


class KVCache:
    """One LayerCache a layer, and how many positions are filled."""

    def __init__(self, layers: list[LayerCache], positions: int) -> None:
        self.layers = layers
        self.positions = positions
        self.filled = 0

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)

    def advance(self, tokens: int) -> None:
        self.filled += tokens

    def rewind(self, filled: int) -> None:
        """Go on from `filled` positions, so that a step can be timed again, or before there is a prompt."""
        assert 0 <= filled <= self.positions, "a cache is rewound to positions it has"
        self.filled = filled


class Attention(nn.Module):
    """Causal grouped-query attention (Ainslie et al. 2023) with rotary positions, drawn by `seed`."""

    def __init__(self, hidden: int, spec: GQA, norm_eps: float = 1e-5, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        width, kv_width = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.query = linear(hidden, width, spec.qkv_bias, seed, "attention.query")
        self.key = linear(hidden, kv_width, spec.qkv_bias, seed, "attention.key")
        self.value = linear(hidden, kv_width, spec.qkv_bias, seed, "attention.value")
        self.out = linear(width, hidden, spec.out_bias, seed, "attention.out")
        self.query_norm = RMSNorm(spec.head_dim, norm_eps) if spec.qk_norm else nn.Identity()
        self.key_norm = RMSNorm(spec.head_dim, norm_eps) if spec.qk_norm else nn.Identity()

    def forward(
        self, x_BSD: Tensor, rotary: Rotary, cache: LayerCache | None = None, start: int = 0
    ) -> Tensor:
        """Attend from S new tokens to themselves and to the `start` tokens already in `cache`."""
        query_BHSP = rotary(self.query_norm(self._heads(self.query(x_BSD))), start)
        key_BGLP = rotary(self.key_norm(self._heads(self.key(x_BSD))), start)
        value_BGLP = self._heads(self.value(x_BSD))
        if cache is not None:
            key_BGLP, value_BGLP = cache.append(key_BGLP, value_BGLP, start)
        mixed_BHSP = self._attend(query_BHSP, key_BGLP, value_BGLP)
        return self.out(mixed_BHSP.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.spec.head_dim)).transpose(1, 2)

    def _attend(self, query_BHSP: Tensor, key_BGLP: Tensor, value_BGLP: Tensor) -> Tensor:
        new, total = query_BHSP.shape[2], key_BGLP.shape[2]
        grouped = self.spec.heads != self.spec.kv_heads
        if new == total and self.spec.window is None:
            return F.scaled_dot_product_attention(
                query_BHSP, key_BGLP, value_BGLP, is_causal=True, enable_gqa=grouped
            )
        mask_SL = causal_mask(new, total, self.spec.window, query_BHSP.device)
        return F.scaled_dot_product_attention(
            query_BHSP, key_BGLP, value_BGLP, attn_mask=mask_SL, enable_gqa=grouped
        )


def causal_mask(new: int, total: int, window: int | None, device: torch.device) -> Tensor:
    """[S, L], True where query i (at position total - new + i) may look."""
    query_S1 = torch.arange(total - new, total, device=device)[:, None]
    key_1L = torch.arange(total, device=device)[None, :]
    allowed_SL = key_1L <= query_S1
    return allowed_SL if window is None else allowed_SL & (key_1L > query_S1 - window)
