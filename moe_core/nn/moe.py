"""The mixture layer: router, routed experts and shared experts, composed.

Legend: T tokens, D model, F expert width, E experts, G = 2F (gated) or F.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moe_core.nn.experts import KERNELS, ExpertWeights
from moe_core.nn.initial import normal
from moe_core.nn.layers import FFN
from moe_core.nn.observe import NULL, Observer
from moe_core.nn.router import build
from moe_core.nn.tuning import NEUTRAL
from moe_core.specs import Experts


class MoE(nn.Module):
    """y = sum of weight * expert(x) over the routed experts of each token, + shared(x).

    All weights are drawn by `seed`; the gate of the shared expert starts at zero, which is a half.
    `kernel` names a strategy of `KERNELS`, `tuning` says what is fast on the device; both may be changed at
    any time. A pass keeps nothing:
    its Routing goes to `observer.routing(layer, routing)`, attached to the graph, which is how a
    training loop reaches it (`observe.RoutingLog`).
    """

    shared: FFN | None
    shared_gate_1D: nn.Parameter | None

    def __init__(self, experts: Experts, hidden: int, gated: bool = True, seed: int = 0) -> None:
        super().__init__()
        self.spec, self.gated, self.kernel, self.tuning = experts, gated, "auto", NEUTRAL
        rows = experts.width * (2 if gated else 1)
        self.router = build(experts, hidden, seed)
        self.gate_up_EGD = normal(experts.count, rows, hidden, seed=seed, part="experts.gate_up")
        self.down_EDF = normal(experts.count, hidden, experts.width, seed=seed, part="experts.down")
        width = experts.shared_total_width
        self.shared = FFN(hidden, width, gated, seed) if width else None
        gate = width and experts.shared_gate
        self.shared_gate_1D = nn.Parameter(torch.zeros(1, hidden)) if gate else None

    @property
    def weights(self) -> ExpertWeights:
        """The routed experts, as kernels take them."""
        scale_input = self.spec.router.kind == "sigmoid_input"
        return ExpertWeights(self.gate_up_EGD, self.down_EDF, self.gated, scale_input, self.tuning)

    def forward(
        self,
        x: Tensor,
        layer: int = 0,
        ids_BS: Tensor | None = None,
        observer: Observer = NULL,
    ) -> Tensor:
        """[..., D] -> [..., D]. `ids_BS`, token ids of x, are read by hash routing only."""
        x_TD = x.reshape(-1, x.shape[-1])
        with observer.span("router"):
            routing = self.router(x_TD, None if ids_BS is None else ids_BS.reshape(-1))
        observer.routing(layer, routing)
        y_TD = KERNELS[self.kernel](x_TD, routing, self.weights, observer)
        if self.shared is not None:
            with observer.span("shared"):
                y_TD = y_TD + self.shared_output(x_TD)
        return y_TD.reshape(x.shape)

    def shared_output(self, x_TD: Tensor) -> Tensor:
        """[T, D] of the shared experts, with their gate; there must be some."""
        assert self.shared is not None
        y_TD: Tensor = self.shared(x_TD)
        if self.shared_gate_1D is None:
            return y_TD
        return y_TD * torch.nn.functional.linear(x_TD, self.shared_gate_1D).sigmoid()
