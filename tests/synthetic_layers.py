"""Synthetic layer sweeps and calibrations: times that follow the law they are predicted by, no torch."""

from __future__ import annotations

import math
from typing import Any

from moe_core.perf.calibrate import Calibration, MemoryReading, RateCurve, Rates, TimedProduct
from moe_core.perf.distinct import uniform
from moe_core.specs import RunSpec

TOKENS = tuple(2**i for i in range(13))
FLOPS, BYTES, LAYER_S, EXPERT_S, MOVE_S = 1e12, 2e10, 2e-4, 1e-5, 1e-10


def dense_s(hidden: int, width: int, tokens: int) -> float:
    """Reading plus multiplying plus a start, bf16."""
    elements = 3 * hidden * width
    return 2e-5 + 2 * elements / BYTES + 2.0 * elements * tokens / FLOPS


def expert_s(elements: float, pairs: float) -> float:
    """One busy expert."""
    return EXPERT_S + 2 * elements / BYTES + 2.0 * elements * pairs / FLOPS


def mixture_s(hidden: int, width: int, experts: int, top_k: int, tokens: int) -> float:
    """A mixture layer without router and shared experts."""
    hit, pairs = uniform(experts, top_k, tokens), tokens * top_k
    each = expert_s(3 * hidden * width, pairs / hit)
    return LAYER_S + hit * each + MOVE_S * pairs * hidden


def calibration() -> Calibration:
    """What probes of that device would say, at sizes of their own."""
    rows = tuple(float(2**i) for i in range(12))
    loads = tuple(2.0**i for i in range(-4, 11))

    def ffn(size: float) -> RateCurve:
        times = tuple(2e-5 + 2 * size / BYTES + 2 * size * m / FLOPS for m in rows)
        return RateCurve(size=size, rows=rows, seconds=times)

    def bank(size: float) -> RateCurve:
        # pairs a busy expert: the load over the busy share
        times = tuple(expert_s(size, load / -math.expm1(-load)) for load in loads)
        return RateCurve(size=size, rows=loads, seconds=times)

    rates = Rates(
        itemsize=2,
        layer_s=LAYER_S,
        pair_s=MOVE_S,
        ffn=tuple(ffn(size) for size in (6e3, 4e6, 7e7)),
        experts=(
            RateCurve(size=6e3, rows=(1.0,), seconds=(EXPERT_S,)),
            *(bank(size) for size in (6e5, 4e6, 1.2e7)),
        ),
        router=(RateCurve(size=8e3, rows=(1.0, 4096.0), seconds=(3e-5, 1e-3)),),
        products=(TimedProduct(m=1024, n=1536, k=1536, seconds=2 * 1024 * 1536**2 / FLOPS),),
        peak_flops=FLOPS,
        peak_bytes=BYTES,
    )
    readings = (
        MemoryReading(working_set=2**18, bytes_per_s=1e11),
        MemoryReading(working_set=2**30, bytes_per_s=BYTES),
    )
    return Calibration(launch_s=2e-6, readings=readings, rates={"bf16": rates, "fp32": rates})


SIZES = {
    "layer_sweep": (("scale", "scale-16x4+1", 256, 61, 16, 4, 61, False),),
    "real_layers": (
        ("mixtral-8x7b", "Mixtral-8x7B", 4096, 14336, 8, 2, 0, True),
        ("qwen3-30b-a3b", "Qwen3-30B-A3B", 2048, 768, 128, 8, 0, True),
    ),
}


def layers(spec: RunSpec) -> dict[str, Any]:
    """The table of a sweep: three repeats of every series."""
    rows = []
    for name, _, hidden, width, experts, top_k, shared, _ in SIZES[spec.lab]:
        for tokens in TOKENS:
            hit = uniform(experts, top_k, tokens)
            auto = mixture_s(hidden, width, experts, top_k, tokens) + dense_s(hidden, shared or 1, tokens)
            work = dense_s(hidden, round(hit) * width, max(1, round(tokens * top_k / hit)))
            active, total = top_k * width + shared, experts * width + shared
            found = [
                ("auto", active, hit, auto),
                ("grouped", active, hit, 1.2 * auto),
                ("loop", active, hit, 3 * auto),
            ]
            found += [("same_work", active, hit, min(work, 0.8 * auto))]
            widths = (active // 2, active, 2 * active, total, 2 * total)
            found += [("dense", wide, None, dense_s(hidden, wide, tokens)) for wide in widths]
            rows += [
                (name, series, tokens, wide, count, repeat, taken * (1 + 0.01 * repeat))
                for series, wide, count, taken in found
                for repeat in range(3)
            ]
    names = ("subject", "series", "tokens", "width", "hit", "repeat", "seconds")
    return {"layers": dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))}


def summary(spec: RunSpec) -> dict[str, Any]:
    """The summary of a sweep, or of a calibration."""
    base = {"tokens": spec.batch * spec.seq, "decisions": 0}
    if spec.lab == "calibrate":
        return {**base, "calibration": calibration().model_dump(mode="json"), "passes": 3}
    subjects = [
        {
            "name": name, "label": label, "hidden": hidden, "width": width, "experts": experts,
            "top_k": top_k, "shared_width": shared, "gated": True, "random": random, "working_set": 2**30,
            "active_width": top_k * width + shared, "total_width": experts * width + shared,
        }
        for name, label, hidden, width, experts, top_k, shared, random in SIZES[spec.lab]
    ]  # fmt: skip
    missing = {"deepseek-v3": "DeepSeek-V3 needs 25.8 GB, the device can give 20.5 GB"}
    real = spec.lab == "real_layers"
    return {**base, "subjects": subjects, "skipped": {}, "missing": missing if real else {}, "auto_s": {}}
