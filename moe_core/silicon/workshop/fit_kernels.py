"""Fit the constants of single kernels to the tables: `python -m moe_core.silicon.workshop.fit_kernels`.

Writes data/silicon/constants.json: for each system, framework and format the constants of products
and attention, lines of the collectives, and the error of leaving out one shape at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

from moe_core import hardware
from moe_core.perf import attention_time, comm, gemm
from moe_core.perf.attention_time import Heads
from moe_core.perf.gemm import DataSheet, GemmConstants
from moe_core.silicon import tables
from moe_core.silicon.constants import PATH, Array
from moe_core.silicon.systems import SYSTEMS

MLA_WIDTHS = (576, 512, 192, 128)  # DeepSeek: latent with rope, latent, key and value of one head in prefill
_FOLDS = 5
_MOST = 6_000  # points a fit sees, evenly taken
_START = np.log([3e-6, 1e-9, 0.8, 0.6, 2.0])
_LOW = np.log([3e-7, 1e-13, 0.2, 0.02, 1.0])
_HIGH = np.log([2e-4, 1e-7, 1.0, 1.0, 6.0])

Model = Callable[[dict[str, Array], GemmConstants], Array]


class _Points(NamedTuple):
    """Columns of a table and a number a shape."""

    arrays: dict[str, Array]
    groups: Array


class KernelFit(NamedTuple):
    """One fit: its name, the points, what it must not have seen to be judged, and the model."""

    name: str
    points: dict[str, Array]
    groups: Array
    model: Model


def fit(case: KernelFit) -> dict[str, float]:
    """Constants on all points; errors on shapes left out in turn."""
    constants = _solve(case, np.ones(len(case.groups), dtype=bool))
    errors = np.concatenate([_left_out(case, fold) for fold in range(_FOLDS)])
    worst = np.quantile(np.abs(errors), 0.9)
    return {
        **constants._asdict(),
        "mape": float(np.mean(np.abs(np.expm1(errors)))),
        "median": float(np.median(np.abs(np.expm1(errors)))),
        "spread": float(np.quantile(np.abs(errors), 0.8)),
        "worst_tenth": float(np.expm1(worst)),
        "points": len(case.groups),
    }


def _left_out(case: KernelFit, fold: int) -> Array:
    """Log errors of the shapes of one fold, by constants that never saw them."""
    held = case.groups % _FOLDS == fold
    if held.all() or not held.any():
        return np.zeros(0)
    constants = _solve(case, ~held)
    points = {name: values[held] for name, values in case.points.items()}
    return np.asarray(np.log(case.model(points, constants)) - np.log(points["seconds"]))


def _solve(case: KernelFit, seen: Array) -> GemmConstants:
    points = {name: values[seen] for name, values in case.points.items()}
    target = np.log(points["seconds"])

    def residuals(logs: Array) -> Array:
        return np.asarray(np.log(case.model(points, GemmConstants(*np.exp(logs)))) - target)

    found = least_squares(residuals, _START, bounds=(_LOW, _HIGH), loss="soft_l1", f_scale=0.2, max_nfev=60)
    return GemmConstants(*(float(value) for value in np.exp(found.x)))


def _points(
    table: str, columns: tuple[str, ...], group: tuple[str, ...], **equal: str | int
) -> _Points | None:
    """Evenly thinned rows as arrays, and a number a shape."""
    found = tables.measured(table, (*columns, "seconds"), **equal)
    count = len(found["seconds"])
    if count < 50:
        return None
    step = max(1, count // _MOST)
    arrays = {name: np.asarray(values[::step], dtype=float) for name, values in found.items()}
    shapes = {key: i for i, key in enumerate(sorted(set(zip(*(arrays[g] for g in group), strict=True))))}
    groups = np.asarray([shapes[key] for key in zip(*(arrays[g] for g in group), strict=True)])
    return _Points(arrays, groups)


def _machine(system: str, dtype: str) -> DataSheet:
    device = hardware.get(SYSTEMS[system])
    return DataSheet(device.peak(dtype), device.bandwidth)


def _gemms(system: str, framework: str) -> Iterable[KernelFit]:
    widths = {"bf16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "nvfp4": 0.5625}
    for dtype, width in widths.items():
        found = _points("gemm", ("m", "n", "k"), ("n", "k"), system=system, framework=framework, dtype=dtype)
        if found is None:
            continue
        machine = _machine(system, dtype)

        def model(
            p: dict[str, Array], c: GemmConstants, machine: DataSheet = machine, width: float = width
        ) -> Array:
            return np.asarray(gemm.seconds(p["m"], p["n"], p["k"], width, machine, c))  # type: ignore[arg-type]

        yield KernelFit(f"gemm/{system}/{framework}/{dtype}", found.arrays, found.groups, model)


def _attention(system: str, framework: str) -> Iterable[KernelFit]:
    shape = ("heads", "kv_heads", "head_dim", "batch")
    machine = _machine(system, "bf16")
    equal: dict[str, str | int] = {"system": system, "framework": framework, "dtype": "bf16", "window": 0}
    for kv, width in (("bf16", 2.0), ("fp8", 1.0)):
        found = _points("attention_generation", (*shape, "past"), shape[:3], kv_dtype=kv, **equal)
        if found is not None:

            def decode(p: dict[str, Array], c: GemmConstants, width: float = width) -> Array:
                heads: Any = Heads(p["heads"], p["kv_heads"], p["head_dim"], p["head_dim"])  # type: ignore[arg-type]
                return np.asarray(attention_time.decode(p["batch"], p["past"], heads, width, machine, c))  # type: ignore[arg-type]

            yield KernelFit(f"decode/{system}/{framework}/{kv}", found.arrays, found.groups, decode)
    found = _points("attention_context", (*shape, "isl"), shape[:3], kv_dtype="bf16", **equal)
    if found is not None:

        def prefill(p: dict[str, Array], c: GemmConstants) -> Array:
            heads: Any = Heads(p["heads"], p["kv_heads"], p["head_dim"], p["head_dim"])  # type: ignore[arg-type]
            return np.asarray(attention_time.prefill(p["batch"], p["isl"], heads, machine, c))  # type: ignore[arg-type]

        yield KernelFit(f"prefill/{system}/{framework}/bf16", found.arrays, found.groups, prefill)


def _latent(system: str) -> Iterable[KernelFit]:
    """MLA of SGLang: the kernel alone."""
    machine, (key, value, own_key, own_value) = _machine(system, "bf16"), MLA_WIDTHS
    equal: dict[str, str | int] = {
        "system": system,
        "framework": "sglang",
        "part": "kernel",
        "kv_dtype": "bf16",
    }
    found = _points("mla", ("heads", "batch", "past"), ("heads",), isl=1, **equal)
    if found is not None:

        def decode(p: dict[str, Array], c: GemmConstants) -> Array:
            heads: Any = Heads(p["heads"], 1, key, value, True)  # type: ignore[arg-type]
            return np.asarray(attention_time.decode(p["batch"], p["past"], heads, 2.0, machine, c))  # type: ignore[arg-type]

        keep = found.arrays["past"] > 0
        yield KernelFit(
            f"latent_decode/{system}/sglang/bf16",
            {k: v[keep] for k, v in found.arrays.items()},
            found.groups[keep],
            decode,
        )
    found = _points("mla", ("heads", "batch", "isl"), ("heads",), past=0, **equal)
    if found is not None:

        def prefill(p: dict[str, Array], c: GemmConstants) -> Array:
            heads: Any = Heads(p["heads"], p["heads"], own_key, own_value)  # type: ignore[arg-type]
            return np.asarray(attention_time.prefill(p["batch"], p["isl"], heads, machine, c))  # type: ignore[arg-type]

        yield KernelFit(f"latent_prefill/{system}/sglang/bf16", found.arrays, found.groups, prefill)


def lines(system: str) -> dict[str, list[dict[str, float]]]:
    """Start and bandwidth of every library's collectives by ranks, with the error of the line."""
    found: dict[str, list[dict[str, float]]] = {}
    libraries = [("nccl", "nccl", op) for op in ("all_reduce", "all_gather", "reduce_scatter", "alltoall")]
    for library, mode, op in [*libraries, ("vllm", "graph", "all_reduce"), ("sglang", "graph", "all_reduce")]:
        dtype = "fp16" if library == "nccl" else "bf16"
        rows = tables.measured(
            "collective",
            ("ranks", "bytes", "seconds"),
            **{"system": system, "framework": library, "dtype": dtype, "mode": mode, "op": op},
        )
        kept = []
        for ranks in sorted(set(rows["ranks"])):
            mine = [i for i, r in enumerate(rows["ranks"]) if r == ranks]
            kept.append(
                _line(op, ranks, [rows["bytes"][i] for i in mine], [rows["seconds"][i] for i in mine])
            )
        if kept:
            found[f"{library}/{op}"] = kept
    return found


