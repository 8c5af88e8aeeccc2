"""Expert kernels: strategies for computing all routed experts, one signature, one table.

Legend: T tokens, D model, F ffn, E experts, N routed pairs, P pairs of one expert.
`kernel(x_TD, routing, weights, observer=None) -> y_TD`. Every kernel equals `loop`, the oracle,
in output and in gradients (input, routing weights, expert weights).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from moe_core.nn.routing import Routing

if TYPE_CHECKING:
    from moe_core.nn.observe import Observer


class ExpertWeights(NamedTuple):
    """Weights of all routed experts of a layer, rows as `functional.linear` wants them.

    gate_up_EGD  [E, 2F, D], gate rows first, then up rows; [E, F, D] when not gated.
    down_EDF     [E, D, F].
    gated        silu(gate) * up when true, silu(up) when false.
    scale_input  the routing weight multiplies the expert's input, not its output (Llama-4).
    """

    gate_up_EGD: Tensor
    down_EDF: Tensor
    gated: bool = True
    scale_input: bool = False


Kernel = Callable[..., Tensor]


def activate(h: Tensor, gated: bool) -> Tensor:
    """[..., 2F] -> [..., F] (gated) or [..., F] -> [..., F]."""
    if not gated:
        return functional.silu(h)
    gate, up = h.chunk(2, dim=-1)
    return functional.silu(gate) * up


def loop(x_TD: Tensor, routing: Routing, weights: ExpertWeights, observer: Observer | None = None) -> Tensor:
    """The oracle: one expert after another, its tokens gathered, its outputs added in fp32."""
    y_TD = torch.zeros_like(x_TD, dtype=torch.float32)
    for expert in range(weights.gate_up_EGD.shape[0]):
        pairs_P = (routing.expert_ids_N == expert).nonzero().squeeze(1)
        tokens_P, scale_P1 = routing.token_ids_N[pairs_P], routing.weights_N[pairs_P, None]
        x_PD = x_TD[tokens_P]
        if weights.scale_input:
            x_PD = (x_PD * scale_P1).to(x_TD.dtype)
        h_PF = activate(functional.linear(x_PD, weights.gate_up_EGD[expert]), weights.gated)
        y_PD = functional.linear(h_PF, weights.down_EDF[expert]).float()
        y_TD = y_TD.index_add(0, tokens_P, y_PD if weights.scale_input else y_PD * scale_P1)
    return y_TD.to(x_TD.dtype)


def auto(x_TD: Tensor, routing: Routing, weights: ExpertWeights, observer: Observer | None = None) -> Tensor:
    """Picks by device, dtype and shape."""
    return loop(x_TD, routing, weights, observer)


KERNELS: dict[str, Kernel] = {"loop": loop, "auto": auto}
