"""Seconds of one kernel on one device: from a table where it holds the shape, else from a model.

Never below the data sheet's roof: tables were timed without flushing caches, so a small shape may read
faster there than memory allows. A table of another framework on the same system is still a measurement;
a device without tables gets a model with the constants of the nearest measured one, as shares of its
own data sheet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from moe_core.formats import KINDS, kind, width
from moe_core.perf import attention_time, comm, gemm
from moe_core.perf.step_time import Attend, Bank, Exchange, Index, Kernel, Product, Reduce, StateUpdate
from moe_core.silicon import constants, tables
from moe_core.silicon.layer import bank
from moe_core.silicon.place import BETWEEN, MEASURED, KernelTime, Place, dtype, far, machine, sent, timed
from moe_core.silicon.tables import Where

_PREFER = {"fp8_block": "sglang"}  # vLLM's block products were timed with the host's launches: 80 us each
_LATENT = ((576, 512), (192, 128))  # widths of key and value that were measured: DeepSeek's two phases


def time(kernel: Kernel, place: Place, load: tuple[float, ...] | None = None) -> KernelTime:
    """Seconds of one run of `kernel`. `load`: share of each expert, None for independent even tokens."""
    return _time(kernel, place, load if isinstance(kernel, Bank) else None)


@lru_cache(maxsize=100_000, typed=True)  # typed: kernels of two kinds may hold the same numbers
def _time(kernel: Kernel, place: Place, load: tuple[float, ...] | None) -> KernelTime:
    """Steps share most kernels: those of two histories all but attention, of two mixtures all but experts."""
    if isinstance(kernel, Product | Bank) and kernel.form not in KINDS:
        return _restored(time(kernel._replace(form=kind(kernel.form)), place, load), kernel.form)
    return bank(kernel, place, load) if isinstance(kernel, Bank) else _TIMES[type(kernel)](kernel, place)


def _restored(found: KernelTime, form: str) -> KernelTime:
    """The same kernel over weights of another width: where memory binds, its seconds follow its bytes."""
    factor = width(form) / width(kind(form))
    seconds, memory = found.seconds, found.memory_s * factor
    if found.memory_s > found.compute_s:
        seconds = max(seconds * factor, found.compute_s)
    return found._replace(
        seconds=max(seconds, memory),
        bytes=found.bytes * factor,
        memory_s=memory,
        measured=False,
        spread=found.spread + BETWEEN,
    )


# -- products --------------------------------------------------------------------------------------


def product(kernel: Product, place: Place) -> KernelTime:
    """A table's point, else between its shapes, else five constants."""
    found = _measured_product(kernel, place)
    if found is None:
        found = _modelled_product(kernel, place)
    seconds, measured, spread = found
    return timed(place, kernel.form, seconds, kernel.flops, kernel.bytes, measured, spread)


def _measured_product(kernel: Product, place: Place) -> tuple[float, bool, float] | None:
    if not place.own:
        return None
    form = dtype(kernel.form)
    names = (_PREFER[form],) if form in _PREFER else place.frameworks
    for name in names:
        where = Where(place.system, name, form)
        found = tables.gemm(where, kernel.m, kernel.n, kernel.k)
        if found is not None:
            return found, True, MEASURED
    for name in names:
        between = tables.gemm_between(Where(place.system, name, form), kernel.m, kernel.n, kernel.k)
        if between is not None:
            return between, False, BETWEEN
    return None


def _modelled_product(kernel: Product, place: Place) -> tuple[float, bool, float]:
    form = dtype(kernel.form)
    fitted = constants.kernel("gemm", place.system, _PREFER.get(form, place.frameworks[0]), form)
    values = fitted.constants
    seconds = gemm.seconds(kernel.m, kernel.n, kernel.k, width(kernel.form), machine(place, form), values)
    return seconds, False, fitted.spread + far(place)


# -- attention -------------------------------------------------------------------------------------


