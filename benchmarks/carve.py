"""How long the shipped dense model takes to become a mixture: seconds, and seconds of one processor.

    python -m benchmarks.carve [--store]

The work is fixed: three assignment problems a layer, each over all routed neurons (tests/nn/test_carve.py).
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

SHAPES = ((4, 1, 0), (16, 4, 1), (64, 8, 1))  # experts, top-k, shared
LIMIT_S, REPEATS = 12.0, 5  # of one processor, for sixteen experts, its down projections fitted again


def measure() -> dict[str, Any]:
    """Medians by shape; the first carving of all loads the solver and is left out."""
    from moe_core.nn import checkpoint
    from moe_core.nn.carve import carve
    from moe_core.runs.models import calibrated
    from moe_core.settings import MODELS

    dense = checkpoint.load(MODELS / "scale-dense.safetensors")
    layers = calibrated()
    carve(dense, layers, *SHAPES[0])
    found = {}
    for experts, top_k, shared in SHAPES:
        spent, worked = [], []
        for _ in range(REPEATS):
            begun, busy = time.perf_counter(), time.process_time()
            carve(dense, layers, experts, top_k, shared)
            spent.append(time.perf_counter() - begun)
            worked.append(time.process_time() - busy)
        seconds = {"s": statistics.median(spent), "cpu_s": statistics.median(worked)}
        found[f"{experts} experts, top {top_k}, {shared} shared"] = seconds
    return found


def main() -> None:
    found = measure()
    met = found["16 experts, top 4, 1 shared"]["cpu_s"] <= LIMIT_S
    print(json.dumps(found, indent=1))
    print(f"sixteen experts within {LIMIT_S:g} s of one processor: {'yes' if met else 'NO'}")
    if "--store" in sys.argv:
        import torch

        from benchmarks.machine import environment, store

        store("carve", {"environment": environment(torch.device("cpu")), "limit_s": LIMIT_S, "shapes": found})
    sys.exit(not met)


if __name__ == "__main__":
    main()
