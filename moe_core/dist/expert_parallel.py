"""Expert parallelism: the experts of a mixture layer dealt out over ranks, tokens sent to them and back.

Rank r of R holds experts r E/R to (r + 1) E/R - 1; tokens, router and shared experts are its own. Equal to the
whole layer on one device (GShard, arXiv 2006.16668, section 3.2; no capacity, nothing is dropped).
Legend: T tokens of this rank, D model, E experts, N routed pairs, M rows that this rank's experts get.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn

from moe_core.errors import ConfigError
from moe_core.nn import dispatcher
from moe_core.nn.dispatcher import DispatchPlan
from moe_core.nn.experts import KERNELS
from moe_core.nn.moe import MoE
from moe_core.nn.observe import NULL, Observer
from moe_core.nn.routing import Routing


class Splits(NamedTuple):
    """Rows to and from every rank, and those from each rank for each expert here, [R, E / R]."""

    sent: list[int]
    received: list[int]
    received_RE: Tensor


class Packed(NamedTuple):
    """Tokens on their way: what is known of them, and a row a pair in expert order, so in rank order."""

    routing: Routing
    plan: DispatchPlan
    rows_ND: Tensor


class ExpertParallel(nn.Module):
    """`layer`, of which this rank keeps its share of the experts. Every rank makes it from an equal layer.

    Spans: router, pack, dispatch, experts, combine, unpack. Dispatch and combine are the all-to-alls alone,
    waiting for the other ranks included.
    """

    def __init__(self, layer: MoE) -> None:
        super().__init__()
        ranks, rank = distributed.get_world_size(), distributed.get_rank()
        if layer.spec.count % ranks:
            raise ConfigError(f"ranks ({ranks}): must divide experts ({layer.spec.count})")
        if layer.weights.scale_input:
            raise ConfigError(f"router.kind ({layer.spec.router.kind}): must weigh outputs to be spread")
        self.ranks, self.held = ranks, layer.spec.count // ranks
        mine = slice(rank * self.held, (rank + 1) * self.held)
        self.layer = layer
        layer.gate_up_EGD = nn.Parameter(layer.gate_up_EGD.detach()[mine].clone())
        layer.down_EDF = nn.Parameter(layer.down_EDF.detach()[mine].clone())

    def forward(self, x_TD: Tensor, observer: Observer = NULL) -> Tensor:
        """[T, D] -> [T, D], of this rank's own tokens; all ranks call it together."""
        packed = self._pack(x_TD, observer)
        with observer.span("dispatch"):
            splits = self._splits(packed)
            rows_MD = exchange(packed.rows_ND, splits.sent, splits.received)
        with observer.span("experts"):
            y_MD = self._experts(rows_MD, splits)
        with observer.span("combine"):
            y_ND = exchange(y_MD, splits.received, splits.sent)
        return self._unpack(x_TD, y_ND, packed, observer)

    @torch.no_grad()
    def overlapped(self, x_TD: Tensor) -> Tensor:
        """The same without gradients, in two halves: while one is under way the other is computed."""
        parts_TD = x_TD.chunk(2)
        packed = [self._pack(part_TD, NULL) for part_TD in parts_TD]
        splits = [self._splits(one) for one in packed]
        there = [
            _Flight(one.rows_ND, split.sent, split.received)
            for one, split in zip(packed, splits, strict=True)
        ]
        back = [
            _Flight(self._experts(flight.land(), split), split.received, split.sent)
            for flight, split in zip(there, splits, strict=True)
        ]
        rows = zip(parts_TD, back, packed, strict=True)
        return torch.cat([self._unpack(part_TD, flight.land(), one, NULL) for part_TD, flight, one in rows])

    def _pack(self, x_TD: Tensor, observer: Observer) -> Packed:
        with observer.span("router"):
            routing = self.layer.router(x_TD)
        with observer.span("pack"):
            plan = dispatcher.plan(routing)
            return Packed(routing, plan, dispatcher.dispatch(x_TD, plan))

    def _splits(self, packed: Packed) -> Splits:
        load_E = torch.tensor(dispatcher.load_of(packed.plan))
        received_E = torch.empty_like(load_E)
        distributed.all_to_all_single(received_E, load_E)
        received_RE = received_E.view(self.ranks, self.held)
        sent: list[int] = load_E.view(self.ranks, self.held).sum(1).tolist()
        received: list[int] = received_RE.sum(1).tolist()
        return Splits(sent, received, received_RE)

    def _experts(self, rows_MD: Tensor, splits: Splits) -> Tensor:
        weights = self.layer.weights
        if not len(rows_MD):  # in the graph all the same: every rank takes part in the way back
            return rows_MD + 0.0 * (weights.gate_up_EGD.sum() + weights.down_EDF.sum())
        experts_M = torch.arange(self.held).repeat(self.ranks)
        experts_M = experts_M.repeat_interleave(splits.received_RE.flatten()).to(rows_MD.device)
        count, scores_ME = len(rows_MD), rows_MD.new_zeros(len(rows_MD), self.held)
        local = Routing(torch.arange(count), experts_M, rows_MD.new_ones(count), scores_ME, per_token=1)
        return KERNELS[self.layer.kernel](rows_MD, local, weights)

    def _unpack(self, x_TD: Tensor, y_ND: Tensor, packed: Packed, observer: Observer) -> Tensor:
        with observer.span("unpack"):
            y_TD = dispatcher.combine(y_ND, packed.plan, packed.routing)
        if self.layer.shared is None:
            return y_TD
        with observer.span("shared"):
            return y_TD + self.layer.shared_output(x_TD)


class _Flight:
    """Rows that are being sent."""

    def __init__(self, rows: Tensor, sent: list[int], received: list[int]) -> None:
        self._rows = rows.contiguous()  # alive until it has landed
        self._got = rows.new_empty(sum(received), rows.shape[1])
        self._work: Any = distributed.all_to_all_single(self._got, self._rows, received, sent, async_op=True)

    def land(self) -> Tensor:
        """What the other ranks sent here."""
        self._work.wait()
        return self._got


class _Exchange(torch.autograd.Function):
    """All-to-all of rows; gradients go the way back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
        ctx.splits = sent, received
        return _sent(rows, sent, received)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        sent, received = ctx.splits
        return _sent(gradients[0], received, sent), None, None


def exchange(rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
    """[N, D] in rank order, `sent[r]` rows to rank r -> [M, D], `received[r]` rows from rank r."""
    found: Tensor = _Exchange.apply(rows, sent, received)
    return found


def _sent(rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
    got = rows.new_empty(sum(received), rows.shape[1])
    distributed.all_to_all_single(got, rows.contiguous(), received, sent)
    return got
