"""Work: FLOPs, bytes moved, seconds and exchanges of published models, for claims."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, hypot, log
from typing import Literal

from moe_core import hardware as devices
from moe_core.claims.sizes import active, total, weight_bytes
from moe_core.claims.subjects import Computed, architecture, formats, sparse
from moe_core.perf import comm, edit, memory, params, roofline, twins
from moe_core.perf.params import Breakdown
from moe_core.perf.shard import Parallel
from moe_core.perf.step_time import Bank, Exchange, Reduce, Step, ops, token_flops
from moe_core.silicon.predict import Prediction, predict
from moe_core.specs import Architecture, Experts, Precision

Quantity = Literal["total", "flops", "exchange"]
RANKS = 8  # devices that an exchange is counted over where nobody says how many

# -- compute --------------------------------------------------------------------------------------


def flops(model: str, context: int = 0) -> int:
    """FLOPs to write one token after `context` others."""
    return token_flops(architecture(model), context)


def flops_ratio(model: str, over: str, context: int = 0) -> float:
    """FLOPs a token of one model over those of another."""
    return flops(model, context) / flops(over, context)


def flops_a_parameter(model: str, context: int = 0) -> float:
    """FLOPs a token over twice the active parameters, the input table aside."""
    return flops(model, context) / (2 * active(model, "excl_input_embedding"))


def flops_growth(model: str, short: int, long: int) -> float:
    """FLOPs of a token after `long` others over those after `short`."""
    return flops(model, long) / flops(model, short)


def flops_exponent(model: str, over: str, context: int = 0) -> float:
    """The power of the total with which FLOPs a token grow from one model to another."""
    return log(flops_ratio(model, over, context)) / log(total(model) / total(over))


def flops_of_all(model: str, context: int = 0) -> float:
    """FLOPs a token over what they were if every routed expert ran."""
    arch, bank = sparse(model)
    every = edit.edit(arch.model_copy(update={"experts": _ungrouped(bank)}), {"top_k": bank.count})
    return token_flops(arch, context) / token_flops(every, context)


def growth(model: str, experts: int, quantity: Quantity) -> float:
    """A quantity with so many experts over the same as published, top-k and widths unchanged."""
    arch, bank = sparse(model)
    larger = edit.mixture(arch, experts, bank.top_k, bank.shared)
    read = _QUANTITIES[quantity]
    return read(larger) / read(arch)


def _exchanged(arch: Architecture) -> float:
    bank = arch.experts
    assert bank is not None, "the caller asked for a mixture"
    return comm.exchange_bytes(1, arch.hidden, bank.top_k, RANKS, 2.0, once=False)


_QUANTITIES: dict[str, Callable[[Architecture], float]] = {
    "total": lambda arch: params.count(arch).total,
    "flops": lambda arch: token_flops(arch, 0),
    "exchange": _exchanged,
}


# -- times and traffic ----------------------------------------------------------------------------


def ridge_tokens(hardware: str, form: str = "bf16", experts: int = 1, top_k: int = 1) -> float:
    """Tokens from which a matrix product is limited by compute; E / K times as many in a mixture."""
    device = devices.get(hardware)
    roof = roofline.Roof(device.peak(form), device.bandwidth)
    itemsize = memory.weights(Breakdown(ffn=1_000_000), formats(form, Precision()))["ffn"] / 1e6
    return roofline.ridge_tokens(roof, itemsize, experts, top_k)


def step_bytes(model: str, batch: int, context: int = 1024, hardware: str = "H200") -> int:
    """Bytes that one decoding step reads and writes, the even load's experts among them."""
    return _step(model, hardware, batch, context).bytes


def read_share(model: str, batch: int, context: int = 1024, hardware: str = "H200") -> float:
    """The same over the bytes of all weights."""
    return step_bytes(model, batch, context, hardware) / weight_bytes(model)


def step_ratio(
    model: str, over: str, hardware: str, batch: int, context: int = 1024, new: int = 1
) -> Computed:
    """Seconds of a step of one model over those of another on one such device, predicted.

    The two errors are taken as independent; memory is not asked for. `new` tokens read: a prompt.
    """
    one, other = (_step(name, hardware, batch, context, new) for name in (model, over))
    error = hypot(log(one.upper / one.lower), log(other.upper / other.lower)) / 2
    ratio = one.seconds / other.seconds
    return Computed(ratio, ratio * exp(-error), ratio * exp(error))


def reading_over_computing(model: str, hardware: str, batch: int, context: int = 1024) -> float:
    """The least time to move a decoding step's bytes over the least time to multiply them."""
    found, device = _step(model, hardware, batch, context), devices.get(hardware)
    return (found.bytes / device.bandwidth) / (found.flops / device.peak("bf16"))


def bandwidth_asked(model: str, hardware: str, rate: float, form: str, share: float = 1.0) -> float:
    """Of the device's bandwidth, what a share of all weights would take at so many steps a second."""
    return rate * share * weight_bytes(model, form) / devices.get(hardware).bandwidth


def utilisation(model: str, hardware: str, rate: float, context: int, form: str = "fp8") -> float:
    """FLOPs of so many tokens a second on one device over its peak."""
    return rate * flops(model, context) / devices.get(hardware).peak(form)


def exchange_bytes(model: str, width: float, ranks: int = RANKS) -> float:
    """Bytes a token sends in one layer, one copy an expert, `width` a number there and back."""
    arch, bank = sparse(model)
    return comm.exchange_bytes(1, arch.hidden, bank.top_k, ranks, width, once=False)


def talks(model: str, kind: Literal["exchange", "reduce"], tensor: int = 1, expert: int = 1) -> float:
    """Exchanges, or all-reduces, a layer in one decoding step of a model laid out so."""
    arch = architecture(model)
    parallel = Parallel(tensor=tensor, expert=expert)
    wanted = Exchange if kind == "exchange" else Reduce
    found = ops(arch, Step(batch=parallel.devices), parallel=parallel)
    return sum(op.times for op in found if isinstance(op.kernel, wanted)) / arch.layers


def banks(model: str) -> int:
    """Banks of experts that one step of a model runs, over all layers."""
    return sum(op.times for op in ops(architecture(model), Step()) if isinstance(op.kernel, Bank))


def epoch(total: float, experts: int, top_k: int) -> float:
    """Epoch AI's dense equivalent, second-hand (`perf.twins.EPOCH_CAVEATS`)."""
    return twins.epoch(total, experts, top_k)


def _step(model: str, hardware: str, batch: int, context: int, new: int = 1) -> Prediction:
    step = Step(batch=batch, new=new, past=context if new == 1 else 0)
    return predict(architecture(model), devices.get(hardware), step, check_memory=False)


def _ungrouped(bank: Experts) -> Experts:
    return bank.model_copy(update={"router": bank.router.model_copy(update={"groups": 1, "top_groups": 1})})
