"""Seconds of matrix products: a table's point, else between its shapes, else five constants."""

from __future__ import annotations

from moe_core.perf import gemm
from moe_core.perf.step_time import Product
from moe_core.silicon import constants, tables
from moe_core.silicon.place import BETWEEN, MEASURED, Place, Timed, dtype, far, machine, timed, width
from moe_core.silicon.tables import Where

_PREFER = {"fp8_block": "sglang"}  # vLLM's block products were timed with the host's launches: 80 us each


def product(kernel: Product, place: Place) -> Timed:
    """A table's point, else between its shapes, else five constants."""
    found = _measured_product(kernel, place)
    if found is None:
        found = _modelled_product(kernel, place)
    seconds, measured, spread = found
    flops = 2.0 * kernel.m * kernel.n * kernel.k
    moved = gemm.moved(kernel.m, kernel.n, kernel.k, width(kernel.form))
    return timed(place, kernel.form, seconds, flops, moved, measured, spread)


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
    seconds = gemm.seconds(kernel.m, kernel.n, kernel.k, width(form), machine(place, form), values)
    return seconds, False, fitted.spread + far(place)
