"""Numerics: sums and scores are computed in at least fp32, whatever the model's own dtype.

A bf16 model widens to fp32; a float64 model stays float64, so that it can serve as a reference.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor


def wide_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """The widest of `dtypes`, fp32 at least."""
    return reduce(torch.promote_types, dtypes, torch.float32)


def wants_gradients(*tensors: Tensor) -> bool:
    """Whether autograd records what is computed from `tensors`."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def wide(x: Tensor) -> Tensor:
    """`x` in at least fp32; itself where it is already."""
    return x.to(wide_dtype(x.dtype))
