"""Our expert kernels against Hugging Face transformers' three, and against dense FFNs, in one process.

    python -m benchmarks.kernels [--device auto] [--quick] [--shapes mixtral fine qwen3] [--dtypes bf16 fp32]

Given x and its routing, each contestant computes y. Per round every contestant runs once, in
random order, on the next copy of the weights and the next routing; a ratio is the median over
rounds of (their seconds / our seconds). Writes benchmarks/results/kernels-<device>-<date>.json.
How to read it: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor
from torch.nn import functional
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from benchmarks import machine
from moe_core import device as dev
from moe_core.labs.tuning import measure
from moe_core.nn.experts import ExpertWeights, auto, choose
from moe_core.nn.routing import Routing
from moe_core.nn.tuning import Tuning
from moe_core.units import GIGA, TERA
from moe_core.version import __version__, commit

RESULTS = Path(__file__).parent / "results"
THEIRS = ("eager", "grouped_mm", "batched_mm")
TOKENS = (1, 4, 16, 64, 256, 1024, 4096)
MOST_COLUMNS = 32_768
PROBE_S = 1.0  # of one product of the roofline
DEAR_S = 10.0  # of a call of a dense network: dearer ones are absent
TILE = 1 << 22  # random numbers made once and repeated: weights are filled in seconds, not minutes


class Shape(NamedTuple):
    hidden: int
    width: int
    experts: int
    top_k: int

    @property
    def expert_count(self) -> int:
        """Weights of one gated expert."""
        return 3 * self.hidden * self.width


SHAPES = {
    "mixtral": Shape(1024, 3584, 8, 2),
    "fine": Shape(1024, 256, 64, 6),
    "qwen3": Shape(2048, 768, 128, 8),
}


class Input(NamedTuple):
    x_TD: Tensor
    routing: Routing
    chosen_TK: Tensor
    weights_TK: Tensor
    first: int  # an expert that is hit


Contestant = Callable[[int, Input], Tensor]  # (which copy of the weights, input) -> y


def make_weights(
    shape: Shape, dtype: torch.dtype, device: torch.device, tuning: Tuning
) -> list[ExpertWeights]:
    """As many copies as overflow the last cache, within a third of the free memory; at least one."""
    size = shape.experts * shape.expert_count * dtype.itemsize
    budget = min(2.5 * dev.cache_bytes(device), dev.free_memory(device) / 3)
    tile = (torch.randn(TILE, generator=torch.Generator().manual_seed(0)) * 0.03).to(device, dtype)

    def filled(*sizes: int) -> Tensor:
        flat = torch.empty(math.prod(sizes), dtype=dtype, device=device)
        for start in range(0, flat.numel(), TILE):
            flat[start : start + TILE] = tile[: flat.numel() - start]
        return flat.view(sizes)

    return [
        ExpertWeights(
            filled(shape.experts, 2 * shape.width, shape.hidden),
            filled(shape.experts, shape.hidden, shape.width),
            tuning=tuning,
        )
        for _ in range(max(1, int(budget / size)))
    ]


def make_input(x_TD: Tensor, shape: Shape, seed: int) -> Input:
    """Top-k of a softmax over random logits, renormalised, for these tokens."""
    g, (tokens, device) = torch.Generator().manual_seed(seed), (x_TD.shape[0], x_TD.device)
    scores_TE = torch.randn(tokens, shape.experts, generator=g).softmax(-1).to(device)
    weights_TK, chosen_TK = scores_TE.topk(shape.top_k, dim=-1)
    weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
    token_ids_N = torch.arange(tokens, device=device).repeat_interleave(shape.top_k)
    routing = Routing(
        token_ids_N, chosen_TK.flatten(), weights_TK.flatten(), scores_TE, per_token=shape.top_k
    )
    return Input(x_TD, routing, chosen_TK, weights_TK.to(x_TD.dtype), int(chosen_TK[0, 0]))


def theirs(implementation: str, shape: Shape, copies: list[ExpertWeights]) -> Contestant:
    """Mixtral's experts in transformers, over the same weight tensors."""
    config = MixtralConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.width,
        num_local_experts=shape.experts,
        num_experts_per_tok=shape.top_k,
    )
    config._experts_implementation = implementation
    modules = []
    for weights in copies:
        with torch.device("meta"):
            module = MixtralExperts(config)
        module.gate_up_proj = torch.nn.Parameter(weights.gate_up_EGD, requires_grad=False)
        module.down_proj = torch.nn.Parameter(weights.down_EDF, requires_grad=False)
        modules.append(module)
    return lambda copy, given: modules[copy](given.x_TD, given.chosen_TK, given.weights_TK)


