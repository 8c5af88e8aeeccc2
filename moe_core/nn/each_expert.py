"""The `each` kernel: one expert that is hit after another, in the way this device does its rows fastest.

Legend: T tokens, D model, F ffn, G rows of gate_up (2F or F), E experts, N routed pairs, P pairs of one
expert, S the same and spare ones, W elements of a buffer.

On a CPU, without gradients. Which way is fastest at how many rows differs between processors and libraries
by factors, so it is measured (`moe_core.nn.tuning`, "expert"); without a measurement it is `right`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from moe_core.device import DTYPES
from moe_core.nn.numerics import refuse_gradients, refuse_other_than_cpu
from moe_core.nn.observe import NULL, Observer
from moe_core.nn.routing import Routing
from moe_core.nn.sorted_experts import BLOCK, _add_up, _onednn_linear

if TYPE_CHECKING:
    from moe_core.nn.experts import ExpertWeights

MOST_ROWS = 1024  # of one product: bounds the buffers
SPARE = 7  # rows of whoever comes next, behind those of an expert: some ways round up
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Expert(NamedTuple):
    """The weights of one expert."""

    gate_up_GD: Tensor
    down_DF: Tensor
    gated: bool


# x_SD (the rows of the expert, and spare ones), expert, buffer_W for hidden values, y_PD to be written
Way = Callable[[Tensor, Expert, Tensor, Tensor], None]


def each_expert(x_TD: Tensor, routing: Routing, weights: ExpertWeights, observer: Observer = NULL) -> Tensor:
    """[T, D] -> [T, D]. On a CPU, without gradients. Raises ConfigError elsewhere."""
    refuse_other_than_cpu("each", x_TD.device)
    refuse_gradients("each", x_TD, routing.weights_N, weights.gate_up_EGD, weights.down_EDF)
    with torch.no_grad():
        with observer.span("dispatch"):
            load, place_N, source_N = _order(routing)
            spare_N = source_N.new_zeros(SPARE if source_N.numel() else 0)
            x_ND = x_TD.index_select(0, torch.cat((source_N, spare_N)))  # the last rows only fill products up
            if weights.scale_input:
                x_ND[place_N] *= routing.weights_N[:, None].to(x_TD.dtype)
        with observer.span("experts"):
            y_ND = _compute(x_ND, load, weights)
        with observer.span("combine"):
            return _add_up(y_ND, place_N, routing, weighted=not weights.scale_input)


def _order(routing: Routing) -> tuple[list[int], Tensor, Tensor]:
    """Pairs of each expert; of each pair its place in expert order; of each place its token."""
    ids_N = routing.expert_ids_N.numpy()
    short_N = ids_N.astype(np.uint16) if routing.experts <= 2**16 else ids_N  # 16 bits: a radix sort
    order_N = np.argsort(short_N, kind="stable")
    place_N = np.empty_like(order_N)
    place_N[order_N] = np.arange(order_N.size)
    load = np.bincount(ids_N, minlength=routing.experts).tolist()
    return load, torch.from_numpy(place_N), torch.from_numpy(routing.token_ids_N.numpy()[order_N])


def _compute(x_ND: Tensor, load: list[int], weights: ExpertWeights) -> Tensor:
    """[N, D]: every pair through its expert."""
    find, y_ND = _finder(weights, x_ND.dtype), x_ND.new_empty(sum(load), x_ND.shape[1])
    most, start = min(max(load, default=0), MOST_ROWS), 0
    buffer_W = x_ND.new_empty(most * weights.gate_up_EGD.shape[1])
    for number, pairs in enumerate(load):
        for done in range(0, pairs, MOST_ROWS):
            stop = start + min(MOST_ROWS, pairs - done)
            expert = Expert(weights.gate_up_EGD[number], weights.down_EDF[number], weights.gated)
            find(stop - start)(x_ND[start : stop + SPARE], expert, buffer_W, y_ND[start:stop])
            start = stop
    return y_ND


def _finder(weights: ExpertWeights, dtype: torch.dtype) -> Callable[[int], Way]:
    """Rows -> the way to take with these weights, were they of this dtype."""
    elements = weights.gate_up_EGD[0].numel() + weights.down_EDF[0].numel()
    ladder, known = weights.tuning.ladder("expert", NAMES.get(dtype, ""), elements), ways(weights, dtype)
    if ladder is None:
        return lambda rows: _right
    return lambda rows: known.get(ladder.at(rows), _right)


def ways(weights: ExpertWeights, dtype: torch.dtype) -> dict[str, Way]:
    """The ways there are for weights of this shape and dtype, in this build of torch."""
    width, hidden = weights.gate_up_EGD.shape[1:]
    found: dict[str, Way] = {"right": _right, "left": _left}
    if dtype == torch.float32 and _onednn_linear is not None:
        found |= {"onednn": _onednn, "onednn_left": _onednn_left}
    if dtype == torch.float32 and width % BLOCK == 0 and hidden % BLOCK == 0:
        found["blocked"] = _blocks
    if dtype == torch.bfloat16:
        found["widened"] = _Widened(_finder(weights, torch.float32))
    return found


def _right(x_SD: Tensor, expert: Expert, buffer_W: Tensor, y_PD: Tensor) -> None:
    """x @ W^T."""
    x_PD = x_SD[: y_PD.shape[0]]
    h_PG = _view(buffer_W, x_PD.shape[0], expert.gate_up_GD.shape[0])
    torch.mm(x_PD, expert.gate_up_GD.t(), out=h_PG)
    torch.mm(_activated(h_PG, expert.gated, 1), expert.down_DF.t(), out=y_PD)


def _left(x_SD: Tensor, expert: Expert, buffer_W: Tensor, y_PD: Tensor) -> None:
    """(W @ x^T)^T: libraries that repack their right factor then repack the small one."""
    x_PD = x_SD[: y_PD.shape[0]]
    h_GP = _view(buffer_W, expert.gate_up_GD.shape[0], x_PD.shape[0])
    torch.mm(expert.gate_up_GD, x_PD.t(), out=h_GP)
    y_PD.copy_(torch.mm(expert.down_DF, _activated(h_GP, expert.gated, 0)).t())


def _onednn(x_SD: Tensor, expert: Expert, buffer_W: Tensor, y_PD: Tensor) -> None:
    """x @ W^T by oneDNN, where `torch.mm` calls MKL or OpenBLAS."""
    h_SG = _product(_rounded(x_SD, y_PD), expert.gate_up_GD)
    y_PD.copy_(_product(_activated(h_SG, expert.gated, 1), expert.down_DF)[: y_PD.shape[0]])


def _onednn_left(x_SD: Tensor, expert: Expert, buffer_W: Tensor, y_PD: Tensor) -> None:
    """(W @ x^T)^T by oneDNN."""
    h_GS = _product(expert.gate_up_GD, _rounded(x_SD, y_PD))
    y_DS = _product(expert.down_DF, _activated(h_GS, expert.gated, 0).t())
    y_PD.copy_(y_DS.t()[: y_PD.shape[0]])


def _rounded(x_SD: Tensor, y_PD: Tensor) -> Tensor:
    """The rows of the expert and some spare ones: oneDNN compiles a kernel for each number it has not met."""
    rows = y_PD.shape[0]
    return x_SD[: 1 << (rows - 1).bit_length() if rows <= 8 else -(-rows // 8) * 8]


def _blocks(x_SD: Tensor, expert: Expert, buffer_W: Tensor, y_PD: Tensor) -> None:
    """x @ W^T as one batched product over blocks of rows of W."""
    x_PD = x_SD[: y_PD.shape[0]]
    h_PG = _view(buffer_W, x_PD.shape[0], expert.gate_up_GD.shape[0])
    blocked(x_PD, expert.gate_up_GD, h_PG)
    blocked(_activated(h_PG, expert.gated, 1), expert.down_DF, y_PD)


class _Widened:
    """bf16 weights converted to fp32 as they are needed: where the device multiplies no bf16."""

    def __init__(self, find: Callable[[int], Way]) -> None:
        self._find = find
        self._rooms: dict[torch.Size, Tensor] = {}

    def __call__(self, x_SD: Tensor, expert: Expert, buffer_W: Tensor, y_PD: Tensor) -> None:
        wide = Expert(self._wide(expert.gate_up_GD), self._wide(expert.down_DF), expert.gated)
        found_PD, rows = torch.empty(y_PD.shape), y_PD.shape[0]
        hidden_W = found_PD.new_empty(rows * expert.gate_up_GD.shape[0])
        self._find(rows)(x_SD.float(), wide, hidden_W, found_PD)
        y_PD.copy_(found_PD)

    def _wide(self, weight: Tensor) -> Tensor:
        return self._room(weight.shape).copy_(weight)

    def _room(self, shape: torch.Size) -> Tensor:
        """Memory for a shape, the same every time: new pages cost as much as the product."""
        if shape not in self._rooms:
            self._rooms[shape] = torch.empty(shape)
        return self._rooms[shape]


def blocked(x_PI: Tensor, weight_OI: Tensor, out_PO: Tensor) -> None:
    """out = x @ W^T as one batched product over blocks of rows of W."""
    blocks = weight_OI.reshape(-1, BLOCK, weight_OI.shape[1])
    parts = torch.bmm(x_PI.expand(blocks.shape[0], -1, -1), blocks.transpose(1, 2))
    out_PO.view(x_PI.shape[0], -1, BLOCK).copy_(parts.transpose(0, 1))


def _product(left_PI: Tensor, right_OI: Tensor) -> Tensor:
    assert _onednn_linear is not None
    found_PO: Tensor = _onednn_linear(left_PI, right_OI, None, "none", [], "")
    return found_PO


def _view(buffer_W: Tensor, rows: int, columns: int) -> Tensor:
    return buffer_W[: rows * columns].view(rows, columns)


def _activated(h: Tensor, gated: bool, dim: int) -> Tensor:
    """silu(gate) * up along `dim`, or silu(h). Overwrites h."""
    if not gated:
        return functional.silu(h, inplace=True)
    gate, up = h.chunk(2, dim)
    gate = functional.silu(gate, inplace=True)
    return gate.mul_(up) if dim == 0 else gate * up  # halves of columns are strided: a new one reads faster
