"""Seconds of what devices send each other: a table inside one node, else a start and a bandwidth."""

from __future__ import annotations

from moe_core.perf import comm
from moe_core.perf.step_time import Exchange, Reduce
from moe_core.silicon import constants, tables
from moe_core.silicon.place import MEASURED, Place, Timed, far, sent


def reduce(kernel: Reduce, place: Place) -> Timed:
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


def exchange(kernel: Exchange, place: Place) -> Timed:
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
