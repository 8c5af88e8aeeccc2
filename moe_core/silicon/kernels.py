"""Seconds of one kernel on one device: from a table where it holds the shape, else from a model.

Never below the data sheet's roof: tables were timed without flushing caches, so a small shape may read
faster there than memory allows. A table of another framework on the same system is still a measurement;
a device without tables gets a model with the constants of the nearest measured one, as shares of its
own data sheet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from moe_core.errors import ConfigError
from moe_core.hardware import Hardware
from moe_core.perf import attention_time, comm, gemm
from moe_core.perf.distinct import popular, uniform
from moe_core.perf.gemm import Machine
from moe_core.perf.precision import BITS, Format
from moe_core.perf.step_time import Attend, Bank, Exchange, Index, Kernel, Product, Reduce, State
from moe_core.silicon import constants, tables
from moe_core.silicon.tables import Where

MEASURED = 0.06  # log error of a look-up: repeats and neighbouring kernels differ by so much
BETWEEN = 0.12  # of a product between measured shapes
FAR = 0.25  # added where constants come from another device
_LATENT = (576, 512)  # the latent that was measured: DeepSeek's
_PREFER = {"fp8_block": "sglang"}  # vLLM's block products were timed with the host's launches: 80 us each


class Place(NamedTuple):
    """Where a kernel runs: the device, the measured system it is or is nearest to, and the framework."""

    device: Hardware
    system: str
    own: bool
    framework: str

    @property
    def frameworks(self) -> tuple[str, str]:
        return (self.framework, "sglang" if self.framework == "vllm" else "vllm")


class Timed(NamedTuple):
    """Seconds of one run, what it multiplies and moves, the least time the data sheet allows for both."""

    seconds: float
    flops: float
    bytes: float
    compute_s: float
    memory_s: float
    measured: bool
    spread: float
    distinct: float | None = None
    network: bool = False


def time(kernel: Kernel, place: Place, load: tuple[float, ...] | None = None) -> Timed:
    """Seconds of one run of `kernel`. `load`: share of each expert, None for independent even tokens."""
    if isinstance(kernel, Bank):
        return _bank(kernel, place, load)
    return _TIMES[type(kernel)](kernel, place)


def width(form: str) -> float:
    """Bytes of one stored element, scales included."""
    return float(BITS[_weights(form)]) / 8


def _weights(form: str) -> Format:
    return form  # type: ignore[return-value]


def _dtype(form: str) -> str:
    return {"fp16": "bf16", "fp32": "bf16"}.get(form, form)


def _product(kernel: Product, place: Place) -> Timed:
    """A table's point, else between its shapes, else five constants."""
    found = _measured_product(kernel, place)
    if found is None:
        found = _modelled_product(kernel, place)
    seconds, measured, spread = found
    flops = 2.0 * kernel.m * kernel.n * kernel.k
    moved = gemm.moved(kernel.m, kernel.n, kernel.k, width(kernel.form))
    return _timed(place, kernel.form, seconds, flops, moved, measured, spread)


def _measured_product(kernel: Product, place: Place) -> tuple[float, bool, float] | None:
    if not place.own:
        return None
    form = _dtype(kernel.form)
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
    form = _dtype(kernel.form)
    fitted = constants.kernel("gemm", place.system, _PREFER.get(form, place.framework), form)
    values = fitted.constants
    seconds = gemm.seconds(kernel.m, kernel.n, kernel.k, width(form), _machine(place, form), values)
    return seconds, False, fitted.spread + _far(place)


def _attend(kernel: Attend, place: Place) -> Timed:
    """Attention of one layer. Outside the measured range a model, scaled to meet the table at its edge."""
    shape, decode = kernel.heads, kernel.new == 1
    pairs = _pairs(kernel)
    flops = 2.0 * kernel.batch * shape.heads * pairs * (shape.key + shape.value)
    kept = min(kernel.past + kernel.new, kernel.window or kernel.past + kernel.new)
    moved = kernel.batch * kept * shape.kv_heads * shape.kept * width(kernel.form)
    found = _measured_attention(kernel, place)
    if found is not None:
        return _timed(place, "bf16", found, flops, moved, True, MEASURED)
    kind = ("latent_" if kernel.latent else "") + ("decode" if decode else "prefill")
    form = "fp8" if kernel.form == "fp8" and decode else "bf16"
    fitted = constants.kernel(kind, place.system, place.framework, form)
    seconds = _model_attention(kernel, place, fitted)
    edge = _edge(kernel)
    anchor = _measured_attention(edge, place) if edge != kernel else None
    if anchor is not None:
        seconds *= anchor / _model_attention(edge, place, fitted)
        return _timed(place, "bf16", seconds, flops, moved, False, BETWEEN)
    return _timed(place, "bf16", seconds, flops, moved, False, fitted.spread + _far(place))