def _line(op: str, ranks: int, sizes: list[float], times: list[float]) -> dict[str, float]:
    sent = np.asarray([comm.sent(op, ranks, size) for size in sizes])
    return {"ranks": ranks, **_straight(sent, np.asarray(times))}


def exchanges(system: str) -> dict[str, dict[str, float]]:
    """Start and bandwidth of DeepEP's dispatch and combine among eight devices, both modes."""
    found = {}
    for mode, once in (("low_latency", False), ("normal", True)):
        for part, width in (("dispatch", 1.0), ("combine", 2.0)):
            rows = tables.measured(
                "deepep",
                ("tokens", "hidden", "top_k", part),
                system=system,
                mode=mode,
                ranks=8,
                framework="sglang",
            )
            best: dict[tuple[int, int, int], float] = {}
            for tokens, hidden, top_k, time in zip(*rows.values(), strict=True):
                key = (tokens, hidden, top_k)
                if time and time > 0:
                    best[key] = min(time, best.get(key, math.inf))
            if best:
                sent = [comm.exchange_bytes(t, h, k, 8, width, once) for t, h, k in best]
                found[f"{mode}/{part}"] = _straight(np.asarray(sent), np.asarray(list(best.values())))
    return found


def _straight(sent: Array, times: Array) -> dict[str, float]:
    """t = start + sent / bandwidth, least squares of logarithms."""

    def residuals(logs: Array) -> Array:
        return np.asarray(np.log(np.exp(logs[0]) + sent / np.exp(logs[1])) - np.log(times))

    start = [math.log(times.min()), math.log(max(float(sent.max() / times.max()), 1.0))]
    found = least_squares(residuals, start, loss="soft_l1", f_scale=0.2)
    error = np.abs(np.expm1(residuals(found.x)))
    begin, rate = (float(value) for value in np.exp(found.x))
    return {"start": begin, "bandwidth": rate, "mape": float(error.mean())}


def main() -> None:
    """Fit everything and write the file."""
    kept = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    fitted: dict[str, Any] = {**kept, "kernels": {}, "collectives": {}, "exchanges": {}}
    for system in SYSTEMS:
        for framework in ("vllm", "sglang"):
            for case in (*_gemms(system, framework), *_attention(system, framework)):
                fitted["kernels"][case.name] = _short(fit(case))
        for case in _latent(system):
            fitted["kernels"][case.name] = _short(fit(case))
        fitted["collectives"][system] = {k: [_short(v) for v in rows] for k, rows in lines(system).items()}
        fitted["exchanges"][system] = {k: _short(v) for k, v in exchanges(system).items()}
        print(system, flush=True)
    PATH.write_text(json.dumps(fitted, indent=1) + "\n", encoding="utf-8")


def _short(values: dict[str, float]) -> dict[str, float]:
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in values.items()
    }


if __name__ == "__main__":
    main()
