"""The `sorted` kernel: pairs sorted by expert and computed run by run, on a CPU, without gradients.

Legend: T tokens, D model, F ffn, G rows of gate_up (2F or F), E experts, N routed pairs, O, I rows
and columns of any weight, C experts and P places each in one run, R places of all runs.

A *run* is a few experts padded to equal counts. Measured on two AMX cores (benchmarks/kernels.py):

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

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from moe_core.device import grouped_mm_takes
from moe_core.nn.observe import NULL, Observer
from moe_core.nn.routing import Routing
from moe_core.units import MIB

if TYPE_CHECKING:
    from moe_core.nn.experts import ExpertWeights

MOST_ROWS = 2048  # of one product: bounds the buffer
FEW = 16  # rows up to which a product is bound by reading the weights
BATCH_ROWS = 512  # up to here experts share a batched product, in bf16
BATCH_EXPERTS = 32  # at most, and a quarter of them above MANY rows
MANY = 32
HIDDEN_BYTES = 8 * MIB  # hidden activations of the experts of one run
SMALL_EXPERT = 2 * MIB  # weights so small that starting a product costs as much as reading them
START_COST = 8 * MIB  # of a product, in multiply-adds: some 50 microseconds
SLACK_ROWS = 16
PADDING = 1.25
BLOCK = 32  # rows of a weight block
TRANSPOSE = 10  # writing D x rows transposed is cheaper than repacking D x F weights up to F / rows

# x @ w^T by oneDNN, as torch's own compiler calls it; fp32 has no public way to it. None: not in this build.
_onednn_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


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
    """Every pair in some run. Experts with few pairs share one, in bf16 padded to equal counts."""
    bf16, alone = dtype == torch.bfloat16, load
    if bf16:
        batches = list(_batches(load, weights))
        taken = {expert for run in batches for expert in run.experts}
        alone = [0 if expert in taken else rows for expert, rows in enumerate(load)]
        yield from batches
        yield from _equal_counts(alone, weights)
    elif few := [expert for expert, rows in enumerate(load) if 0 < rows < FEW]:
        yield Run(few, [load[expert] for expert in few])
    for expert, rows in enumerate(alone):
        if rows > FEW or (rows == FEW and not bf16):
            for done in range(0, rows, MOST_ROWS):
                yield Run([expert], [rounded(min(MOST_ROWS, rows - done), dtype)])


def rounded(rows: int, dtype: torch.dtype) -> int:
    """Rows to compute for `rows` pairs, so that few different numbers occur."""
    if dtype == torch.bfloat16 and rows <= FEW:
        return next(size for size in (2, 4, 8, FEW) if rows <= size)
    step = 8 if dtype == torch.float32 else 16 if rows <= 512 else 64
    return -(-rows // step) * step


def _equal_counts(load: list[int], weights: ExpertWeights) -> Iterator[Run]:
    """Experts with few pairs. bf16 reads a weight in the same time for 2 columns and for 16."""
    for rows, low in ((2, 0), (4, 2), (8, 4), (FEW, 8)):
        experts = [expert for expert, pairs in enumerate(load) if low < pairs <= rows]
        most = max(1, HIDDEN_BYTES // (rows * weights.gate_up_EGD.shape[1] * 2))
        for start in range(0, len(experts), most):
            part = experts[start : start + most]
            yield Run(part, [rows] * len(part))


def _batches(load: list[int], weights: ExpertWeights) -> Iterator[Run]:
    """Stretches of neighbours worth one product: fine-grained experts, or a dozen pairs and more each.

    A stretch ends where padding would cost more than starting another product, or hidden
    activations outgrow the cache. Idle experts inside are computed too, where that is cheap.
    """
    width, size = weights.gate_up_EGD.shape[1] * 2, weights.down_EDF[0].numel()
    busy = [expert for expert, rows in enumerate(load) if rows]
    small = size * 6 * len(load) <= SMALL_EXPERT * len(busy)  # bytes to read for each busy expert
    if not small and sum(load) < 12 * len(busy):
        return
    slack = max(SLACK_ROWS, START_COST // size)
    stretch, most, total = range(0), 0, 0
    for expert in busy:
        longer, rows = range(stretch.start, expert + 1), load[expert]
        most, total = max(most, rows), total + rows
        limit = BATCH_EXPERTS if most <= MANY else BATCH_EXPERTS // 4
        joins = stretch and len(longer) <= limit and (small or expert == stretch.stop)
        fits = len(longer) * most * width <= HIDDEN_BYTES and len(longer) * (most - slack) <= PADDING * total
        if joins and fits and most <= BATCH_ROWS:
            stretch = longer
            continue
        yield from _batch(stretch, load)
        stretch, most, total = range(expert, expert + 1), rows, rows
    yield from _batch(stretch, load)


def _batch(stretch: range, load: list[int]) -> Iterator[Run]:
    """The run over a stretch; none for a single expert."""
    if len(stretch) > 1:
        rows = rounded(max(load[stretch.start : stretch.stop]), torch.bfloat16)
        yield Run(stretch, [rows] * len(stretch), batched=True)


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
        compute = _columns if _weights_left(run, weights) else _rows
        compute(x_PD, run, weights, buffer[: run.places * width], y_RD[start:end])
        start = end
    return y_RD


def _weights_left(run: Run, weights: ExpertWeights) -> bool:
    """Whether the weights stand on the left: while repacking them would cost more than it brings."""
    rows = run.rows[0]
    if weights.down_EDF.dtype == torch.float32:
        return FEW <= rows <= 384
    return run.batched or rows <= 128 or rows * 14 <= weights.down_EDF.shape[2]


def _rows(x_PD: Tensor, run: Run, weights: ExpertWeights, hidden: Tensor, y_PD: Tensor) -> None:
    """Activations on the left: x @ W^T. Experts may differ in rows."""
    h_PG = _right(x_PD, weights.gate_up_EGD, run, hidden.view(x_PD.shape[0], -1))
    found_PD = _right(_activate(h_PG, weights.gated, 1), weights.down_EDF, run, y_PD)
    if found_PD is not y_PD:
        y_PD.copy_(found_PD)


def _columns(x_PD: Tensor, run: Run, weights: ExpertWeights, hidden: Tensor, y_PD: Tensor) -> None:
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


def _left(weight_EOI: Tensor, x_CPI: Tensor, run: Run, buffer_COP: Tensor) -> Tensor:
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


def _onednn_wins(weight_EOI: Tensor, run: Run) -> bool:
    """Whether oneDNN beats MKL in fp32."""
    return run.rows[0] <= 160 and (run.rows[0] >= 48 or weight_EOI[0].numel() >= MIB)


def _right(x_PI: Tensor, weight_EOI: Tensor, run: Run, buffer_PO: Tensor) -> Tensor:
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
    blocks = weight_OI.view(-1, BLOCK, weight_OI.shape[1])
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
