"""E11: a decode step over the batch: a mixture beside dense layers of its active and of its total size.

One feed-forward layer, all three with our own kernels on the device at hand, at a size where reading weights
matters: hidden 512, 32 experts of width 512, top-2 (100 MB in fp32). Each call takes other weights out of a
pool that overflows the last cache (or takes a third of the free memory), as the layers of a model would
follow one another. Calls alternate within a round, so that what disturbs the machine for a while disturbs all
three; what is told is the median over the rounds of a seed, which draws router and tokens. On a host one
thread computes, and its own seconds are counted: what other programs take of the core is left out, what they
take of the memory's bandwidth is not. Up to 64 tokens are a decode step of so many sequences; 512 stand for a
prompt. Fixed before the run: size, ladder, rounds; a ratio is the mixture's median over the dense layer's;
`mid` is the batch at which the even router is expected to reach half of its experts, `most` the largest of a
decode step.
Published: as fast as the active size at batch 1 and in prefill, towards the total size in between (gpt-fast,
Mixtral and Llama-2 on an A100; formula E (1 - (1 - K/E)^B), with which the share of experts that were reached
is drawn). Attention and everything else that both kinds have alike is left out.
Legend: T tokens, D model, E experts, K top-k.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from moe_core.device import Timer, computing_with, dtype_name, pick, resolve_dtype, synchronise
from moe_core.labs.bank import Pool, pool_elements
from moe_core.labs.training import arms
from moe_core.labs.training.board import Board
from moe_core.labs.training.statistics import Finding, over_seeds
from moe_core.nn.experts import KERNELS, ExpertWeights
from moe_core.nn.router import build
from moe_core.perf import distinct
from moe_core.runs import tuning
from moe_core.runs.context import RunContext
from moe_core.specs import Experts, RunSpec

HIDDEN = 512
BANK = Experts(count=32, top_k=2, width=512)
LADDER = {"quick": (1, 2, 4, 8, 16, 32, 64, 512), "full": (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512)}
DECODE = 64  # sequences of a decode step, at most; beyond, a prompt
MID = 11  # E (1 - (1 - K/E)^T) = E / 2
ROUNDS = {"quick": 15, "full": 41}  # of calls; the first warms up
LONG_S = 0.15  # a round that takes longer is done a third as often
SEEDS = {"quick": 1, "full": 3}
MIXTURE, ACTIVE, TOTAL = "mixture", "dense of equal active size", "dense of equal total size"

Call = Callable[[], object]


class DecodeLayer(NamedTuple):
    """One layer of every kind over the same pool; tokens and router by a seed."""

    pool: Pool
    router: torch.nn.Module
    x_TD: Tensor

    @classmethod
    def drawn(cls, pool: Pool, seed: int, device: torch.device, dtype: torch.dtype, most: int) -> DecodeLayer:
        """Random tokens, a random router."""
        generator = torch.Generator().manual_seed(seed)
        x_TD = torch.randn(4 * most, HIDDEN, generator=generator).to(device, dtype)
        return cls(pool, build(BANK, HIDDEN, seed).to(device, dtype), x_TD)

    def calls(self, tokens: int, turn: int) -> dict[str, Call]:
        """Name -> what is timed, each on the next weights of the pool."""
        start = (turn * 389) % (len(self.x_TD) - tokens + 1)
        x_TD = self.x_TD[start : start + tokens]
        return {
            MIXTURE: self._mixture(x_TD),
            ACTIVE: self._dense(x_TD, BANK.top_k),
            TOTAL: self._dense(x_TD, BANK.count),
        }

    def _mixture(self, x_TD: Tensor) -> Call:
        bank = self.pool.experts(HIDDEN, BANK.width, BANK.count)
        known = tuning.known(x_TD.device)
        weights = ExpertWeights(bank.gate_up_EGD, bank.down_EDF, True, False, known)
        return lambda: KERNELS["auto"](x_TD, self.router(x_TD), weights)

    def _dense(self, x_TD: Tensor, experts: int) -> Call:
        network = self.pool.dense(HIDDEN, experts * BANK.width)
        return lambda: network(x_TD)

    def hit(self, tokens: int, turn: int) -> int:
        """Experts that these tokens reach."""
        start = (turn * 389) % (len(self.x_TD) - tokens + 1)
        return int((self.router(self.x_TD[start : start + tokens]).load_E() > 0).sum())


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises ConfigError, CancelledError, StoreError."""
    setting = arms.settings(spec).setting
    device = pick(spec.device)
    dtype = resolve_dtype(spec.dtype, device)
    seeds = range(spec.seed, spec.seed + (arms.settings(spec).seeds or SEEDS[setting]))
    pool = Pool.filled(pool_elements(_largest(), dtype.itemsize, device), dtype, device)
    rules = {"hidden": HIDDEN, "bank": BANK.model_dump(mode="json"), "rounds": ROUNDS[setting]}
    board = Board(spec, context, {**rules, "dtype": dtype_name(dtype), "pool_bytes": pool.nbytes}, device)
    ladder = LADDER[setting]
    with torch.inference_mode():
        for number, seed in enumerate(seeds):
            layer = DecodeLayer.drawn(pool, seed, device, dtype, max(ladder))
            for share in measure(board, layer, ladder, ROUNDS[setting], seed):
                board.step((number + share) / len(seeds), "sweep")
    return board.publish(findings(board, ladder), {})


