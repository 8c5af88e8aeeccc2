"""Seconds of the grouped experts of one layer, with the format and framework that serve its weights."""

from __future__ import annotations

from math import ceil

from moe_core.errors import ConfigError
from moe_core.perf.distinct import popular, uniform
from moe_core.perf.moe_layer import LayerCase
from moe_core.perf.step_time import Bank
from moe_core.silicon import layer
from moe_core.silicon.layer import LayerEstimate
from moe_core.silicon.place import Place, Timed, timed

# Stages of formats that run the same weights; within a stage the fastest. vLLM's kernel for one 8-bit scale a
# tensor is four times slower than 16 bits on Hopper; 4-bit weights meet 8-bit activations where they can.
_ALTERNATIVES: dict[str, tuple[tuple[str, ...], ...]] = {
    "fp8": (("fp8", "fp8_block"),),
    "fp8_block": (("fp8_block",), ("fp8",)),
    "mxfp4": (("mxfp4_a8",), ("mxfp4",)),
    "fp16": (("bf16",),),
    "fp32": (("bf16",),),
}


def bank(kernel: Bank, place: Place, load: tuple[float, ...] | None) -> Timed:
    """One layer's experts; `distinct` are those hit on all ranks, bytes those of the busiest rank's."""
    asked, popularity = _local(kernel, load) if kernel.exchanged and kernel.ep > 1 else (kernel, load)
    found = _best(asked, place, popularity)
    hit = uniform(kernel.experts, kernel.top_k, kernel.tokens)
    if load is not None:
        hit = popular(load, kernel.top_k, kernel.tokens)
    measured = _is_measured(found)
    spread = max(found.upper / found.seconds, found.seconds / found.lower) - 1
    answer = timed(place, kernel.form, found.seconds, found.flops, found.bytes, measured, spread)
    return answer._replace(distinct=hit)


def _local(kernel: Bank, load: tuple[float, ...] | None) -> tuple[Bank, tuple[float, ...] | None]:
    """What the busiest rank runs after a dispatch: its own experts, each row sent to one of them."""
    held, share, own = ceil(kernel.experts / kernel.ep), 1 / kernel.ep, None
    if load is not None:
        slices = [load[at : at + held] for at in range(0, len(load), held)]
        own = max(slices, key=sum)
        share = sum(own) / sum(load)
    rows = max(1, round(kernel.tokens * kernel.top_k * share))
    return kernel._replace(tokens=rows, experts=held, top_k=1, ep=1), own


def _best(kernel: Bank, place: Place, load: tuple[float, ...] | None) -> LayerEstimate:
    """Measured in this framework or another, in the order of formats; else this framework's fastest model."""
    modelled: LayerEstimate | None = None
    for forms in _ALTERNATIVES.get(kernel.form, ((kernel.form,),)):
        for name in place.frameworks:
            tried = forms if modelled is None else [f for f in forms if _held(kernel, place, name, f)]
            found = [one for form in tried if (one := _estimate(kernel, place, name, form, load))]
            known = [one for one in found if _is_measured(one)]
            if known:
                return min(known, key=lambda one: one.seconds)
            modelled = modelled or min(found, key=lambda one: one.seconds, default=None)
    if modelled is None:
        raise ConfigError(f"experts ({kernel.form}): no kernel was measured for it on {place.system}")
    return modelled


def _estimate(
    kernel: Bank, place: Place, framework: str, form: str, load: tuple[float, ...] | None
) -> LayerEstimate | None:
    """None where this framework was not measured with this format."""
    case = _case(kernel)
    if load is not None:
        load = (*load, *(0.0,) * (int(case.experts) - kernel.experts))
    try:
        return layer.estimate(place.device, form, case, framework=framework, load=load)
    except ConfigError:
        return None


def _held(kernel: Bank, place: Place, framework: str, form: str) -> bool:
    """Whether a table of this framework holds the shape: its model is not asked once another has answered."""
    try:
        return layer.held(place.device, form, _case(kernel), framework)
    except ConfigError:
        return False


def _case(kernel: Bank) -> LayerCase:
    experts = ceil(kernel.experts / kernel.ep) * kernel.ep  # ranks hold whole experts: the last may have room
    sizes = (kernel.tokens, kernel.hidden, kernel.inter, experts, kernel.top_k)
    return LayerCase(*sizes, tp=kernel.tp, ep=kernel.ep, gated=kernel.gated)


def _is_measured(found: LayerEstimate) -> bool:
    """A table holds the shape; its load may have been scaled to ours."""
    return found.source == "measured elsewhere" or found.note.startswith("measured")
