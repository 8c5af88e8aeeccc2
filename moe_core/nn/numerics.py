"""Numerics: sums and scores are computed in at least fp32, whatever the model's own dtype.

A bf16 model widens to fp32; a float64 model stays float64, so that it can serve as a reference.
Buffers that a rounding would spoil keep their own dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd import Function

from moe_core.errors import ConfigError

PART = 2**22  # elements of a gradient widened at once: 16 MiB in fp32


def wide_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """The widest of `dtypes`, fp32 at least."""
    return reduce(torch.promote_types, dtypes, torch.float32)


def wants_gradients(*tensors: Tensor) -> bool:
    """Whether autograd records what is computed from `tensors`."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def refuse_other_than_cpu(kernel: str, device: torch.device) -> None:
    """Raises ConfigError where a kernel that plans in numpy cannot compute."""
    if device.type != "cpu":
        raise ConfigError(f"kernel ({kernel}) computes on a CPU only: device ({device.type}) must be cpu")


def refuse_gradients(kernel: str, *tensors: Tensor) -> None:
    """Raises ConfigError where gradients are wanted of a kernel that has none."""
    if wants_gradients(*tensors):
        raise ConfigError(
            f"kernel ({kernel}): has no gradients; use auto, grouped, padded or gather when training, "
            "or torch.no_grad()"
        )


def wide(x: Tensor) -> Tensor:
    """`x` in at least fp32; itself where it is already."""
    return x.to(wide_dtype(x.dtype))


class ExactBuffers(nn.Module):
    """A module whose own buffers keep their dtype when the model's changes: they move between devices only.

    `model.bfloat16()` would round what moves in small steps (a selection bias) or turns with the position
    (rotary tables).
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            after = getattr(self, name)
            if after.dtype != buffer.dtype:
                setattr(self, name, buffer.to(after.device))
        return self


def take(source_XD: Tensor, ids_N: Tensor) -> Tensor:
    """[N, ...]: `source_XD[ids_N]`, whose gradient is summed in at least fp32 and rounded once.

    Plain indexing adds up gradients in the dtype of the source: in bf16 a row that is taken a thousand
    times loses what is small beside the sum so far. On CUDA the order of the sum may vary.
    """
    if source_XD.dtype == wide_dtype(source_XD.dtype) or not wants_gradients(source_XD):
        matrices = source_XD.dim() > 2  # either in the form that the kernels' limits were measured with
        return source_XD[ids_N] if matrices else source_XD.index_select(0, ids_N)
    taken: Tensor = _Take.apply(source_XD, ids_N)
    return taken


class _Take(Function):
    @staticmethod
    def forward(ctx: Any, source_XD: Tensor, ids_N: Tensor) -> Tensor:
        ctx.save_for_backward(ids_N)
        ctx.rows = source_XD.shape[0]
        return source_XD.index_select(0, ids_N)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient_ND,), (ids_N,) = gradients, ctx.saved_tensors
        most = max(1, PART // max(1, gradient_ND[:1].numel()))
        sum_XD = wide(gradient_ND.new_zeros(ctx.rows, *gradient_ND.shape[1:]))
        for rows_ND, part_N in zip(gradient_ND.split(most), ids_N.split(most), strict=True):
            sum_XD.index_add_(0, part_N, wide(rows_ND))
        return sum_XD.to(gradient_ND.dtype), None
