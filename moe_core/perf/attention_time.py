"""Time of attention of one layer on one device, for shapes that no table holds.

Decode reads keys and values once for all queries of a group; prefill multiplies. Both are

    t = launch + depth L + (memory^p + compute^p)^(1/p)

with L the length a query looks over. Latent attention (MLA) is one KV head of kv_rank + rope_dim that
serves as key and value in decode, and heads of their own in prefill (DeepSeek-V2, section 2.1).
Ignored: how the work of few sequences is split over processors, beyond `depth`.
"""

from __future__ import annotations

from typing import NamedTuple

from moe_core.perf.gemm import DataSheet, GemmConstants, blend, padded

GROUP_TILE, QUERY_TILE = 16, 128


class Heads(NamedTuple):
    """What one device attends with. `key` and `value` are widths; `shared` means one latent is both."""

    heads: int
    kv_heads: int
    key: int
    value: int
    shared: bool = False

    @property
    def kept(self) -> int:
        """Elements read for each token and KV head."""
        return self.key if self.shared else self.key + self.value


def decode(
    batch: float, past: float, shape: Heads, width: float, machine: DataSheet, constants: GemmConstants
) -> float:
    """Seconds of one new token in each of `batch` sequences after `past` others; cache of `width` bytes."""
    length = past + 1
    memory = batch * length * shape.kv_heads * shape.kept * width / (machine.bandwidth * constants.bandwidth)
    rows = padded(shape.heads / shape.kv_heads, GROUP_TILE) * shape.kv_heads
    compute = 2 * batch * rows * length * (shape.key + shape.value) / (machine.peak * constants.compute)
    return constants.launch + constants.depth * length + blend(memory, compute, constants.blend)


def prefill(
    batch: float,
    new: float,
    shape: Heads,
    machine: DataSheet,
    constants: GemmConstants,
    past: float = 0,
    window: float | None = None,
) -> float:
    """Seconds of `new` tokens in each of `batch` sequences that have `past` behind them, causal."""
    tokens = padded(new, QUERY_TILE)
    seen = past + tokens / 2 if window is None else _windowed(past, tokens, window)
    compute = 2 * batch * shape.heads * tokens * seen * (shape.key + shape.value)
    moved = 2 * batch * (2 * new * shape.heads * shape.value + (past + new) * shape.kv_heads * shape.kept)
    memory = moved / (machine.bandwidth * constants.bandwidth)
    busy = blend(memory, compute / (machine.peak * constants.compute), constants.blend)
    return constants.launch + constants.depth * (past + new) + busy


def _windowed(past: float, new: float, window: float) -> float:
    """Tokens seen on average by `new` queries after `past` others within a window."""
    if past + new <= window:
        return past + new / 2
    growing = max(0.0, window - past)
    return (growing * (past + growing / 2) + (new - growing) * window) / new
