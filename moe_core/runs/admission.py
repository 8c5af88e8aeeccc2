"""Admission: what a run will need, held against what is free, before anything is allocated.

Legend: T tokens, L MoE layers, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import NamedTuple

import torch

from moe_core.device import cache_bytes, free_memory
from moe_core.errors import InfeasibleError
from moe_core.formats import Format, size
from moe_core.perf.params import ffn
from moe_core.runs import footprint, quality
from moe_core.runs.footprint import Shape
from moe_core.specs import Architecture, Experts
from moe_core.units import MIB, quantity

# Live tensors were measured at up to so many times the closed form of activations, for any other kernel 2.8.
MARGINS = {"padded": 5.0}
MARGIN = 3.0
PADDED_ROWS = 128  # of an expert, that a kernel may add to fill a product, whatever the tokens
ROTATED = 64 * MIB  # the most that copies of one model may take
HOST = torch.device("cpu")
DECISION_BYTES = 40  # int16 and float32 as recorded, the columns of the table, its encoded file
PAIR_BYTES, SCORE_BYTES = 20, 8  # kept on the device while a pass runs: ids and weight; score and logit


class Need(NamedTuple):
    """Bytes by purpose, on the device that computes and on the host that records."""

    device: dict[str, int]
    host: dict[str, int]


def need(dense: Architecture, moe: Architecture, shape: Shape, form: Format, kernel: str = "sorted") -> Need:
    """What both models need together. Caches of both live at once; activations of one."""
    assert moe.experts is not None
    parts = [footprint.predict(arch, shape, form) for arch in (dense, moe)]
    work = ("kv_cache", "activations")
    device = {
        "weights": sum(part[name] for part in parts for name in part if name not in work),
        "KV cache": sum(part["kv_cache"] for part in parts),
        "activations": ceil(MARGINS.get(kernel, MARGIN) * max(part["activations"] for part in parts)),
        "expert products": _product_bytes(moe, moe.experts, shape, form, kernel),
        "routing": _routing_bytes(moe, moe.experts, shape),
    }
    decisions = shape.batch * shape.seq * moe.experts.top_k * len(moe.moe_layers)
    return Need(device, {"recording": decisions * DECISION_BYTES})


def admit(wanted: Need, device: torch.device) -> None:
    """Raises InfeasibleError, with the numbers, when device or host have less than `wanted`."""
    parts = wanted.device
    if device.type == "cpu":
        parts = parts | wanted.host
    else:
        _admit(wanted.host, free_memory(HOST), "this machine")
    _admit(parts, free_memory(device), "the device")


def copies(model_bytes: int, device: torch.device) -> int:
    """How many equal models to take in turn so that no cache holds the next one's weights.

    Twice the last cache, as far as `ROTATED` and a quarter of the free memory allow: a comfort, never
    a reason to refuse.
    """
    wish = ceil(2 * cache_bytes(device) / model_bytes) + 1
    limit = min(ROTATED, free_memory(device) // 4) // model_bytes
    return max(1, min(wish, limit))


@contextmanager
def memory_guarded(wanted: Need) -> Iterator[None]:
    """An allocation that fails all the same becomes an InfeasibleError with the numbers."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate" in str(error)):
            raise
        total = sum(wanted.device.values()) + sum(wanted.host.values())
        raise InfeasibleError(
            f"the memory ran out during the run, predicted to need {quantity(total, 'B')}: "
            "ask for a smaller batch or seq"
        ) from error


def _admit(parts: dict[str, int], free: int, where: str) -> None:
    total = sum(parts.values())
    if total <= free:
        return
    largest = sorted(parts.items(), key=lambda item: -item[1])[:3]
    listed = ", ".join(f"{name} {quantity(part, 'B')}" for name, part in largest)
    raise InfeasibleError(
        f"needs {quantity(total, 'B')} ({listed}), {where} has {quantity(free, 'B')} free: "
        "ask for a smaller batch or seq"
    )


def _product_bytes(moe: Architecture, bank: Experts, shape: Shape, form: Format, kernel: str) -> int:
    """What a kernel adds to the activations: padding, or a copy of an expert's weights for every pair."""
    if kernel == "gather":
        pairs = shape.batch * shape.seq * bank.top_k
        return pairs * size(ffn(moe.hidden, bank.width, moe.gated), form)
    return size(bank.count * PADDED_ROWS * 4 * moe.hidden, form)


def _routing_bytes(moe: Architecture, bank: Experts, shape: Shape) -> int:
    """What the recorder's references keep alive, of one chunk of sequences at a time."""
    together = max(part.stop - part.start for part in quality.chunks(shape.batch, shape.seq))
    per_token = bank.top_k * PAIR_BYTES + bank.count * SCORE_BYTES
    return together * shape.seq * per_token * len(moe.moe_layers)
