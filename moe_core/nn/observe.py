"""Observer: how a forward pass tells an onlooker what it is doing, without keeping anything itself.

`forward` methods take `observer=NULL`, open a span around each component and announce each
layer's routing. Timers, recorders and training losses are observers; the model knows none of them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from moe_core.nn.routing import Routing

_NOTHING = nullcontext()  # reusable and stateless: one for everybody


class Observer(Protocol):
    """What a pass announces. Spans are not nested, so their times add up."""

    def span(self, component: str) -> AbstractContextManager[None]:
        """Surrounds one component: attention, router, dispatch, experts, combine, shared, ffn, norm, ..."""

    def routing(self, layer: int, routing: Routing) -> None:
        """Announces the routing of `layer`, still attached to the autograd graph when there is one."""


class Null:
    """The observer that looks away."""

    def span(self, component: str) -> AbstractContextManager[None]:
        return _NOTHING

    def routing(self, layer: int, routing: Routing) -> None:
        pass


NULL = Null()


class RoutingLog(Null):
    """Collects every routing of a pass, in layer order: what a balance loss or a recorder reads.

    `log = RoutingLog(); model(ids, observer=log); loss += sum(switch_loss(r) for _, r in log.seen)`.
    Use a new one for every pass.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[int, Routing]] = []

    def routing(self, layer: int, routing: Routing) -> None:
        self.seen.append((layer, routing))
