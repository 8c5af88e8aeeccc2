"""Initial weights: drawn from generators of their own, so that a seed says everything.

Nothing here reads or moves torch's global random state. On the meta device nothing is drawn.
"""

from __future__ import annotations

import hashlib

import torch
from torch import nn

DEVIATION = 0.02  # GPT-2's


def generator(seed: int, part: str, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of one part of a model: parts and seeds share no stream."""
    digest = hashlib.sha256(f"{part} {seed}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


def normal(*shape: int, seed: int, part: str) -> nn.Parameter:
    """A weight on the default device, normal with deviation 0.02."""
    weight = torch.empty(*shape)
    if weight.device.type != "meta":
        weight.normal_(0.0, DEVIATION, generator=generator(seed, part, weight.device))
    return nn.Parameter(weight)


def linear(inputs: int, outputs: int, bias: bool, seed: int, part: str) -> nn.Linear:
    """A linear layer on the default device: weight normal with deviation 0.02, bias zero."""
    layer = nn.Linear(inputs, outputs, bias=bias, device="meta")  # which draws nothing
    layer.weight = normal(outputs, inputs, seed=seed, part=part)
    if bias:
        layer.bias = nn.Parameter(torch.zeros(outputs))
    return layer