def attend(kernel: Attend, place: Place) -> KernelTime:
    """A table's point, else a model. Outside the measured range it is scaled to meet a table's edge."""
    decode, flops, moved = kernel.new == 1, kernel.flops, kernel.bytes
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


# -- linear attention and indexers -----------------------------------------------------------------


def _state(kernel: StateUpdate, place: Place) -> KernelTime:
    """Linear attention: three products with the state, which is read and written in fp32."""
    spec, tokens = kernel.spec, kernel.batch * kernel.new
    flops, moved = kernel.flops, kernel.bytes
    for name in place.frameworks if place.own else ():
        found = tables.linear_attention(
            place.system,
            name,
            kernel.batch,
            kernel.new,
            key_heads=spec.key_heads,
            value_heads=spec.value_heads,
            key_dim=spec.key_dim,
            value_dim=spec.value_dim,
            prefill=kernel.new > 1,
        )
        if found is not None:
            return timed(place, "bf16", found, flops, moved, True, MEASURED)
    sheet, launches = machine(place, "bf16"), 1e-5 if kernel.new == 1 else 5e-5
    streamed = moved + 8.0 * tokens * (spec.key_heads * spec.key_dim + spec.value_heads * spec.value_dim)
    seconds = launches + streamed / (0.6 * sheet.bandwidth) + flops / (0.15 * sheet.peak)
    return timed(place, "bf16", seconds, flops, moved, False, 0.4 + far(place))


def _index(kernel: Index, place: Place) -> KernelTime:
    """Scores of an indexer: 8-bit keys of every token before."""
    sheet = machine(place, "fp8")
    seconds = 1e-5 + kernel.bytes / (0.6 * sheet.bandwidth) + kernel.flops / (0.4 * sheet.peak)
    return timed(place, "fp8", seconds, kernel.flops, kernel.bytes, False, 0.4 + far(place))


# -- what devices send each other ------------------------------------------------------------------


def reduce(kernel: Reduce, place: Place) -> KernelTime:
    """All-reduce: the fastest of the framework's own and NCCL, as frameworks choose by size."""
    options = (("nccl", "nccl"), (place.frameworks[0], "graph"))
    times, measured = [], place.own
    for library, mode in options:
        found = None
        if place.own:
            found = tables.collective(
                place.system, "all_reduce", kernel.ranks, kernel.nbytes, library=library, mode=mode
            )
        if found is not None:
            times.append(found)
    if not times:
        measured = False
        known = [constants.lines(place.system, library, "all_reduce") for library, _ in options]
        times = [comm.collective("all_reduce", kernel.ranks, kernel.nbytes, one) for one in known if one]
    spread = MEASURED if measured else 0.25 + far(place)
    return sent(place, min(times), comm.sent("all_reduce", kernel.ranks, kernel.nbytes), measured, spread)


def exchange(kernel: Exchange, place: Place) -> KernelTime:
    """DeepEP: low latency in decode, normal in prefill."""
    mode = "low_latency" if kernel.decode else "normal"
    sizes = {"hidden": kernel.hidden, "experts": kernel.experts, "top_k": kernel.top_k}
    nbytes = comm.exchange_bytes(
        *(kernel.tokens, kernel.hidden, kernel.top_k, kernel.ranks, 1.0), once=not kernel.decode
    )
    if place.own and kernel.ranks == 8:
        found = tables.deepep(place.system, kernel.tokens, ranks=8, mode=mode, **sizes)
        if found is not None:
            return sent(place, sum(found), 3 * nbytes, True, 0.1)
    there, back = (constants.exchange(place.system, mode, part) for part in ("dispatch", "combine"))
    seconds = comm.exchange(nbytes, kernel.ranks, there) + comm.exchange(2 * nbytes, kernel.ranks, back)
    return sent(place, seconds, 3 * nbytes, False, 0.3 + far(place))


_TIMES: dict[type, Callable[[Any, Place], KernelTime]] = {
    Product: product,
    Attend: attend,
    StateUpdate: _state,
    Index: _index,
    Reduce: reduce,
    Exchange: exchange,
}
