"""The `sorted` kernel: pairs sorted by expert and computed run by run, on a CPU, without gradients.

Legend: T tokens, D model, F ffn, G rows of gate_up (2F or F), E experts, N routed pairs, O, I rows
and columns of any weight, C experts and P places each in one run, R places of all runs.

A *run* is a few experts padded to equal counts. Measured on two AMX cores (benchmarks/kernels.py):

* Weights stand on the left (W @ x^T): oneDNN then repacks the few activations and not the weights,
  1.2-1.6 times faster than `linear` below 256 pairs. Two equal columns beat a single one.
* In bf16, neighbouring fine-grained experts share a batched product: 2 times faster from 16 tokens on.
* In fp32, MKL reads weights at full speed for up to 3 pairs, and for 4-15 only in blocks of rows.
* Results are written once and added up by `embedding_bag`, which gathers, weights and sums in fp32.
* Fresh memory costs 0.25 ms a megabyte, so hidden activations reuse one buffer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from moe_core.nn.observe import NULL, Observer
from moe_core.nn.routing import Routing
from moe_core.units import MIB

if TYPE_CHECKING:
    from moe_core.nn.experts import ExpertWeights

MOST_ROWS = 2048  # of one product: bounds the buffer
FEW = 16  # up to here a product is bound by reading the weights
# rows for which the weights stand on the left
COLUMN_ROWS = {torch.bfloat16: range(1, 257), torch.float32: range(FEW + 1, 49)}
BATCH_ROWS = 128  # up to here experts share a batched product, in bf16
BATCH_EXPERTS = 32
HIDDEN_BYTES = 4 * MIB  # hidden activations of several experts: they stay in the second-level caches
SMALL_EXPERT = 2 * MIB  # weights so small that starting a product costs as much as reading them
BLOCK = 32  # rows of a weight block

Index = NDArray[np.int64]


class Run(NamedTuple):
    """Experts computed together, `rows[i]` places for `experts[i]`. `batched`: neighbours, in one product."""

    experts: Sequence[int]
    rows: Sequence[int]
    batched: bool = False

    @property
    def places(self) -> int:
        return sum(self.rows)


class Layout(NamedTuple):
    """Where pairs stand. `place_N` is in pair order; `source_R` is the token at each place."""

    runs: list[Run]
    place_N: Tensor
    source_R: Tensor


def sorted_experts(
    x_TD: Tensor, routing: Routing, weights: ExpertWeights, observer: Observer = NULL
) -> Tensor:
    """[T, D] -> [T, D]. Without gradients, on a CPU."""
    with torch.no_grad():
        with observer.span("dispatch"):
            layout = arrange(routing, weights, x_TD.dtype)
        with observer.span("experts"):
            scale_R1 = _input_scale(layout, routing, x_TD.dtype) if weights.scale_input else None
            y_RD = _compute(x_TD, layout, weights, scale_R1)
        with observer.span("combine"):
            return _add_up(y_RD, layout.place_N, routing, weighted=not weights.scale_input)


def arrange(routing: Routing, weights: ExpertWeights, dtype: torch.dtype) -> Layout:
    """Sorts the pairs and gives each a place. In numpy, whose small operations cost a tenth of torch's."""
    ids_N, token_N = routing.expert_ids_N.numpy(), routing.token_ids_N.numpy()
    order_N = np.argsort(ids_N.astype(np.uint16), kind="stable")  # 16 bits: a radix sort
    load_E = np.bincount(ids_N, minlength=routing.experts)
    runs = list(plan_runs(load_E.tolist(), weights, dtype))
    first_E, places = np.full(routing.experts, -1), 0
    for run in runs:
        for expert, rows in zip(run.experts, run.rows, strict=True):
            if first_E[expert] < 0:  # else a further run of the same expert
                first_E[expert] = places
            places += rows
    shift_E = first_E - (np.cumsum(load_E) - load_E)
    sorted_place_N = np.arange(ids_N.size) + np.repeat(shift_E, load_E)
    place_N, source_R = np.empty_like(sorted_place_N), np.zeros(places, dtype=np.int64)
    place_N[order_N], source_R[sorted_place_N] = sorted_place_N, token_N[order_N]
    return Layout(runs, torch.from_numpy(place_N), torch.from_numpy(source_R))


