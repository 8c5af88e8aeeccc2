"""Expert kernels: strategies for computing all routed experts, one signature, one table.

Legend: T tokens, D model, F ffn, G rows of gate_up (2F gated, else F), E experts, N routed pairs,
M places of one expert, R places of all experts, P pairs of one expert.
`kernel(x_TD, routing, weights, observer) -> y_TD`. Every kernel equals `loop`, the oracle, in
output and in gradients (input, routing weights, expert weights). Spans: dispatch (sorting and
gathering), experts (matrix products), combine (weighting and adding up).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from moe_core.device import grouped_mm_takes
from moe_core.nn.dispatcher import DispatchPlan, combine, dispatch, load_of, plan, to_pair_order
from moe_core.nn.each_expert import NAMES, each_expert
from moe_core.nn.numerics import take, wants_gradients, wide, wide_dtype
from moe_core.nn.observe import NULL, Observer
from moe_core.nn.routing import Routing
from moe_core.nn.sorted_experts import sorted_experts
from moe_core.nn.tuning import NEUTRAL, Tuning, What
from moe_core.units import KIB, MIB


class ExpertWeights(NamedTuple):
    """Weights of all routed experts of a layer, rows as `functional.linear` wants them.

    gate_up_EGD  [E, 2F, D], gate rows first, then up rows; [E, F, D] when not gated.
    down_EDF     [E, D, F].
    gated        silu(gate) * up when true, silu(up) when false.
    scale_input  the routing weight multiplies the expert's input, not its output (Llama-4).
    tuning       what is fast on the device they lie on; any other gives the same results.
    """

    gate_up_EGD: Tensor
    down_EDF: Tensor
    gated: bool = True
    scale_input: bool = False
    tuning: Tuning = NEUTRAL


class Kernel(Protocol):
    """A way to compute sum over experts of weight * expert(x). [T, D] -> [T, D], same dtype."""

    def __call__(
        self, x_TD: Tensor, routing: Routing, weights: ExpertWeights, observer: Observer = NULL
    ) -> Tensor: ...


# A gathered pair copies its expert's weights: at most so many bytes on a GPU. Copying wins while it takes
# less time than starting the dozen small operations of the grouped or padded kernel. From a trial on an H100
# with torch 2.11, of kernels before these; measured again by `make gpu`.
GATHER_BYTES_GROUPED = 384 * MIB
GATHER_BYTES_PADDED = 1024 * MIB
TINY_EXPERT = 512 * KIB  # gate_up weights, on a CPU in fp32
PADDED_PAIRS = 64  # an expert, on a CPU in bf16 with gradients: beyond, padding costs more than it saves
MOST_PADDING = 4  # places per pair beyond which `padded` leaves the work to `grouped`


def activate(h: Tensor, gated: bool) -> Tensor:
    """[..., 2F] -> [..., F] (gated) or [..., F] -> [..., F]."""
    if not gated:
        return functional.silu(h)
    gate, up = h.chunk(2, dim=-1)
    return functional.silu(gate) * up


def loop(x_TD: Tensor, routing: Routing, weights: ExpertWeights, observer: Observer = NULL) -> Tensor:
    """The oracle: one expert after another, its tokens gathered, its outputs added in at least fp32."""
    y_TD = torch.zeros_like(x_TD, dtype=wide_dtype(x_TD.dtype))
    wide_TD = wide(x_TD)  # where the gradients of a token's pairs meet
    for expert in range(weights.gate_up_EGD.shape[0]):
        with observer.span("dispatch"):
            pairs_P = (routing.expert_ids_N == expert).nonzero().squeeze(1)
            tokens_P, scale_P1 = routing.token_ids_N[pairs_P], routing.weights_N[pairs_P, None]
            x_PD = wide_TD[tokens_P].to(x_TD.dtype)
        with observer.span("experts"):
            if weights.scale_input:
                x_PD = (x_PD * scale_P1).to(x_TD.dtype)
            h_PF = activate(functional.linear(x_PD, weights.gate_up_EGD[expert]), weights.gated)
            y_PD = wide(functional.linear(h_PF, weights.down_EDF[expert]))
        with observer.span("combine"):
            y_TD = y_TD.index_add(0, tokens_P, y_PD if weights.scale_input else y_PD * scale_P1)
    return y_TD.to(x_TD.dtype)


def grouped(x_TD: Tensor, routing: Routing, weights: ExpertWeights, observer: Observer = NULL) -> Tensor:
    """Pairs sorted by expert, two grouped products.

    Never waits for a device that has a grouped product in this dtype (`supports_grouped_mm`). Any other
    multiplies expert by expert, for which the host reads the loads: one wait.
    """
    with observer.span("dispatch"):
        order = plan(routing)
        load = None if _groups(x_TD, routing, weights) else load_of(order)
    return _grouped(x_TD, routing, weights, observer, order, load)


def padded(x_TD: Tensor, routing: Routing, weights: ExpertWeights, observer: Observer = NULL) -> Tensor:
    """Every expert padded to the greatest load, two batched products. `grouped` when loads are skewed.

    Waits for the device once: how long the products are is known when the greatest load is.
    """
    with observer.span("dispatch"):
        order = plan(routing)
        load = load_of(order)
        pairs, count, most = routing.expert_ids_N.numel(), len(load), max(load)
    if count * most > MOST_PADDING * (pairs + 16 * count):
        return _grouped(x_TD, routing, weights, observer, order, load)
    with observer.span("dispatch"):
        x_ND = _scaled(dispatch(x_TD, order), routing, order, weights)
        load_E = torch.diff(order.ends_E, prepend=order.ends_E.new_zeros(1))
        shift_E = torch.arange(count, device=x_TD.device) * most - (order.ends_E - load_E)
        shift_N = shift_E.repeat_interleave(load_E, output_size=pairs)  # without the size it waits
        place_N = torch.arange(pairs, device=x_TD.device) + shift_N
        x_RD = x_ND.new_zeros(count * most, x_ND.shape[1]).index_copy(0, place_N, x_ND)
        x_EMD = x_RD.view(count, most, x_ND.shape[1])
    with observer.span("experts"):
        h_EMF = activate(torch.bmm(x_EMD, weights.gate_up_EGD.transpose(1, 2)), weights.gated)
        y_EMD = torch.bmm(h_EMF, weights.down_EDF.transpose(1, 2))
    with observer.span("combine"):
        return _weighted_sum(y_EMD.flatten(0, 1).index_select(0, place_N), order, routing, weights)


def gather(x_TD: Tensor, routing: Routing, weights: ExpertWeights, observer: Observer = NULL) -> Tensor:
    """Every pair with its own copy of the weights, batched: few operations, much traffic. For decoding."""
    with observer.span("dispatch"):
        numbers_N = torch.arange(routing.expert_ids_N.numel(), device=x_TD.device)
        order = DispatchPlan(numbers_N, routing.token_ids_N, numbers_N)  # the pairs as they are
        x_ND = _scaled(dispatch(x_TD, order), routing, order, weights)
    with observer.span("experts"):
        h_NG1 = torch.bmm(take(weights.gate_up_EGD, routing.expert_ids_N), x_ND.unsqueeze(2))
        h_NF1 = activate(h_NG1.squeeze(2), weights.gated).unsqueeze(2)
        y_ND = torch.bmm(take(weights.down_EDF, routing.expert_ids_N), h_NF1).squeeze(2)
    with observer.span("combine"):
        return _weighted_sum(y_ND, order, routing, weights, sort=False)


def auto(x_TD: Tensor, routing: Routing, weights: ExpertWeights, observer: Observer = NULL) -> Tensor:
    """The kernel that `choose` names."""
    gradients = _wants_gradients(x_TD, routing, weights)
    name = choose(x_TD.device, x_TD.dtype, routing.expert_ids_N.numel(), weights, gradients)
    return KERNELS[name](x_TD, routing, weights, observer)


def choose(
    device: torch.device, dtype: torch.dtype, pairs: int, weights: ExpertWeights, gradients: bool
) -> str:
    """The fastest kernel for `pairs` routed pairs: on a CPU what its tuning says, where it has one.

    Without one the documented defaults (benchmarks/README.md). A GPU gathers while that is little work,
    then groups in bf16 and pads in other dtypes, for which it has no grouped product.
    """
    sizes = (*weights.gate_up_EGD.shape[1:], weights.down_EDF.shape[2])
    groups = grouped_mm_takes(device, dtype, *sizes)
    if device.type == "cpu":
        return _choose_on_cpu(dtype, pairs, weights, gradients, groups)
    expert_bytes = (weights.gate_up_EGD[0].numel() + weights.down_EDF[0].numel()) * dtype.itemsize
    if not gradients and pairs * expert_bytes <= (GATHER_BYTES_GROUPED if groups else GATHER_BYTES_PADDED):
        return "gather"
    return "grouped" if groups else "padded"


def _choose_on_cpu(
    dtype: torch.dtype, pairs: int, weights: ExpertWeights, gradients: bool, groups: bool
) -> str:
    """What was measured; else sorted, unless gradients are wanted or fp32 experts are tiny: a loop in C++."""
    each, count = weights.gate_up_EGD[0].numel() + weights.down_EDF[0].numel(), weights.gate_up_EGD.shape[0]
    what: What = "training" if gradients else "bank"
    known = weights.tuning.best(what, NAMES.get(dtype, ""), each, pairs / count)
    if known is not None and (groups or known != "grouped"):
        return known
    if dtype == torch.float32 and groups and (gradients or weights.gate_up_EGD[0].nbytes <= TINY_EXPERT):
        return "grouped"
    if not gradients:
        return "sorted"
    return "padded" if not groups or pairs < PADDED_PAIRS * weights.gate_up_EGD.shape[0] else "grouped"


def _wants_gradients(x_TD: Tensor, routing: Routing, weights: ExpertWeights) -> bool:
    return wants_gradients(x_TD, routing.weights_N, weights.gate_up_EGD, weights.down_EDF)


def _scaled(x_ND: Tensor, routing: Routing, order: DispatchPlan, weights: ExpertWeights) -> Tensor:
    """The inputs of the experts, multiplied by the routing weights where that is the rule."""
    if not weights.scale_input:
        return x_ND
    return (x_ND * routing.weights_N[order.order_N, None]).to(x_ND.dtype)


def _groups(x_TD: Tensor, routing: Routing, weights: ExpertWeights) -> bool:
    """Whether `functional.grouped_mm` takes both products."""
    sizes = (*weights.gate_up_EGD.shape[1:], weights.down_EDF.shape[2])
    return bool(routing.expert_ids_N.numel()) and grouped_mm_takes(x_TD.device, x_TD.dtype, *sizes)


def _grouped(
    x_TD: Tensor,
    routing: Routing,
    weights: ExpertWeights,
    observer: Observer,
    order: DispatchPlan,
    load: list[int] | None,
) -> Tensor:
    """`grouped` with the pairs sorted already. `load`, pairs of each expert: None lets the device read it."""
    with observer.span("dispatch"):
        x_ND = _scaled(dispatch(x_TD, order), routing, order, weights)
    with observer.span("experts"):
        h_NG = _grouped_linear(x_ND, weights.gate_up_EGD, order, load)
        y_ND = _grouped_linear(activate(h_NG, weights.gated), weights.down_EDF, order, load)
    with observer.span("combine"):
        return _weighted_sum(y_ND, order, routing, weights)


def _grouped_linear(x_NI: Tensor, weight_EOI: Tensor, order: DispatchPlan, load: list[int] | None) -> Tensor:
    """[N, O]: each expert's stretch of rows times its weight, transposed."""
    if load is None:
        y_NO: Tensor = functional.grouped_mm(x_NI, weight_EOI.transpose(1, 2), offs=order.ends_E)
        return y_NO
    slices = zip(x_NI.split(load), weight_EOI.unbind(0), strict=True)
    return torch.cat([functional.linear(x_PI, weight_OI) for x_PI, weight_OI in slices])


def _weighted_sum(
    y_ND: Tensor, order: DispatchPlan, routing: Routing, weights: ExpertWeights, sort: bool = True
) -> Tensor:
    """[T, D]. Without gradients and with K rows for every token: one product, in the rows' dtype."""
    if routing.per_token is None or _wants_gradients(y_ND, routing, weights):
        return combine(y_ND, order, routing, weighted=not weights.scale_input)
    rows_ND = to_pair_order(y_ND, order) if sort else y_ND
    y_TKD = rows_ND.view(routing.tokens, routing.per_token, y_ND.shape[1])
    if weights.scale_input:
        return y_TKD.sum(1)
    weights_T1K = routing.weights_N.to(y_ND.dtype).view(routing.tokens, 1, routing.per_token)
    return torch.bmm(weights_T1K, y_TKD).squeeze(1)


ON_CPU_ONLY = ("sorted", "each")
KERNELS: dict[str, Kernel] = {
    "auto": auto,
    "loop": loop,
    "grouped": grouped,
    "padded": padded,
    "gather": gather,
    "sorted": sorted_experts,
    "each": each_expert,
}
