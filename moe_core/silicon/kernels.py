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

from moe_core.perf.step_time import Attend, Bank, Exchange, Index, Kernel, Product, Reduce, State
from moe_core.silicon import tables
from moe_core.silicon.attention_lookup import attend
from moe_core.silicon.bank_time import bank
from moe_core.silicon.links import exchange, reduce
from moe_core.silicon.place import MEASURED, Place, Timed, far, machine, timed
from moe_core.silicon.product_time import product


def time(kernel: Kernel, place: Place, load: tuple[float, ...] | None = None) -> Timed:
    """Seconds of one run of `kernel`. `load`: share of each expert, None for independent even tokens."""
    return _time(kernel, place, load if isinstance(kernel, Bank) else None)


@lru_cache(maxsize=100_000, typed=True)  # typed: kernels of two kinds may hold the same numbers
def _time(kernel: Kernel, place: Place, load: tuple[float, ...] | None) -> Timed:
    """Steps share most kernels: those of two histories all but attention, of two mixtures all but experts."""
    return bank(kernel, place, load) if isinstance(kernel, Bank) else _TIMES[type(kernel)](kernel, place)


def _state(kernel: State, place: Place) -> Timed:
    """Linear attention: three products with the state, which is read and written in fp32."""
    spec, tokens = kernel.spec, kernel.batch * kernel.new
    elements = spec.value_heads * spec.key_dim * spec.value_dim
    flops, moved = 6.0 * tokens * elements, 8.0 * kernel.batch * elements
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


def _index(kernel: Index, place: Place) -> Timed:
    """Scores of an indexer: 8-bit keys of every token before."""
    spec, seen = kernel.spec, kernel.past + kernel.new / 2
    flops = 2.0 * kernel.batch * kernel.new * seen * spec.heads * spec.head_dim
    moved = float(kernel.batch * (kernel.past + kernel.new) * spec.head_dim)
    sheet = machine(place, "fp8")
    seconds = 1e-5 + moved / (0.6 * sheet.bandwidth) + flops / (0.4 * sheet.peak)
    return timed(place, "fp8", seconds, flops, moved, False, 0.4 + far(place))


_TIMES: dict[type, Callable[[Any, Place], Timed]] = {
    Product: product,
    Attend: attend,
    State: _state,
    Index: _index,
    Reduce: reduce,
    Exchange: exchange,
}
