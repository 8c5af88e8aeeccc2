"""Layout of the `sorted` kernel: which experts are computed together, and where each pair stands.

Legend: E experts, N routed pairs, R places of all runs.

A *run* is a few experts, in bf16 padded to equal counts. The thresholds are measurements on two
AMX cores (benchmarks/README.md); any other value gives the same results in other times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

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
WORTH_ROWS = 12  # pairs an expert from which bigger experts gain from sharing a product
START_COST = 8 * MIB  # of a product, in multiply-adds: some 50 microseconds
SLACK_ROWS = 16  # of padding an expert, that cost nothing beside reading its weights
PADDING = 1.25  # places per pair, slack aside


class ExpertRun(NamedTuple):
    """Experts computed together, `rows[i]` places for `experts[i]`. `batched`: neighbours, in one product."""

    experts: Sequence[int]
    rows: Sequence[int]
    batched: bool = False

    @property
    def places(self) -> int:
        return sum(self.rows)


class SortedLayout(NamedTuple):
    """Where pairs stand. `place_N` is in pair order; `source_R` is the token at each place."""

    runs: list[ExpertRun]
    place_N: Tensor
    source_R: Tensor


def arrange(routing: Routing, weights: ExpertWeights, dtype: torch.dtype) -> SortedLayout:
    """Sorts the pairs and gives each a place. In numpy, whose small operations cost a tenth of torch's."""
    ids_N, token_N = routing.expert_ids_N.numpy(), routing.token_ids_N.numpy()
    short_N = ids_N.astype(np.uint16) if routing.experts <= 2**16 else ids_N  # 16 bits: a radix sort
    order_N = np.argsort(short_N, kind="stable")
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
    return SortedLayout(runs, torch.from_numpy(place_N), torch.from_numpy(source_R))


def plan_runs(load: list[int], weights: ExpertWeights, dtype: torch.dtype) -> Iterator[ExpertRun]:
    """Every pair in some run. Experts with few pairs share one, in bf16 padded to equal counts."""
    bf16, alone = dtype == torch.bfloat16, load
    if bf16:
        batches = list(_batches(load, weights))
        taken = {expert for run in batches for expert in run.experts}
        alone = [0 if expert in taken else rows for expert, rows in enumerate(load)]
        yield from batches
        yield from _equal_counts(alone, weights)
    elif few := [expert for expert, rows in enumerate(load) if 0 < rows < FEW]:
        yield ExpertRun(few, [load[expert] for expert in few])
    for expert, rows in enumerate(alone):
        if rows > FEW or (rows == FEW and not bf16):
            for done in range(0, rows, MOST_ROWS):
                yield ExpertRun([expert], [rounded(min(MOST_ROWS, rows - done), dtype)])


def rounded(rows: int, dtype: torch.dtype) -> int:
    """Rows to compute for `rows` pairs, so that few different numbers occur."""
    if dtype == torch.bfloat16 and rows <= FEW:
        return next(size for size in (2, 4, 8, FEW) if rows <= size)
    step = 8 if dtype != torch.bfloat16 else 16 if rows <= 512 else 64
    return -(-rows // step) * step


def _equal_counts(load: list[int], weights: ExpertWeights) -> Iterator[ExpertRun]:
    """Experts with few pairs. bf16 reads a weight in the same time for 2 columns and for 16."""
    for rows, low in ((2, 0), (4, 2), (8, 4), (FEW, 8)):
        experts = [expert for expert, pairs in enumerate(load) if low < pairs <= rows]
        most = max(1, HIDDEN_BYTES // (rows * weights.gate_up_EGD.shape[1] * 2))
        for start in range(0, len(experts), most):
            part = experts[start : start + most]
            yield ExpertRun(part, [rows] * len(part))


def _batches(load: list[int], weights: ExpertWeights) -> Iterator[ExpertRun]:
    """Stretches of neighbours worth one product: fine-grained experts, or a dozen pairs and more each.

    A stretch ends where padding would cost more than starting another product, or hidden
    activations outgrow the cache. Idle experts inside are computed too, where that is cheap.
    """
    width, size = weights.gate_up_EGD.shape[1] * 2, weights.down_EDF[0].numel()
    busy = [expert for expert, rows in enumerate(load) if rows]
    small = size * 6 * len(load) <= SMALL_EXPERT * len(busy)  # bytes to read for each busy expert
    if not small and sum(load) < WORTH_ROWS * len(busy):
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


def _batch(stretch: range, load: list[int]) -> Iterator[ExpertRun]:
    """The run over a stretch; none for a single expert."""
    if len(stretch) > 1:
        rows = rounded(max(load[stretch.start : stretch.stop]), torch.bfloat16)
        yield ExpertRun(stretch, [rows] * len(stretch), batched=True)