def plan_runs(load: list[int], weights: ExpertWeights, dtype: torch.dtype) -> Iterator[Run]:
    """Batched runs first, then the experts left over, those with few pairs together."""
    bf16, width = dtype == torch.bfloat16, weights.gate_up_EGD.shape[1] * dtype.itemsize
    batches = list(_batches(load, weights)) if bf16 else []
    yield from batches
    taken = {expert for run in batches for expert in run.experts}
    alone = [expert for expert, rows in enumerate(load) if rows and expert not in taken]
    alone.sort(key=lambda expert: load[expert])
    for rows, members in groupby(alone, lambda e: _rounded(load[e]) if bf16 else max(FEW, load[e])):
        experts, most = list(members), max(1, HIDDEN_BYTES // (rows * width)) if rows <= FEW else 1
        for part in (experts[start : start + most] for start in range(0, len(experts), most)):
            if rows <= FEW:
                yield Run(part, [rows if bf16 else load[expert] for expert in part])
            else:
                yield from (Run(part, [min(rows, MOST_ROWS)]) for _ in range(0, rows, MOST_ROWS))


def _rounded(rows: int) -> int:
    """Rows to compute for `rows` pairs in bf16, which reads a weight in the same time for 2 and for 16."""
    return next((size for size in (2, 4, 8, FEW) if rows <= size), rows)


def _batches(load: list[int], weights: ExpertWeights) -> Iterator[Run]:
    """Stretches of neighbours worth one product: fine-grained experts, or a dozen pairs and more each.

    A stretch ends where padding would exceed a third (or 16 rows an expert, which cost nothing
    beside reading the weights) or hidden activations the cache. Idle experts inside are computed
    too where reading them costs less than starting another product.
    """
    small = weights.down_EDF[0].numel() * 6 <= SMALL_EXPERT and 2 * sum(map(bool, load)) >= len(load)
    width, expert = weights.gate_up_EGD.shape[1] * 2, 0
    while expert < len(load):
        end, most, total = expert, 0, 0
        for last in range(expert, min(len(load), expert + BATCH_EXPERTS)):
            rows, count = load[last], last + 1 - expert
            most, total = max(most, rows), total + rows
            fits = count * most * width <= HIDDEN_BYTES and count * most <= 1.34 * total + 16 * count
            if not fits or rows > BATCH_ROWS or (not small and rows < 12) or not load[expert]:
                break
            end = last + 1 if rows else end
        if end > expert + 1:
            yield Run(range(expert, end), [max(2, *load[expert:end])] * (end - expert), batched=True)
        expert = max(end, expert + 1)


def _input_scale(layout: Layout, routing: Routing, dtype: torch.dtype) -> Tensor:
    """[R, 1]: what the inputs are multiplied by."""
    scale_R1 = torch.zeros(layout.source_R.numel(), 1, dtype=dtype)
    scale_R1[layout.place_N, 0] = routing.weights_N.to(dtype)
    return scale_R1


def _compute(x_TD: Tensor, layout: Layout, weights: ExpertWeights, scale_R1: Tensor | None) -> Tensor:
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
        compute = _columns if run.batched or run.rows[0] in COLUMN_ROWS[x_TD.dtype] else _rows
        compute(x_PD, run, weights, buffer[: run.places * width], y_RD[start:end])
        start = end
    return y_RD


def _rows(x_PD: Tensor, run: Run, weights: ExpertWeights, hidden: Tensor, y_PD: Tensor) -> None:
    """Activations on the left: x @ W^T. Experts may differ in rows."""
    h_PG = hidden.view(x_PD.shape[0], -1)
    _right(x_PD.split(run.rows), weights.gate_up_EGD, run, h_PG.split(run.rows))
    h_PF = _activate(h_PG, weights.gated, 1)
    _right(h_PF.split(run.rows), weights.down_EDF, run, y_PD.split(run.rows))


def _columns(x_PD: Tensor, run: Run, weights: ExpertWeights, hidden: Tensor, y_PD: Tensor) -> None:
    """Weights on the left: W @ x^T. Experts have equal rows."""
    count, rows = len(run.experts), run.rows[0]
    h_CGP = hidden.view(count, -1, rows)
    _left(weights.gate_up_EGD, x_PD.view(count, rows, -1).transpose(1, 2), run, h_CGP)
    h_CFP, y_CPD = _activate(h_CGP, weights.gated, 1), y_PD.view(count, rows, -1)
    if run.batched or rows * 14 < h_CFP.shape[1]:  # transposing the result is cheaper than repacking weights
        y_CDP = y_PD.new_empty(count, y_PD.shape[1], rows)
        _left(weights.down_EDF, h_CFP, run, y_CDP)
        y_CPD.copy_(y_CDP.transpose(1, 2))
    else:
        _right(h_CFP.transpose(1, 2).unbind(0), weights.down_EDF, run, y_CPD.unbind(0))


def _left(weight_EOI: Tensor, x_CIP: Tensor, run: Run, out_COP: Tensor) -> None:
    """out = W @ x, expert by expert or all at once."""
    if run.batched:
        torch.bmm(weight_EOI[run.experts[0] : run.experts[-1] + 1], x_CIP, out=out_COP)
        return
    for expert, x_IP, out_OP in zip(run.experts, x_CIP.unbind(0), out_COP.unbind(0), strict=True):
        torch.mm(weight_EOI[expert], x_IP, out=out_OP)


def _right(xs_PI: Sequence[Tensor], weight_EOI: Tensor, run: Run, outs_PO: Sequence[Tensor]) -> None:
    """out = x @ W^T, expert by expert."""
    fp32 = weight_EOI.dtype == torch.float32
    big = fp32 and weight_EOI[0].numel() >= MIB and weight_EOI.shape[1] % BLOCK == 0
    weight_EIO = weight_EOI.transpose(1, 2)
    for expert, x_PI, out_PO in zip(run.experts, xs_PI, outs_PO, strict=True):
        if big and 4 <= x_PI.shape[0] < FEW:
            _blocked(x_PI, weight_EOI[expert], out_PO)
        else:
            torch.mm(x_PI, weight_EIO[expert], out=out_PO)


def _blocked(x_PI: Tensor, weight_OI: Tensor, out_PO: Tensor) -> None:
    """out = x @ W^T as one batched product over blocks of rows of W."""
    blocks = weight_OI.view(-1, BLOCK, weight_OI.shape[1])
    parts = torch.bmm(x_PI.expand(blocks.shape[0], -1, -1), blocks.transpose(1, 2))
    out_PO.view(x_PI.shape[0], -1, BLOCK).copy_(parts.transpose(0, 1))


def _activate(h: Tensor, gated: bool, dim: int) -> Tensor:
    """silu(gate) * up in place, gate being the first half along `dim`; silu(h) when not gated."""
    if not gated:
        return functional.silu(h, inplace=True)
    gate, up = h.chunk(2, dim)
    return functional.silu(gate, inplace=True).mul_(up)


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
