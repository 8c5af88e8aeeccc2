"""E12: which share of a layer dispatch and combine take, by published latencies and measured here.

Published: DeepEP's dispatch and combine as timed by others (data/silicon/deepep.parquet) for the layer of
DeepSeek-V3 (hidden 7168, 256 experts, top-8) over 8 devices of one node to 64 of eight, beside the experts'
own time by the predictor (`silicon.layer`, even load). In decode the low-latency kernels with 128 tokens a
device, in prefill the normal ones with 4,096: DeepEP's own benchmark. Two shares: *total*, of exchange and
experts one after the other; and *exposed*, where two micro-batches hide the one behind the other as far as it
goes, max(0, exchange - experts) over the longer of both. Attention is left out: it would lower both, and hide
more.
Elsewhere: 15 to 60 % of a layer without overlap (ScMoE, arXiv 2404.05019; COMET, 2502.19811), next to nothing
exposed with it (DeepSeek-V3, 2412.19437).
Here: the same exchange really made, over gloo between two processes of this host, for a small layer, equal to
the layer in one process (`dist.expert_parallel`); its spans are timed in a serial pass, and the pass in two
overlapped halves as a whole. `share_here` is that of the all-to-alls, waiting for the other process included,
with 256 tokens a process; `exposed_here` what the overlapped pass takes beyond the serial one's other spans.
Loopback and two shared cores are no cluster: it is the method that is shown.
Fixed before the run: layer, tokens, rounds; medians over the rounds, means over both ranks.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from moe_core import hardware, registry
from moe_core.dist.launch import launch
from moe_core.labs.training import arms
from moe_core.labs.training.board import Board
from moe_core.labs.training.statistics import Finding, over_seeds
from moe_core.nn.initial import normal
from moe_core.nn.moe import MoE
from moe_core.perf import economics
from moe_core.perf.moe_layer import LayerCase
from moe_core.runs.context import RunContext
from moe_core.runs.timing import Spans
from moe_core.silicon import layer, tables
from moe_core.silicon.systems import SYSTEMS
from moe_core.specs import Experts, RunSpec

PUBLISHED = "deepseek-v3"
FORM = "fp8_block"
RANKS = (8, 16, 32, 64)
MODES = {"decode": "low_latency", "prefill": "normal"}
TOKENS = {  # of each device
    "decode": (2, 4, 8, 16, 32, 64, 128),
    "prefill": (512, 1024, 2048, 4096, 8192, 16384),
}
AT = {"decode": 128, "prefill": 4096}

HERE_HIDDEN = 256
HERE = Experts(count=16, top_k=2, width=512)
HERE_RANKS, HERE_AT = 2, 256
HERE_TOKENS = {"quick": (64, 256), "full": (16, 64, 256, 1024)}
ROUNDS = {"quick": 12, "full": 50}  # the first two warm up
WARM = 2
SEEDS = {"quick": 1, "full": 3}
SERIAL, OVERLAPPED = "here, two processes", "here, two processes, overlapped"


class ExchangeShare(NamedTuple):
    """Exchange and experts of one layer: seconds, and the shares of the exchange."""

    exchange: float
    experts: float

    @property
    def total(self) -> float:
        """Of both, one after the other."""
        return economics.network_share(self.experts, (self.exchange, self.exchange))[0]

    @property
    def exposed(self) -> float:
        """What cannot hide behind the experts, of the longer of both."""
        return max(0.0, self.exchange - self.experts) / max(self.exchange, self.experts)


class ExchangeTopology(NamedTuple):
    """Devices of one kind joined in one way, in one phase."""

    system: str
    ranks: int
    phase: str

    @property
    def name(self) -> str:
        return f"{SYSTEMS[self.system]}, {self.ranks} devices, {self.phase}"


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, LostRankError, StoreError."""
    setting = arms.settings(spec).setting
    here = {"hidden": HERE_HIDDEN, **HERE.model_dump(mode="json"), "ranks": HERE_RANKS}
    rules = {"layer": PUBLISHED, "form": FORM, "at": AT, "here": here, "rounds": ROUNDS[setting]}
    board = Board(spec, context, rules)
    shares = dict(published(board))
    count = arms.settings(spec).seeds or SEEDS[setting]
    for number in range(count):
        board.step(0.2 + 0.8 * number / count, "exchange")
        _here(board, spec.seed + number, setting)
    return board.publish(_findings(board, shares), {})


def published(board: Board) -> Iterator[tuple[ExchangeTopology, ExchangeShare]]:
    """Every topology that a table holds, with its share at the tokens of DeepEP's own benchmark."""
    for system in SYSTEMS:
        for ranks in RANKS:
            for phase in MODES:
                found = ExchangeTopology(system, ranks, phase)
                shares = [(tokens, share) for tokens in TOKENS[phase] if (share := share_of(found, tokens))]
                for tokens, share in shares:
                    _put(board, board.spec.seed, found.name, tokens, share)
                if at := dict(shares).get(AT[phase]):
                    arm, seed = f"{SYSTEMS[system]}, {phase}", board.spec.seed
                    board.put(arm, seed, "share", ranks, at.total, "ranks")
                    board.put(arm, seed, "exposed", ranks, at.exposed, "ranks")
                    yield found, at


def _put(board: Board, seed: int, arm: str, tokens: int, share: ExchangeShare) -> None:
    values = {
        "exchange_seconds": share.exchange,
        "experts_seconds": share.experts,
        "share": share.total,
        "exposed": share.exposed,
    }
    for metric, value in values.items():
        board.put(arm, seed, metric, tokens, value, "tokens")


