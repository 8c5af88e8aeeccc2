"""The `sorted` kernel: pairs sorted by expert and computed run by run, on a CPU, without gradients.

Legend: T tokens, D model, F ffn, G rows of gate_up (2F or F), E experts, N routed pairs, O, I rows
and columns of any weight, C experts and P places each in one run, R places of all runs.

Measured on two AMX cores (benchmarks/README.md):

* Weights stand on the left (W @ x^T): oneDNN then repacks the few activations and not the weights,
  1.2-1.6 times faster than `linear` below 256 pairs. Two equal columns beat a single one.
* In bf16, neighbouring fine-grained experts share a batched product: 2 times faster from 16 tokens on.
* oneDNN compiles a kernel for every new number of rows (3 ms in bf16): counts are rounded up.
* In fp32, MKL reads weights at full speed for up to 3 pairs, for 4-15 only in blocks of rows; beyond,
  oneDNN is faster than MKL, which `torch.mm` calls.
* Results are written once and added up by `embedding_bag`, which gathers, weights and sums in fp32.
* Fresh memory costs 0.25 ms a megabyte, so hidden activations reuse one buffer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from moe_core.device import grouped_mm_takes
from moe_core.nn.numerics import refuse_gradients, refuse_other_than_cpu
from moe_core.nn.observe import NULL, Observer
from moe_core.nn.routing import Routing
from moe_core.nn.sorted_layout import FEW, ExpertRun, SortedLayout, arrange
from moe_core.units import MIB

if TYPE_CHECKING:
    from moe_core.nn.experts import ExpertWeights

BLOCK = 32  # rows of a weight block
LEFT_ROWS = 384  # up to here the weights stand on the left, in fp32
TRANSPOSE = 10  # writing D x rows transposed is cheaper than repacking D x F weights up to F / rows

# x @ w^T by oneDNN, as torch's own compiler calls it; fp32 has no public way to it. None: not in this build.
_onednn_linear = (
    getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
)


def sorted_experts(
    x_TD: Tensor, routing: Routing, weights: ExpertWeights, observer: Observer = NULL
) -> Tensor:
    """[T, D] -> [T, D]. On a CPU, without gradients. Raises ConfigError elsewhere."""
    refuse_gradients("sorted", x_TD, routing.weights_N, weights.gate_up_EGD, weights.down_EDF)
    refuse_other_than_cpu("sorted", x_TD.device)
    with torch.no_grad():
        with observer.span("dispatch"):
            layout = arrange(routing, weights, x_TD.dtype)
        with observer.span("experts"):
            scale_R1 = _input_scale(layout, routing, x_TD.dtype) if weights.scale_input else None
            y_RD = _compute(x_TD, layout, weights, scale_R1)
        with observer.span("combine"):
            return _add_up(y_RD, layout.place_N, routing, weighted=not weights.scale_input)


def _input_scale(layout: SortedLayout, routing: Routing, dtype: torch.dtype) -> Tensor:
    """[R, 1]: what the inputs are multiplied by."""
    scale_R1 = torch.zeros(layout.source_R.numel(), 1, dtype=dtype)
    scale_R1[layout.place_N, 0] = routing.weights_N.to(dtype)
    return scale_R1


def _compute(x_TD: Tensor, layout: SortedLayout, weights: ExpertWeights, scale_R1: Tensor | None) -> Tensor:
    """[R, D]: every place through its expert."""
    y_RD = x_TD.new_empty(layout.source_R.numel(), x_TD.shape[1])
    width = weights.gate_up_EGD.shape[1]
    buffer = x_TD.new_empty(max((run.places for run in layout.runs), default=0) * width)
    start = 0
    for run in layout.runs:
        end = start + run.places
        x_PD = x_TD.index_select(0, layout.source_R[start:end])
        if scale_R1 is not None:
            x_PD.mul_(scale_R1[start:end])
        compute = _columns if _weights_left(run, weights) else _rows
        compute(x_PD, run, weights, buffer[: run.places * width], y_RD[start:end])
        start = end
    return y_RD


def _weights_left(run: ExpertRun, weights: ExpertWeights) -> bool:
    """Whether the weights stand on the left: while repacking them would cost more than it brings."""
    rows = run.rows[0]
    if weights.down_EDF.dtype != torch.bfloat16:
        return FEW <= rows <= LEFT_ROWS
    return run.batched or rows <= 128 or rows * 14 <= weights.down_EDF.shape[2]


def _rows(x_PD: Tensor, run: ExpertRun, weights: ExpertWeights, hidden: Tensor, y_PD: Tensor) -> None:
    """Activations on the left: x @ W^T. Experts may differ in rows."""
    h_PG = _right(x_PD, weights.gate_up_EGD, run, hidden.view(x_PD.shape[0], -1))
    found_PD = _right(_activate(h_PG, weights.gated, 1), weights.down_EDF, run, y_PD)
    if found_PD is not y_PD:
        y_PD.copy_(found_PD)


def _columns(x_PD: Tensor, run: ExpertRun, weights: ExpertWeights, hidden: Tensor, y_PD: Tensor) -> None:
    """Weights on the left: W @ x^T. Experts have equal rows."""
    count, rows = len(run.experts), run.rows[0]
    x_CPD, y_CPD = x_PD.view(count, rows, -1), y_PD.view(count, rows, -1)
    h_CGP = _left(weights.gate_up_EGD, x_CPD, run, hidden.view(count, -1, rows))
    h_CPF = _activate(h_CGP, weights.gated, 1).transpose(1, 2)
    if run.batched or rows * TRANSPOSE < h_CPF.shape[2]:
        y_CDP = _left(weights.down_EDF, h_CPF, run, y_PD.new_empty(count, y_PD.shape[1], rows))
        y_CPD.copy_(y_CDP.transpose(1, 2))
    else:
        for expert, h_PF, y_one_PD in zip(run.experts, h_CPF.unbind(0), y_CPD.unbind(0), strict=True):
            torch.mm(h_PF, weights.down_EDF[expert].t(), out=y_one_PD)


def _left(weight_EOI: Tensor, x_CPI: Tensor, run: ExpertRun, buffer_COP: Tensor) -> Tensor:
    """[C, O, P]: W @ x^T, all at once, or expert by expert; in the buffer or not."""
    first, last = run.experts[0], run.experts[-1]
    if run.batched:
        return torch.bmm(weight_EOI[first : last + 1], x_CPI.transpose(1, 2), out=buffer_COP)
    if weight_EOI.dtype == torch.float32 and _onednn_linear is not None and _onednn_wins(weight_EOI, run):
        product: Tensor = _onednn_linear(weight_EOI[first], x_CPI[0], None, "none", [], "")
        return product[None]
    for expert, x_PI, out_OP in zip(run.experts, x_CPI.unbind(0), buffer_COP.unbind(0), strict=True):
        torch.mm(weight_EOI[expert], x_PI.t(), out=out_OP)
    return buffer_COP


def _onednn_wins(weight_EOI: Tensor, run: ExpertRun) -> bool:
    """Whether oneDNN beats MKL in fp32."""
    return run.rows[0] <= 160 and (run.rows[0] >= 48 or weight_EOI[0].numel() >= MIB)


def _right(x_PI: Tensor, weight_EOI: Tensor, run: ExpertRun, buffer_PO: Tensor) -> Tensor:
    """[P, O]: x @ W^T, expert by expert; in the buffer or not."""
    big, weight_EIO = weight_EOI[0].numel() >= MIB, weight_EOI.transpose(1, 2)
    many = 3 * len(run.experts) > weight_EOI.shape[0]
    if many and not big and grouped_mm_takes(x_PI.device, x_PI.dtype, *weight_EOI.shape[1:]):  # a loop in C++
        rows_E = np.zeros(weight_EOI.shape[0], dtype=np.int32)
        rows_E[run.experts] = run.rows
        ends_E = torch.from_numpy(rows_E.cumsum(dtype=np.int32))
        found_PO: Tensor = functional.grouped_mm(x_PI, weight_EIO, offs=ends_E)
        return found_PO
    blocks = big and weight_EOI.dtype == torch.float32 and weight_EOI.shape[1] % BLOCK == 0
    parts = zip(run.experts, x_PI.split(run.rows), buffer_PO.split(run.rows), strict=True)
    for expert, x_one_PI, out_PO in parts:
        if blocks and 4 <= x_one_PI.shape[0] < FEW:
            _blocked(x_one_PI, weight_EOI[expert], out_PO)
        else:
            torch.mm(x_one_PI, weight_EIO[expert], out=out_PO)
    return buffer_PO


def _blocked(x_PI: Tensor, weight_OI: Tensor, out_PO: Tensor) -> None:
    """out = x @ W^T as one batched product over blocks of rows of W."""
    blocks = weight_OI.reshape(-1, BLOCK, weight_OI.shape[1])
    parts = torch.bmm(x_PI.expand(blocks.shape[0], -1, -1), blocks.transpose(1, 2))
    out_PO.view(x_PI.shape[0], -1, BLOCK).copy_(parts.transpose(0, 1))


def _activate(h: Tensor, gated: bool, dim: int) -> Tensor:
    """silu(gate) * up, gate being the first half along `dim`; silu(h) when not gated. Overwrites h.

    Halves of columns are strided: the result is then a tensor of its own, which products read faster.
    """
    if not gated:
        return functional.silu(h, inplace=True)
    gate, up = h.chunk(2, dim)
    gate = functional.silu(gate, inplace=True)
    return gate.mul_(up) if dim == 1 and h.dim() == 3 else gate * up


def _add_up(y_RD: Tensor, place_N: Tensor, routing: Routing, weighted: bool) -> Tensor:
    """[T, D]: per token the weighted sum of its places."""
    weights_N = routing.weights_N.to(y_RD.dtype) if weighted else torch.ones_like(place_N, dtype=y_RD.dtype)
    if routing.per_token is not None:
        shape = (routing.tokens, routing.per_token)
        place_TK, weights_TK = place_N.view(shape), weights_N.view(shape)
        return functional.embedding_bag(place_TK, y_RD, mode="sum", per_sample_weights=weights_TK)
    token_N, by_token_N = torch.sort(routing.token_ids_N, stable=True)
    starts_T = torch.searchsorted(token_N, torch.arange(routing.tokens))
    return functional.embedding_bag(
        place_N[by_token_N], y_RD, starts_T, mode="sum", per_sample_weights=weights_N[by_token_N]
    )
