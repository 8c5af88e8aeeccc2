"""What recording every router decision costs a forward pass. At most 5 % is promised.

    python -m benchmarks.recording [--device auto] [--pairs 40] [--store]

A pass without an observer and a pass with the recorder alternate, in random order within a pair.
Two costs: of the pass itself, as a user would wait for it, and with the decisions brought to the
host afterwards. Medians over pairs with a bootstrap interval; CPU seconds beside wall seconds,
which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import machine
from moe_core.device import Timer, pick, synchronise
from moe_core.nn.model import Decoder
from moe_core.nn.observe import NULL
from moe_core.runs import allocator, models, text, tuning
from moe_core.runs.question import dtype_for
from moe_core.runs.record import Recorder
from moe_core.specs import RunSpec

QUESTIONS = (
    RunSpec(batch=1, seq=256),
    RunSpec(),
    RunSpec(batch=32),
    RunSpec(experts=64, top_k=8),
)


class Cost(NamedTuple):
    """Seconds of one pass: by the device's clock (events on CUDA), then wall and CPU up to its end, then both
    with the decisions on the host."""

    timed: float
    wall: float
    cpu: float
    collected_wall: float
    collected_cpu: float


def once(model: Decoder, ids_BS: torch.Tensor, recorder: Recorder | None) -> Cost:
    """One pass. Without a recorder there is nothing to collect."""
    device = ids_BS.device
    synchronise(device)
    wall, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode(), Timer(device) as timer:
        model(ids_BS, observer=recorder or NULL)
    synchronise(device)
    middle = timer.seconds, time.perf_counter() - wall, time.process_time() - cpu
    if recorder:
        with torch.inference_mode():
            recorder.collect()
    return Cost(*middle, time.perf_counter() - wall, time.process_time() - cpu)


def overhead(plain: list[float], recorded: list[float], draws: int = 2000) -> dict[str, float]:
    """Median over pairs of recorded / plain - 1, with a 95 % bootstrap interval."""
    ratios = np.array(recorded) / np.array(plain) - 1
    generator = np.random.default_rng(0)
    medians = np.median(generator.choice(ratios, (draws, len(ratios))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high)}


def measure(spec: RunSpec, device: torch.device, pairs: int) -> dict[str, Any]:
    """All overheads of one question."""
    dtype = dtype_for(spec, device, tuning.known(device))
    model, sample = models.mixture(spec, device, dtype), text.read(spec)
    ids_BS = torch.from_numpy(sample.window_BW[:, : spec.seq]).to(device, torch.int64)
    members = [sample.domains.index(name) for name in sample.domains_B]

    def recorder() -> Recorder:
        return Recorder(members, len(sample.domains), spec.seq)

    plain, recorded = [], []
    runs: list[Callable[[], None]] = [
        lambda: plain.append(once(model, ids_BS, None)),
        lambda: recorded.append(once(model, ids_BS, recorder())),
    ]
    order = random.Random(0)
    for _ in range(pairs + 2):
        for run in order.sample(runs, 2):
            run()
    before, after = Cost(*zip(*plain[2:], strict=True)), Cost(*zip(*recorded[2:], strict=True))
    return {
        "spec": {name: getattr(spec, name) for name in ("experts", "top_k", "shared", "batch", "seq")},
        "decisions": spec.batch * spec.seq * spec.top_k * len(model.arch.moe_layers),
        "plain_wall_s": float(np.median(before.wall)),
        "pass_wall": overhead(before.timed, after.timed),
        "pass_cpu": overhead(before.cpu, after.cpu),
        "collected_wall": overhead(before.wall, after.collected_wall),
        "collected_cpu": overhead(before.cpu, after.collected_cpu),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--store", action="store_true", help="write the result under benchmarks/results")
    options = parser.parse_args()
    device = pick(options.device)
    allocator.keep_pages()
    found: dict[str, Any] = {"environment": machine.environment(device), "questions": []}
    for spec in QUESTIONS:
        machine.settle()
        row = measure(spec, device, options.pairs)
        found["questions"].append(row)
        shown = "  ".join(
            f"{name} {row[name]['median']:+.2%} ({row[name]['low']:+.2%} .. {row[name]['high']:+.2%})"
            for name in ("pass_wall", "pass_cpu", "collected_wall", "collected_cpu")
        )
        print(f"{row['spec']}  pass {row['plain_wall_s'] * 1e3:.1f} ms  {shown}")
    if options.store:
        machine.store("recording", found)


if __name__ == "__main__":
    main()
