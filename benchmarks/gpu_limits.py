"""Where `gather` stops being the fastest kernel on a GPU: the limits that `auto` goes by, measured.

Used by `benchmarks/gpu.py`. For each shape and dtype the pairs grow until `gather` loses by a tenth; its
limit is the weights it copied at the last point it won.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch

from benchmarks.kernels import SHAPES, Shape, make_input, make_weights, once
from moe_core.device import dtype_name, grouped_mm_takes, has_fast_bf16
from moe_core.nn.experts import GATHER_BYTES_GROUPED, GATHER_BYTES_PADDED, KERNELS
from moe_core.nn.tuning import NEUTRAL
from moe_core.units import MIB

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128)
ROUNDS = 12
LOST = 1.1  # times the other kernel's: from here on gather does not come back
MOST_BYTES = 8 * 2**30  # of copied weights


def run(device: torch.device, quick: bool) -> dict[str, Any]:
    """Points by shape and dtype, and the least and greatest limit of each kind."""
    dtypes = [torch.bfloat16] * has_fast_bf16(device) + [torch.float32]
    shapes = {"fine": SHAPES["fine"]} if quick else SHAPES
    tokens = TOKENS[:2] if quick else TOKENS
    found = {
        f"{name} {dtype_name(dtype)}": points(shape, dtype, device, tokens)
        for dtype in dtypes
        for name, shape in shapes.items()
    }
    return {"points": found, "sentence": sentence(found)}


def points(
    shape: Shape, dtype: torch.dtype, device: torch.device, tokens: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Seconds of `gather` and of its rival, at growing numbers of tokens."""
    copies = make_weights(shape, dtype, device, NEUTRAL)
    rival = "grouped" if grouped_mm_takes(device, dtype, shape.hidden, shape.width) else "padded"
    found = list[dict[str, Any]]()
    for count in tokens:
        copied = count * shape.top_k * shape.expert_count * dtype.itemsize
        if copied > MOST_BYTES or (found and found[-1]["gather"] > LOST * found[-1]["rival_s"]):
            break
        x_TD = torch.randn(count, shape.hidden, device=device).to(dtype)
        seconds: dict[str, list[float]] = {"gather": [], rival: []}
        for turn in range(ROUNDS):
            given, weights = make_input(x_TD, shape, seed=turn), copies[turn % len(copies)]
            for kernel in seconds:
                seconds[kernel].append(
                    once(lambda: KERNELS[kernel](x_TD, given.routing, weights), device)  # noqa: B023
                )
        medians = {kernel: statistics.median(values[2:]) for kernel, values in seconds.items()}
        found.append(
            {"tokens": count, "copied_bytes": copied, "rival": rival}
            | {"gather": medians["gather"], "rival_s": medians[rival]}
        )
    return found


def limit(found: list[dict[str, Any]]) -> int:
    """Bytes copied at the last point at which `gather` won; 0 when it never did."""
    return max((point["copied_bytes"] for point in found if point["gather"] <= point["rival_s"]), default=0)


def sentence(found: dict[str, list[dict[str, Any]]]) -> str:
    """Limits in use beside the ones measured."""
    parts = []
    for rival, in_use in (("grouped", GATHER_BYTES_GROUPED), ("padded", GATHER_BYTES_PADDED)):
        measured = [limit(points) for points in found.values() if points and points[0]["rival"] == rival]
        if measured:
            low, high = (round(edge(measured) / MIB) for edge in (min, max))
            parts.append(f"before {rival} {in_use // MIB} MiB in use, {low} to {high} MiB measured")
    return "; ".join(parts)