def _largest() -> int:
    """Elements of the widest dense layer."""
    return 3 * HIDDEN * BANK.width * BANK.count + 2**16


def measure(
    board: Board, layer: DecodeLayer, ladder: tuple[int, ...], rounds: int, seed: int
) -> Iterator[float]:
    """Medians of every kind and batch; yields the share done, between rounds."""
    for number, tokens in enumerate(ladder):
        found, turn, left = dict[str, list[float]](), 0, rounds
        while turn < left:
            seconds = one_round(layer.calls(tokens, turn), layer.x_TD.device)
            if turn == 0 and sum(seconds.values()) > LONG_S:
                left = max(3, rounds // 3)
            if turn > 0:
                for name, value in seconds.items():
                    found.setdefault(name, []).append(value)
            turn += 1
            yield (number + turn / left) / len(ladder)
        hit = statistics.mean(layer.hit(tokens, turn) for turn in range(1, left))
        _put(board, seed, tokens, {name: statistics.median(values) for name, values in found.items()}, hit)


def one_round(calls: Mapping[str, Call], device: torch.device) -> dict[str, float]:
    """Seconds of every call, one after the other."""
    clock = _host_seconds if device.type == "cpu" else partial(_device_seconds, device)
    return {name: clock(call) for name, call in calls.items()}


def _host_seconds(call: Call) -> float:
    with computing_with(1):
        start = time.thread_time()
        call()
        return time.thread_time() - start


def _device_seconds(device: torch.device, call: Call) -> float:
    synchronise(device)
    with Timer(device) as timer:
        call()
    return timer.seconds


def _put(board: Board, seed: int, tokens: int, medians: Mapping[str, float], hit: float) -> None:
    for name, seconds in medians.items():
        board.put(name, seed, "seconds", tokens, seconds, "batch")
    for name, dense in (("ratio_dense_active", ACTIVE), ("ratio_dense_total", TOTAL)):
        board.put(MIXTURE, seed, name, tokens, medians[MIXTURE] / medians[dense], "batch")
    formula = distinct.uniform(BANK.count, BANK.top_k, tokens)
    board.put(MIXTURE, seed, "experts_reached", tokens, hit, "batch")
    board.put("uniform formula", seed, "experts_reached", tokens, formula, "batch")


def findings(board: Board, ladder: tuple[int, ...]) -> dict[str, Finding]:
    """Ratios at batch 1, in the middle, at the largest decode step and in a prompt."""
    places = {
        "b1": 1,
        "mid": min(ladder, key=lambda tokens: abs(tokens - MID)),
        "most": max(tokens for tokens in ladder if tokens <= DECODE),
        "prompt": max(ladder),
    }
    return {
        f"{name}.{place}": over_seeds(_at(board, name, tokens), "ratio")
        for name in ("ratio_dense_active", "ratio_dense_total")
        for place, tokens in places.items()
    }


def _at(board: Board, name: str, tokens: int) -> list[float]:
    """One value a seed."""
    curves = [board.curve(MIXTURE, seed, name, "batch") for seed in board.seeds(MIXTURE)]
    return [curve.value[curve.x.index(tokens)] for curve in curves]