def dense(shape: Shape, copies: list[ExpertWeights], experts: int) -> Contestant:
    """A gated FFN as wide as `experts` experts, over the memory of the first one hit and its neighbours.

    In equal slices of at most 32,768 columns: oneDNN in torch 2.13 divides by zero at 98,304.
    """
    hidden, slices = shape.hidden, math.ceil(experts * shape.width / MOST_COLUMNS)
    width = experts * shape.width // slices

    def ffn(copy: int, given: Input) -> Tensor:
        taken = slice(min(given.first, shape.experts - experts), None)
        gate_up = copies[copy].gate_up_EGD[taken].view(-1)[: 2 * slices * width * hidden]
        down = copies[copy].down_EDF[taken].view(-1)[: slices * width * hidden]
        y_TD = None
        for up_GD, down_DF in zip(
            gate_up.view(slices, -1, hidden), down.view(slices, hidden, -1), strict=True
        ):
            gate, up = functional.linear(given.x_TD, up_GD).chunk(2, dim=-1)
            part_TD = functional.linear(functional.silu(gate) * up, down_DF)
            y_TD = part_TD if y_TD is None else y_TD.add_(part_TD)
        assert y_TD is not None
        return y_TD

    return ffn


def contestants(
    shape: Shape, copies: list[ExpertWeights], tokens: int, device: torch.device, peak_flops: float
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Who runs, and who does not and why."""
    who: dict[str, Contestant] = {"auto": lambda copy, given: auto(given.x_TD, given.routing, copies[copy])}
    who |= {name: theirs(name, shape, copies) for name in THEIRS}
    who["dense_active"] = dense(shape, copies, shape.top_k)
    who["dense_total"] = dense(shape, copies, shape.experts)
    absent = {}
    itemsize = copies[0].down_EDF.itemsize
    copied = tokens * shape.top_k * shape.expert_count * itemsize
    limit = min(dev.free_memory(device) / 2, 4e9 if device.type == "cpu" else 32e9)
    if copied > limit:
        del who["batched_mm"]
        absent["batched_mm"] = f"would copy {copied / GIGA:.1f} GB of weights"
    flops = 2 * tokens * shape.experts * shape.expert_count
    if flops > DEAR_S * peak_flops:
        del who["dense_total"]
        absent["dense_total"] = f"{flops / TERA:.1f} TFLOP a call"
    return who, absent


def check(who: dict[str, Contestant], given: Input) -> None:
    """Ours and theirs agree, or the times mean nothing."""
    expected = who["grouped_mm"](0, given).float()
    for name in ("auto", "eager", "batched_mm"):
        if name in who:
            error = (who[name](0, given).float() - expected).abs().max() / expected.abs().max()
            assert error < 0.02, f"{name} differs from grouped_mm by {error:.3f}"


def time_rounds(
    who: dict[str, Contestant], x_TD: Tensor, shape: Shape, copies: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds of every call, by contestant. 5 rounds at least, 100 at most, about `seconds` in all.

    Every round has a new routing. With few tokens the contestants of a round share it, since the
    number of experts hit differs between routings; with many every call has its own, because in
    use routings never repeat, and whoever compiles a kernel for every new number of rows pays for it.
    """
    device = x_TD.device
    times: dict[str, list[float]] = {name: [] for name in who}
    turn, shuffle, start = count(), random.Random(0), time.perf_counter()
    slow: set[str] = set()
    for number in range(100):
        if number >= 5 and time.perf_counter() - start > seconds:
            break
        for name in shuffle.sample(sorted(who), len(who)):
            if name in slow and number >= 3:  # three calls tell enough of a contestant that is far behind
                continue
            step = next(turn)
            given = make_input(x_TD, shape, seed=1 + (number if x_TD.shape[0] < 256 else step))
            dev.synchronise(device)
            with dev.Timer(device) as timer:
                who[name](step % copies, given)
            times[name].append(timer.seconds)
        if number == 2:
            ours = statistics.median(times["auto"])
            slow = {name for name in who if statistics.median(times[name]) > 4 * ours}
    return times


def point(
    name: str, tokens: int, dtype: torch.dtype, device: torch.device, copies: list[ExpertWeights],
    peaks: dict[str, float], seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """One row of the table."""
    shape = SHAPES[name]
    g = torch.Generator().manual_seed(0)
    x_TD = torch.randn(tokens, shape.hidden, generator=g).to(device, dtype)
    given = make_input(x_TD, shape, seed=0)
    who, absent = contestants(shape, copies, tokens, device, peaks["flops"])
    check(who, given)
    times = time_rounds(who, x_TD, shape, len(copies), seconds)
    medians = {who: statistics.median(seconds) for who, seconds in times.items()}
    ratios = {who: paired(times[who], times["auto"]) for who in times if who != "auto"}
    best = min((who for who in THEIRS if who in times), key=lambda who: ratios[who])
    pairs = tokens * shape.top_k
    hit = given.chosen_TK.unique().numel()
    moved = (hit * shape.expert_count + 2 * tokens * shape.hidden) * dtype.itemsize
    bound = max(2 * pairs * shape.expert_count / peaks["flops"], moved / peaks["bytes"])
    return {
        "shape": name, **shape._asdict(), "dtype": dev.dtype_name(dtype), "tokens": tokens,
        "kernel": choose(device, dtype, pairs, copies[0], gradients=False),
        "experts_hit": hit, "weight_copies": len(copies), "rounds": len(times["auto"]),
        "seconds": {who: spread(values) for who, values in times.items()}, "absent": absent,
        "ratio": ratios, "best_of_theirs": best, "ratio_to_best": ratios[best],
        "roofline_s": bound, "roofline_fraction": bound / medians["auto"],
    }  # fmt: skip


def paired(theirs: list[float], ours: list[float]) -> float:
    """Median over rounds of theirs / ours: noise that lasts a round cancels."""
    return statistics.median(t / o for t, o in zip(theirs, ours, strict=False))


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "p25": low, "p75": high}


def measure_peaks(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """This machine's roofline: the best matrix product found, and reading memory beyond the last cache."""
    best, taken = 0.0, 0.0
    for size in (512, 1024, 2048, 4096):
        if 8 * taken > PROBE_S:  # no such products here: twice the size takes eight times as long
            break
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in "ab")
        taken = min(once(lambda: left @ right.t(), device) for _ in range(6))  # noqa: B023
        wide = min(once(lambda: left.float() @ right.float().t(), device) for _ in range(6))  # noqa: B023
        best = max(best, 2 * size**3 / min(taken, wide))  # where a dtype is emulated, converting is faster
    words = min(int(2 * dev.cache_bytes(device)), int(dev.free_memory(device) / 3)) // 4
    buffer = torch.ones(words, device=device)
    read = max(4 * words / once(buffer.sum, device) for _ in range(6))
    return {"flops": best, "bytes": read}


def once(call: Callable[[], Tensor], device: torch.device) -> float:
    dev.synchronise(device)
    with dev.Timer(device) as timer:
        call()
    return timer.seconds


def run(options: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """Every point asked for, in order, printed as it comes."""
    for dtype in (dev.DTYPES[name] for name in options.dtypes):
        peaks = options.peaks[dev.dtype_name(dtype)] = measure_peaks(device, dtype)
        print(
            f"{dev.dtype_name(dtype)}: {peaks['flops'] / TERA:.2f} TFLOP/s, {peaks['bytes'] / GIGA:.0f} GB/s"
        )
        for name in options.shapes:
            copies = make_weights(SHAPES[name], dtype, device, options.tuning)
            for tokens in options.tokens:
                machine.settle()
                row = point(name, tokens, dtype, device, copies, peaks, options.seconds)
                times = " ".join(f"{who} {s['median'] * 1e3:.2f}" for who, s in row["seconds"].items())
                where, ratio = f"{name:8}{row['dtype']:5}{tokens:5}", f"x{row['ratio_to_best']:.2f}"
                share = f"{row['roofline_fraction']:.0%} of roofline"
                print(
                    f"{where} {ratio} {row['best_of_theirs']:10} {share}  {row['kernel']}  ms: {times}",
                    flush=True,
                )
                yield row
                time.sleep(options.pause)


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Geometric mean and worst ratio to transformers' best, over all points and by dtype."""
    found = {}
    for dtype in ("all", *dict.fromkeys(row["dtype"] for row in rows)):
        ratios = [row["ratio_to_best"] for row in rows if dtype in ("all", row["dtype"])]
        found[dtype] = {
            "geometric_mean": statistics.geometric_mean(ratios), "worst": min(ratios), "points": len(ratios)
        }  # fmt: skip
    return found


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", default=list(reversed(dev.DTYPES)), choices=list(dev.DTYPES))
    parser.add_argument("--tokens", nargs="+", type=int, default=list(TOKENS))
    parser.add_argument("--seconds", type=float, default=3.0, help="aimed at for each point")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between points, to share a machine")
    parser.add_argument("--quick", action="store_true", help="a smoke run: one shape, two sizes, no file")
    parser.add_argument("--out", type=Path, help="a file; slices of the grid are joined in it")
    options = parser.parse_args(arguments)
    if options.quick:
        options.shapes, options.tokens, options.seconds = ["fine"], [1, 64], 0.2
    options.peaks = {}
    return options


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run what `arguments` (or the command line) ask for: the summary and, unless quick, a result file."""
    options = parse(arguments)
    device = dev.pick(options.device)
    options.tuning = measure(device)
    with torch.inference_mode():
        rows = list(run(options, device))
    summary = summarise(rows)
    print(json.dumps(summary, indent=1))
    if options.quick:
        return summary
    now = datetime.now(UTC)
    info = dev.describe(device)
    report = {
        "benchmark": "kernels", "date": now.isoformat(timespec="seconds"), "commit": commit(),
        "hardware": {**info._asdict(), "cache_bytes": dev.cache_bytes(device)},
        "versions": {
            "moescope": __version__, "torch": torch.__version__, "transformers": transformers.__version__,
            "python": sys.version.split()[0],
        },
        "waiting": machine.WAITING.policy, "roofline": options.peaks,
        "command": sys.argv[1:] if arguments is None else arguments,
        "tuning": options.tuning.model_dump(mode="json"), "summary": summary, "points": rows,
    }  # fmt: skip
    path = options.out or RESULTS / f"kernels-{info.key}-{now:%Y%m%d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(joined(report, path), indent=1) + "\n")
    print(path)
    return summary


def joined(report: dict[str, Any], path: Path) -> dict[str, Any]:
    """The report, and the points that a file of the same code and hardware holds already."""
    before = json.loads(path.read_text()) if path.exists() else {}
    if any(before.get(name) != report[name] for name in ("commit", "hardware", "versions")):
        return report
    timed = {(point["shape"], point["dtype"], point["tokens"]) for point in report["points"]}
    kept = [p for p in before["points"] if (p["shape"], p["dtype"], p["tokens"]) not in timed]
    points = kept + report["points"]
    return report | {
        "points": points,
        "summary": summarise(points),
        "roofline": before["roofline"] | report["roofline"],
    }


if __name__ == "__main__":
    main()