def share_of(of: ExchangeTopology, tokens: int) -> ExchangeShare | None:
    """With `tokens` tokens on each device; None where no table has the exchange."""
    arch = registry.get(PUBLISHED).architecture
    assert arch is not None
    assert arch.experts is not None
    bank = arch.experts
    sizes = {"hidden": arch.hidden, "experts": bank.count, "top_k": bank.top_k}
    found = tables.deepep(of.system, tokens, ranks=of.ranks, mode=MODES[of.phase], **sizes)
    if found is None:
        return None
    case = LayerCase(tokens * of.ranks, arch.hidden, bank.width, bank.count, bank.top_k, ep=of.ranks)
    experts = layer.estimate(hardware.get(SYSTEMS[of.system]), FORM, case).seconds
    return ExchangeShare(sum(found), experts)


# -- here ------------------------------------------------------------------------------------------


def _here(board: Board, seed: int, setting: str) -> None:
    asked = {"seed": seed, "tokens": HERE_TOKENS[setting], "rounds": ROUNDS[setting]}
    by_rank: list[dict[str, Any]] = launch(
        "moe_core.labs.training.all_to_all:measured",
        ranks=HERE_RANKS,
        arguments=asked,
        check=lambda: board.step(0.2, "exchange"),
    )
    for tokens in HERE_TOKENS[setting]:
        rounds = [_over_ranks(one) for one in zip(*(rank[str(tokens)] for rank in by_rank), strict=True)]
        put_here(board, seed, tokens, rounds)


def _over_ranks(spans: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the ranks of one round."""
    return {name: statistics.mean(one[name] for one in spans) for name in spans[0]}


def put_here(board: Board, seed: int, tokens: int, rounds: Sequence[Mapping[str, float]]) -> None:
    """Shares of the serial pass round by round, then their median; the overlapped pass beside its median."""
    wire = [one["dispatch"] + one["combine"] for one in rounds]
    serial = [sum(value for name, value in one.items() if name != "overlapped") for one in rounds]
    computed = statistics.median(whole - part for whole, part in zip(serial, wire, strict=True))
    share = statistics.median(part / whole for part, whole in zip(wire, serial, strict=True))
    overlapped = statistics.median(one["overlapped"] for one in rounds)
    board.put(SERIAL, seed, "share", tokens, share, "tokens")
    board.put(SERIAL, seed, "exchange_seconds", tokens, statistics.median(wire), "tokens")
    board.put(SERIAL, seed, "computed_seconds", tokens, computed, "tokens")
    board.put(SERIAL, seed, "seconds", tokens, statistics.median(serial), "tokens")
    board.put(OVERLAPPED, seed, "seconds", tokens, overlapped, "tokens")
    board.put(OVERLAPPED, seed, "exposed", tokens, max(0.0, 1 - computed / overlapped), "tokens")


def measured(arguments: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """On a rank: tokens -> seconds of every span in every round, and of the overlapped pass."""
    from torch import distributed

    from moe_core.dist.expert_parallel import ExpertParallel

    seed, rank, host = arguments["seed"], distributed.get_rank(), torch.device("cpu")
    parallel = ExpertParallel(MoE(HERE, HERE_HIDDEN, seed=seed))
    found: dict[str, list[dict[str, float]]] = {}
    with torch.inference_mode():
        for tokens in arguments["tokens"]:
            x_TD = normal(tokens, HERE_HIDDEN, seed=seed, part=f"tokens of rank {rank}") * 50
            found[str(tokens)] = []
            for number in range(arguments["rounds"]):
                distributed.barrier()
                spans, whole = Spans(host), Spans(host)
                parallel(x_TD, spans)
                distributed.barrier()
                with whole.span("overlapped"):
                    parallel.overlapped(x_TD)
                if number >= WARM:
                    found[str(tokens)].append(spans.seconds() | whole.seconds())
    return found


def _findings(board: Board, shares: Mapping[ExchangeTopology, ExchangeShare]) -> dict[str, Finding]:
    totals, exposed = [one.total for one in shares.values()], [one.exposed for one in shares.values()]
    found = {
        "share_low": Finding(min(totals), seeds=0),
        "share_high": Finding(max(totals), seeds=0),
        "exposed_low": Finding(min(exposed), seeds=0),
        "exposed_high": Finding(max(exposed), seeds=0),
    }
    for topology, share in shares.items():
        name = f"{topology.system}.{topology.phase}.r{topology.ranks}"
        found[f"share.{name}"] = Finding(share.total, seeds=0)
        found[f"exposed.{name}"] = Finding(share.exposed, seeds=0)
    found["share_here"] = over_seeds(_at(board, SERIAL, "share"))
    found["exposed_here"] = over_seeds(_at(board, OVERLAPPED, "exposed"))
    found = {name: finding._replace(unit="share") for name, finding in found.items()}
    pairs = zip(_at(board, OVERLAPPED, "seconds"), _at(board, SERIAL, "seconds"), strict=True)
    return found | {"overlapped_over_serial_here": over_seeds([a / b for a, b in pairs], "ratio")}


def _at(board: Board, arm: str, metric: str) -> list[float]:
    """With `HERE_AT` tokens, one value a seed."""
    curves = [board.curve(arm, seed, metric, "tokens") for seed in board.seeds(arm)]
    return [curve.value[curve.x.index(HERE_AT)] for curve in curves]
