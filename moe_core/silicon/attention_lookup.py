"""Seconds of attention of one layer: a table's point, else a model that meets the table at its edge."""

from __future__ import annotations

from typing import Any

from moe_core.perf import attention_time
from moe_core.perf.step_time import Attend
from moe_core.silicon import constants, tables
from moe_core.silicon.place import BETWEEN, MEASURED, Place, Timed, far, machine, timed, width
from moe_core.silicon.tables import Where

_LATENT = (
    (576, 512),
    (192, 128),
)  # widths of key and value that were measured: DeepSeek's, decode and prefill


def attend(kernel: Attend, place: Place) -> Timed:
    """Attention of one layer. Outside the measured range a model, scaled to meet the table at its edge."""
    shape, decode = kernel.heads, kernel.new == 1
    pairs = _pairs(kernel)
    flops = 2.0 * kernel.batch * shape.heads * pairs * (shape.key + shape.value)
    kept = min(kernel.past + kernel.new, kernel.window or kernel.past + kernel.new)
    moved = kernel.batch * kept * shape.kv_heads * shape.kept * width(kernel.form)
    found = _measured_attention(kernel, place)
    if found is not None:
        return timed(place, "bf16", found, flops, moved, True, MEASURED)
    kind = ("latent_" if kernel.latent else "") + ("decode" if decode else "prefill")
    form = "fp8" if kernel.form == "fp8" and decode else "bf16"
    fitted = constants.kernel(kind, place.system, place.frameworks[0], form)
    seconds = _model_attention(kernel, place, fitted)
    edge = _edge(kernel)
    anchor = _measured_attention(edge, place) if edge != kernel else None
    if anchor is not None:
        seconds *= anchor / _model_attention(edge, place, fitted)
        return timed(place, "bf16", seconds, flops, moved, False, BETWEEN)
    return timed(place, "bf16", seconds, flops, moved, False, fitted.spread + far(place))


def _edge(kernel: Attend) -> Attend:
    """The nearest point that tables tend to hold: short enough, small enough, without a past in prefill."""
    if kernel.new > 1:
        new = min(kernel.new, 8192)
        return kernel._replace(past=0, new=new, batch=max(1, min(kernel.batch, 32_768 // new)))
    past = min(max(kernel.past, 1), 16_383)
    return kernel._replace(past=past, batch=max(1, min(kernel.batch, 1_000_000 // past)))


def _model_attention(kernel: Attend, place: Place, fitted: constants.Fitted) -> float:
    sheet = machine(place, "bf16")
    if kernel.new == 1:
        past = min(kernel.past, kernel.window - 1) if kernel.window else kernel.past
        return attention_time.decode(
            kernel.batch, past, kernel.heads, width(kernel.form), sheet, fitted.constants
        )
    return attention_time.prefill(
        *(kernel.batch, kernel.new, kernel.heads, sheet, fitted.constants),
        past=kernel.past,
        window=kernel.window or None,
    )


def _measured_attention(kernel: Attend, place: Place) -> float | None:
    if not place.own or (kernel.new > 1 and kernel.past):
        return None
    if kernel.latent:
        return _measured_latent(kernel, place)
    shape: dict[str, Any] = {
        **{"heads": kernel.heads.heads, "kv_heads": kernel.heads.kv_heads},
        **{"head_dim": kernel.heads.key, "window": kernel.window},
        "kv_dtype": "fp8" if kernel.form == "fp8" else "bf16",
    }
    for name in place.frameworks:
        where = Where(place.system, name, "bf16")
        if kernel.new > 1:
            found = tables.context_attention(where, kernel.batch, kernel.new, **shape)
        else:
            found = tables.generation_attention(where, kernel.batch, max(kernel.past, 1), **shape)
        if found is not None:
            return found
    return None


def _measured_latent(kernel: Attend, place: Place) -> float | None:
    """An 8-bit cache takes the better of both formats: on Hopper the 8-bit kernel that was timed is slow."""
    shape = kernel.heads
    if (shape.key, shape.value) not in _LATENT:
        return None
    where, prefill = Where(place.system, "sglang", "bf16"), kernel.new > 1
    length = kernel.new if prefill else max(kernel.past, 1)
    forms = ("bf16", "fp8") if kernel.form == "fp8" else ("bf16",)
    times = [
        tables.mla(where, kernel.batch, length, heads=shape.heads, kv_dtype=form, prefill=prefill)
        for form in forms
    ]
    return min((time for time in times if time is not None), default=None)


def _pairs(kernel: Attend) -> float:
    total = kernel.new * kernel.past + kernel.new * (kernel.new + 1) / 2
    return min(total, float(kernel.new * kernel.window)) if kernel.window else total
