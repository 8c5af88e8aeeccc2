"""Bank: random weights to time layers with, any size, cut from one pool so that no cache holds the next.

Legend: T tokens, D model, F ffn, G = 2F, E experts, K top-k, N routed pairs.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor

from moe_core.device import cache_bytes, free_memory
from moe_core.nn.experts import ExpertWeights
from moe_core.nn.layers import activate
from moe_core.nn.routing import Routing

MOST_COLUMNS = 32_768  # of one product: oneDNN in torch 2.13 divides by zero at 98,304
TILE = 1 << 22  # random numbers made once and repeated: weights are filled in seconds, not minutes
OVERFLOW = 2.5  # last caches that a pool fills
ALIGNED = 4096  # elements


class Pool:
    """Random weights in one stretch of memory. `take` hands out what was not touched for longest."""

    def __init__(self, flat: Tensor) -> None:
        self._flat, self._next = flat, 0

    @classmethod
    def filled(cls, elements: int, dtype: torch.dtype, device: torch.device) -> Self:
        """A pool of its own memory."""
        tile = (torch.randn(TILE, generator=torch.Generator().manual_seed(0)) * 0.03).to(device, dtype)
        flat = torch.empty(elements, dtype=dtype, device=device)
        for start in range(0, elements, TILE):
            flat[start : start + TILE] = tile[: elements - start]
        return cls(flat)

    def viewed(self, dtype: torch.dtype) -> Pool:
        """The same memory as numbers of another dtype: bf16 pairs read as fp32 are of the same size."""
        whole = self._flat.numel() // 2 * 2
        return Pool(self._flat[:whole].view(dtype))

    def first(self, elements: int) -> Tensor:
        """The first `elements` of it."""
        return self._flat[:elements]

    @property
    def nbytes(self) -> int:
        return self._flat.nbytes

    def take(self, *sizes: int) -> Tensor:
        """A tensor of these sizes; from the start again when the pool is at its end."""
        count = math.prod(sizes)
        assert count <= self._flat.numel(), f"{count} elements of a pool of {self._flat.numel()}"
        start = self._next if self._next + count <= self._flat.numel() else 0
        self._next = start + math.ceil(count / ALIGNED) * ALIGNED
        return self._flat[start : start + count].view(sizes)

    def experts(self, hidden: int, width: int, count: int) -> ExpertWeights:
        """A bank of gated experts."""
        return ExpertWeights(self.take(count, 2 * width, hidden), self.take(count, hidden, width))

    def dense(self, hidden: int, width: int) -> Dense:
        """A gated feed-forward network."""
        slices = math.ceil(width / MOST_COLUMNS)
        each = width // slices
        return Dense(self.take(slices, 2 * each, hidden), self.take(slices, hidden, each))


class Dense(NamedTuple):
    """A gated feed-forward network in equal slices of its width, S of them."""

    gate_up_SGD: Tensor
    down_SDF: Tensor

    def __call__(self, x_TD: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        y_TD: Tensor | None = None
        for up_GD, down_DF in zip(self.gate_up_SGD, self.down_SDF, strict=True):
            hidden_TF = activate(torch.nn.functional.linear(x_TD, up_GD), True)
            part_TD = torch.nn.functional.linear(hidden_TF, down_DF)
            y_TD = part_TD if y_TD is None else y_TD.add_(part_TD)
        assert y_TD is not None
        return y_TD


def pool_elements(least: int, itemsize: int, device: torch.device) -> int:
    """Elements that overflow the last cache, within a third of the free memory; at least `least`."""
    wish = min(OVERFLOW * cache_bytes(device), free_memory(device) / 3)
    return max(least, int(wish / itemsize))


def random_routing(
    tokens: int, experts: int, top_k: int, seed: int, device: torch.device, each: bool = False
) -> Routing:
    """Top-k of a softmax over random logits, renormalised. `each`: one pair for every expert instead."""
    generator = torch.Generator().manual_seed(seed)
    scores_TE = torch.randn(tokens, experts, generator=generator).softmax(-1)
    weights_TK, chosen_TK = scores_TE.topk(top_k, dim=-1)
    if each:
        assert tokens * top_k == experts, "one pair for every expert"
        chosen_TK = torch.randperm(experts, generator=generator).view(tokens, top_k)
        weights_TK = scores_TE.gather(-1, chosen_TK)
    weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
    token_ids_N = torch.arange(tokens, device=device).repeat_interleave(top_k)
    pairs = (chosen_TK.flatten().to(device), weights_TK.flatten().to(device))
    return Routing(token_ids_N, *pairs, scores_TE.to(device), per_token=top_k)
