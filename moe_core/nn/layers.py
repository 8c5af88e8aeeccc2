"""The small layers every block is made of: RMSNorm, the feed-forward network, rotary embedding.

Legend: B batch, S sequence, D model, F ffn, H heads, P head dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_core.errors import ConfigError
from moe_core.nn.initial import normal
from moe_core.nn.numerics import ExactBuffers, wide


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis (Zhang and Sennrich 2019, eq 4), in at least fp32."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide_x = wide(x)
        weight = self.weight.to(wide_x.dtype)
        return F.rms_norm(wide_x, weight.shape, weight, self.eps).to(x.dtype)


class FFN(nn.Module):
    """Feed-forward network on [..., D]: SwiGLU (Shazeer 2020, eq 6) or, ungated, SiLU between two matrices.

    `gate_up_GD` holds the gate rows first and the up rows after them, so that one product computes both.
    Weights are drawn by `seed`.
    """

    def __init__(self, hidden: int, width: int, gated: bool = True, seed: int = 0) -> None:
        super().__init__()
        self.gated = gated
        self.gate_up_GD = normal(width * (2 if gated else 1), hidden, seed=seed, part="ffn.gate_up")
        self.down_DF = normal(hidden, width, seed=seed, part="ffn.down")

    def hidden_activations(self, x: Tensor) -> Tensor:
        """What each of the F neurons fires with, [..., F]: the input of the down projection."""
        return activate(F.linear(x, self.gate_up_GD), self.gated)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.hidden_activations(x), self.down_DF)


def activate(gate_up: Tensor, gated: bool) -> Tensor:
    """[..., 2F] -> [..., F] as silu(gate) * up, or [..., F] -> [..., F] as silu when ungated."""
    if not gated:
        return F.silu(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


class Rotary(ExactBuffers):
    """Rotary position embedding (Su et al. 2021, eq 34), halves convention, tables in fp32 always."""

    cos_SP: Tensor
    sin_SP: Tensor

    def __init__(self, head_dim: int, max_positions: int, theta: float) -> None:
        super().__init__()
        self.head_dim, self.theta = head_dim, theta
        cos_SP, sin_SP = rotary_tables(head_dim, max_positions, theta)
        self.register_buffer("cos_SP", cos_SP, persistent=False)
        self.register_buffer("sin_SP", sin_SP, persistent=False)

    def forward(self, x_BHSP: Tensor, start: int) -> Tensor:
        """Rotate positions start .. start + S - 1. Raises ConfigError beyond the tables."""
        stop = start + x_BHSP.shape[2]
        if stop > self.cos_SP.shape[0]:
            raise ConfigError(f"positions ({stop}): must be at most {self.cos_SP.shape[0]}")
        cos_SP, sin_SP = self.cos_SP[start:stop], self.sin_SP[start:stop]
        first, second = x_BHSP.chunk(2, dim=-1)
        turned = torch.cat((-second, first), dim=-1)
        return (x_BHSP * cos_SP + turned * sin_SP).to(x_BHSP.dtype)


def rotary_tables(head_dim: int, positions: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin of position * theta^(-2i/P), each [S, P] in fp32."""
    inverse_P2 = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles_SP2 = torch.outer(torch.arange(positions, dtype=torch.float32), inverse_P2)
    angles_SP = torch.cat((angles_SP2, angles_SP2), dim=-1)
    return angles_SP.cos(), angles_SP.sin()