def _edge(kernel: Attend) -> Attend:
    """The nearest point that tables tend to hold: short enough, small enough, without a past in prefill."""
    if kernel.new > 1:
        new = min(kernel.new, 8192)
        return kernel._replace(past=0, new=new, batch=max(1, min(kernel.batch, 32_768 // new)))
    past = min(max(kernel.past, 1), 16_383)
    return kernel._replace(past=past, batch=max(1, min(kernel.batch, 1_000_000 // past)))


def _model_attention(kernel: Attend, place: Place, fitted: constants.Fitted) -> float:
    machine = _machine(place, "bf16")
    if kernel.new == 1:
        past = min(kernel.past, kernel.window - 1) if kernel.window else kernel.past
        return attention_time.decode(
            kernel.batch, past, kernel.heads, width(kernel.form), machine, fitted.constants
        )
    return attention_time.prefill(
        *(kernel.batch, kernel.new, kernel.heads, machine, fitted.constants),
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
    shape = kernel.heads
    if (shape.key, shape.value) not in (_LATENT, (192, 128)):
        return None
    where = Where(place.system, "sglang", "bf16")
    length = kernel.new if kernel.new > 1 else max(kernel.past, 1)
    return tables.mla(
        where,
        kernel.batch,
        length,
        heads=shape.heads,
        kv_dtype="fp8" if kernel.form == "fp8" else "bf16",
        prefill=kernel.new > 1,
    )


def _pairs(kernel: Attend) -> float:
    total = kernel.new * kernel.past + kernel.new * (kernel.new + 1) / 2
    return min(total, float(kernel.new * kernel.window)) if kernel.window else total


def _state(kernel: State, place: Place) -> Timed:
    """Linear attention: three products with the state, which is read and written in fp32."""
    spec, tokens = kernel.spec, kernel.batch * kernel.new
    elements = spec.value_heads * spec.key_dim * spec.value_dim
    flops, moved = 6.0 * tokens * elements, 8.0 * kernel.batch * elements
    heads = {"key_heads": spec.key_heads, "value_heads": spec.value_heads}
    sizes = {"key_dim": spec.key_dim, "value_dim": spec.value_dim}
    for name in place.frameworks if place.own else ():
        found = tables.linear_attention(
            *(place.system, name, kernel.batch, kernel.new), **heads, **sizes, prefill=kernel.new > 1
        )
        if found is not None:
            return _timed(place, "bf16", found, flops, moved, True, MEASURED)
    machine, launches = _machine(place, "bf16"), 1e-5 if kernel.new == 1 else 5e-5
    streamed = moved + 8.0 * tokens * (spec.key_heads * spec.key_dim + spec.value_heads * spec.value_dim)
    seconds = launches + streamed / (0.6 * machine.bandwidth) + flops / (0.15 * machine.peak)
    return _timed(place, "bf16", seconds, flops, moved, False, 0.4 + _far(place))


def _index(kernel: Index, place: Place) -> Timed:
    """Scores of an indexer: 8-bit keys of every token before."""
    spec, seen = kernel.spec, kernel.past + kernel.new / 2
    flops = 2.0 * kernel.batch * kernel.new * seen * spec.heads * spec.head_dim
    moved = float(kernel.batch * (kernel.past + kernel.new) * spec.head_dim)
    machine = _machine(place, "fp8")
    seconds = 1e-5 + moved / (0.6 * machine.bandwidth) + flops / (0.4 * machine.peak)
    return _timed(place, "fp8", seconds, flops, moved, False, 0.4 + _far(place))


def _bank(kernel: Bank, place: Place, load: tuple[float, ...] | None) -> Timed:
    """The grouped experts of one layer; bytes are those of the experts that the tokens hit."""
    hit = uniform(kernel.experts, kernel.top_k, kernel.tokens)
    if load is not None:
        hit = popular(load, kernel.top_k, kernel.tokens)
    one = (3 if kernel.gated else 2) * kernel.hidden * kernel.inter / kernel.tp
    flops = 2.0 * kernel.tokens * kernel.top_k / kernel.ep * one
    moved = hit / kernel.ep * one * width(kernel.form)
    found = _measured_bank(kernel, place, hit)
    if found is not None:
        return _timed(place, kernel.form, found, flops, moved, True, 0.12)._replace(distinct=hit)
    fitted = constants.kernel("gemm", place.system, place.framework, _dtype(kernel.form))
    machine, values = _machine(place, _dtype(kernel.form)), fitted.constants
    rows = gemm.padded(kernel.tokens * kernel.top_k / hit, 16) * hit / kernel.ep
    busy = gemm.blend(
        moved / (machine.bandwidth * values.bandwidth),
        2 * rows * one / (machine.peak * values.compute * 0.7),
        values.blend,
    )
    seconds = 5e-6 * 3 + busy
    spread = 0.35 + _far(place)
    return _timed(place, kernel.form, seconds, flops, moved, False, spread)._replace(distinct=hit)


_ALTERNATIVES = {
    "fp8": ("fp8", "fp8_block"),
    "fp8_block": ("fp8_block", "fp8"),
    "mxfp4": ("mxfp4_a8", "mxfp4"),
    "fp16": ("bf16",),
}


def _measured_bank(kernel: Bank, place: Place, hit: float) -> float | None:
    """A round-robin load was timed: min(E, KT) experts hit. Fewer are hit by tokens that choose freely.

    So the time is that of the batch that hits as many, with the growth of the whole batch kept beyond it.
    """
    if not place.own:
        return None
    for form in _ALTERNATIVES.get(kernel.form, (kernel.form,)):
        for name in place.frameworks:
            shape: dict[str, Any] = {
                **{"hidden": kernel.hidden, "inter": kernel.inter, "experts": kernel.experts},
                **{"top_k": kernel.top_k, "tp": kernel.tp, "ep": kernel.ep, "distribution": "balanced"},
            }
            where = Where(place.system, name, form)
            whole = tables.moe(where, kernel.tokens, **shape)
            if whole is None:
                continue
            full = kernel.experts / kernel.top_k
            asked = tables.moe(where, max(1.0, min(hit / kernel.top_k, full)), **shape)
            edge = tables.moe(where, max(1.0, min(kernel.tokens, full)), **shape)
            return whole if asked is None or edge is None else whole * asked / edge
    return None


def _reduce(kernel: Reduce, place: Place) -> Timed:
    """All-reduce: the fastest of the framework's own and NCCL, as frameworks choose by size."""
    options = (("nccl", "nccl"), (place.framework, "graph"))
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
    spread = MEASURED if measured else 0.25 + _far(place)
    return _sent(place, min(times), comm.sent("all_reduce", kernel.ranks, kernel.nbytes), measured, spread)


def _exchange(kernel: Exchange, place: Place) -> Timed:
    """DeepEP: low latency in decode, normal in prefill."""
    mode = "low_latency" if kernel.decode else "normal"
    sizes = {"hidden": kernel.hidden, "experts": kernel.experts, "top_k": kernel.top_k}
    nbytes = comm.exchange_bytes(
        *(kernel.tokens, kernel.hidden, kernel.top_k, kernel.ranks, 1.0), once=not kernel.decode
    )
    if place.own and kernel.ranks == 8:
        found = tables.deepep(place.system, kernel.tokens, ranks=8, mode=mode, **sizes)
        if found is not None:
            return _sent(place, sum(found), 3 * nbytes, True, 0.1)
    there, back = (constants.exchange(place.system, mode, part) for part in ("dispatch", "combine"))
    seconds = comm.exchange(nbytes, kernel.ranks, there) + comm.exchange(2 * nbytes, kernel.ranks, back)
    return _sent(place, seconds, 3 * nbytes, False, 0.3 + _far(place))


def _machine(place: Place, form: str) -> Machine:
    try:
        return Machine(place.device.peak(form), place.device.bandwidth)
    except ConfigError:
        return Machine(place.device.peak("bf16"), place.device.bandwidth)


def _far(place: Place) -> float:
    return 0.0 if place.own else FAR


def _timed(
    place: Place, form: str, seconds: float, flops: float, moved: float, measured: bool, spread: float
) -> Timed:
    machine = _machine(place, form)
    compute, memory = flops / machine.peak, moved / machine.bandwidth
    return Timed(max(seconds, compute, memory), flops, moved, compute, memory, measured, spread)


def _sent(place: Place, seconds: float, nbytes: float, measured: bool, spread: float) -> Timed:
    """A collective: its bytes cross the link, inside a node never faster than the data sheet's."""
    least = nbytes / place.device.link if place.device.link else 0.0
    return Timed(max(seconds, least), 0.0, 0.0, 0.0, 0.0, measured, spread, network=True)


_TIMES: dict[type, Callable[[Any, Place], Timed]] = {
    Product: _product,
    Attend: _attend,
    State: _state,
    Index: _index,
    Reduce: _reduce,
    Exchange: _exchange,
}
