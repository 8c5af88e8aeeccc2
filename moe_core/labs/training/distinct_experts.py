"""E10: how many different experts a batch reaches: real routers beside both formulas.

Routers: the shipped mixture trained from scratch and the scale model, both reading held-out text; and the
published decisions of a 16B mixture (64 experts, top-6; data/traces). For every domain and layer, batches of
1 ... 1024 tokens,

* consecutive: as they stand in the text (a batch may run over the end of a document),
* shuffled: drawn from the whole text of the domain, each token once,

are counted, beside E (1 - (1 - K/E)^T) for even independent tokens and the sum of 1 - (1 - p_e)^T for
independent tokens of the load that this text has (`perf.distinct`). Published: the same within 0.3 % for
random batches, 2 to 15 % fewer for consecutive tokens (from deepseek-ai/ESFT's trace, arXiv 2407.01906).
Fixed before the run: the ladder; a curve is the mean over domains and layers; an error is relative and the
largest over routers and batches; `popularity_error` is that of the popularity formula for shuffled tokens,
`uniform_excess` how far the real router lies above the uniform formula, shuffled or not (0: nowhere),
`real_below_uniform` the mean shortfall of consecutive tokens from 2 tokens on. `..._pool` are the largest of
single domains and layers.
Legend: T tokens of a batch, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from moe_core.labs.training import arms, corpus
from moe_core.labs.training.board import Board
from moe_core.labs.training.statistics import Finding, over_seeds
from moe_core.nn.model import Decoder
from moe_core.nn.observe import RoutingLog
from moe_core.perf import distinct
from moe_core.runs import bundle, models
from moe_core.runs.context import RunContext
from moe_core.settings import REFERENCE
from moe_core.specs import Architecture, RunSpec

LADDER = tuple(2**i for i in range(11))
TRACE = REFERENCE / "deepseek-v2-lite"
TRACE_NAME, TRACE_EXPERTS = "DeepSeek-V2-Lite", 64
TRACE_LAYERS, TRACE_TOKENS = (1, 9, 18, 26), 2048  # of each domain
SEQ = 256
BATCHES = (128, 1024)  # of one size that are counted: so many shuffled ones at least, at most so many
TEXT = {"quick": 2048, "full": 8192}  # bytes of each domain
SEEDS = {"quick": 1, "full": 3}
TRAINED, SCALE = "trained mixture", "scale model"
CONSECUTIVE, SHUFFLED, UNIFORM, POPULARITY = (
    "consecutive",
    "shuffled",
    "uniform formula",
    "popularity formula",
)


class TokenPool(NamedTuple):
    """What one router decides at one layer on the text of one domain. `hit_SE`: which token takes which."""

    router: str
    domain: str
    layer: int
    top_k: int
    hit_SE: np.ndarray

    @property
    def load(self) -> list[float]:
        """Tokens of each expert."""
        found: list[float] = self.hit_SE.sum(0).tolist()
        return found

    @property
    def experts(self) -> int:
        return int(self.hit_SE.shape[1])


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    setting = arms.settings(spec).setting
    seeds = arms.settings(spec).seeds or SEEDS[setting]
    board = Board(spec, context, {"ladder": LADDER, "bytes": TEXT[setting], "batches": BATCHES})
    pools, architectures = list[TokenPool](), dict[str, Architecture]()
    for name, model in _models(spec).items():
        pools += heard(name, model, TEXT[setting])
        architectures["moe" if name == SCALE else name] = model.arch
        board.step(0.1 * len(architectures), "route")
    pools += list(published())
    errors: dict[str, list[float]] = {"popularity": [], "uniform": []}
    for number, seed in enumerate(range(spec.seed, spec.seed + seeds)):
        curves = list[tuple[TokenPool, Mapping[str, list[float]]]]()
        for done, pool in enumerate(pools):
            curves.append((pool, counted(pool, np.random.default_rng((seed, done)))))
            board.step(0.2 + 0.8 * (number + (done + 1) / len(pools)) / seeds, "count")
        _put(board, seed, curves)
        errors["popularity"].append(max(_popularity_error(curve) for _, curve in curves))
        errors["uniform"].append(max(_uniform_excess(curve) for _, curve in curves))
    return board.publish(_findings(board, errors), architectures)


def _models(spec: RunSpec) -> dict[str, Decoder]:
    """Both shipped routers, in fp32 on the host."""
    host = torch.device("cpu"), torch.float32
    carved = spec.model_copy(update={"model": "carved"})
    return {
        TRAINED: models.shipped(models.TRAINED, *host),
        SCALE: models.mixture(carved, *host),
    }


@torch.no_grad()
def heard(name: str, model: Decoder, each: int) -> Iterator[TokenPool]:
    """What the routers of a model decide on `each` bytes of held-out text of every domain."""
    for domain in corpus.domains():
        parts = list[list[np.ndarray]]()
        for ids_BS in corpus.heldout(each, SEQ, domain).ids_BS.split(corpus.SEPARATE):
            log = RoutingLog()
            model(ids_BS[:, :-1], observer=log)
            parts.append([_hits(r.token_ids_N, r.expert_ids_N, r.tokens, r.experts) for _, r in log.seen])
        for layer, hits in zip(model.arch.moe_layers, zip(*parts, strict=True), strict=True):
            assert model.arch.experts is not None
            yield TokenPool(name, domain, layer, model.arch.experts.top_k, np.concatenate(hits))


def _hits(token_ids_N: torch.Tensor, expert_ids_N: torch.Tensor, tokens: int, experts: int) -> np.ndarray:
    hit_SE = np.zeros((tokens, experts), bool)
    hit_SE[token_ids_N.numpy(), expert_ids_N.numpy()] = True
    return hit_SE


@cache
def published() -> tuple[TokenPool, ...]:
    """The shipped trace: the first tokens of every domain at a few layers, one pool each."""
    found = bundle.read(TRACE)
    tokens = found.table("tokens").to_pandas()
    pools = []
    for group in found.groups("decisions"):
        layer = group["layer"][0].as_py()
        if layer not in TRACE_LAYERS:
            continue
        hit_TE = np.zeros((len(tokens), TRACE_EXPERTS), bool)
        hit_TE[group["token"].to_numpy(), group["expert"].to_numpy()] = True
        top_k = int(hit_TE[0].sum())
        for domain, part in tokens.groupby("domain"):
            hit_SE = hit_TE[part["token"].to_numpy()[:TRACE_TOKENS]]
            pools.append(TokenPool(TRACE_NAME, str(domain), layer, top_k, hit_SE))
    return tuple(sorted(pools, key=lambda pool: (pool.domain, pool.layer)))


def counted(pool: TokenPool, generator: np.random.Generator) -> dict[str, list[float]]:
    """Series -> experts reached by a batch, on average, for every batch of the ladder that the text fills."""
    ladder = [tokens for tokens in LADDER if tokens <= len(pool.hit_SE)]
    return {
        CONSECUTIVE: [reached(pool.hit_SE, _rows(pool, tokens)) for tokens in ladder],
        SHUFFLED: [reached(pool.hit_SE, _drawn(pool, tokens, generator)) for tokens in ladder],
        UNIFORM: [distinct.uniform(pool.experts, pool.top_k, tokens) for tokens in ladder],
        POPULARITY: [distinct.popular(pool.load, pool.top_k, tokens) for tokens in ladder],
    }


def reached(hit_SE: np.ndarray, rows_NT: np.ndarray) -> float:
    """Mean number of experts that the tokens of a batch take together; `rows_NT`: N batches."""
    return float(np.mean([hit_SE[rows_T].any(0).sum() for rows_T in rows_NT]))


def _rows(pool: TokenPool, tokens: int) -> np.ndarray:
    """Batches of consecutive tokens, spread evenly over the text."""
    free = len(pool.hit_SE) - tokens
    starts = np.unique(np.linspace(0, free, min(BATCHES[1], len(pool.hit_SE) // tokens)).astype(int))
    return starts[:, None] + np.arange(tokens)


def _drawn(pool: TokenPool, tokens: int, generator: np.random.Generator) -> np.ndarray:
    """Batches out of the whole text in a random order, which is shuffled anew when it is used up."""
    each, least = len(pool.hit_SE) // tokens, BATCHES[0]
    orders = [generator.permutation(len(pool.hit_SE))[: each * tokens] for _ in range(-(-least // each))]
    return np.concatenate([order.reshape(each, tokens) for order in orders])[: BATCHES[1]]


def _put(board: Board, seed: int, curves: Sequence[tuple[TokenPool, Mapping[str, list[float]]]]) -> None:
    """The mean over domains and layers of every router, in experts and as shares of them."""
    for router in dict.fromkeys(pool.router for pool, _ in curves):
        mine = [(pool, curve) for pool, curve in curves if pool.router == router]
        for series in (CONSECUTIVE, SHUFFLED, UNIFORM, POPULARITY):
            mean = np.mean([curve[series] for _, curve in mine], axis=0)
            for tokens, value in zip(LADDER, mean, strict=False):
                board.put(f"{router}, {series}", seed, "distinct", tokens, value, "batch")
                share = value / mine[0][0].experts
                board.put(f"{router}, {series}", seed, "distinct_share", tokens, share, "batch")


def _popularity_error(curve: Mapping[str, Sequence[float]]) -> float:
    """The largest relative error of the popularity formula for shuffled tokens."""
    return max(abs(p / real - 1) for p, real in zip(curve[POPULARITY], curve[SHUFFLED], strict=True))


def _uniform_excess(curve: Mapping[str, Sequence[float]]) -> float:
    """How far the real router lies above the uniform formula at most, relatively."""
    pairs = [
        pair for real in (CONSECUTIVE, SHUFFLED) for pair in zip(curve[real], curve[UNIFORM], strict=True)
    ]
    return max(real / uniform - 1 for real, uniform in pairs)


def _shortfall(curve: Mapping[str, Sequence[float]], real: str, formula: str) -> float:
    """How far the real router lies below a formula on average, from the second batch of the ladder on."""
    return float(np.mean([1 - r / f for r, f in zip(curve[real][1:], curve[formula][1:], strict=True)]))


def _findings(board: Board, errors: Mapping[str, list[float]]) -> dict[str, Finding]:
    seeds = board.seeds(f"{TRAINED}, {SHUFFLED}")
    per_seed = [_curves(board, seed) for seed in seeds]
    found = {
        "popularity_error": over_seeds([max(map(_popularity_error, one.values())) for one in per_seed]),
        "popularity_error_pool": over_seeds(errors["popularity"]),
        "uniform_excess": over_seeds([max(map(_uniform_excess, one.values())) for one in per_seed]),
        "uniform_excess_pool": over_seeds(errors["uniform"]),
    }
    shortfalls = {
        "real_below_uniform": (CONSECUTIVE, UNIFORM),
        "shuffled_below_uniform": (SHUFFLED, UNIFORM),
        "consecutive_below_popularity": (CONSECUTIVE, POPULARITY),
    }
    for name, (real, formula) in shortfalls.items():
        found[name] = over_seeds(
            [float(np.mean([_shortfall(c, real, formula) for c in one.values()])) for one in per_seed]
        )
        for router in per_seed[0]:
            values = [_shortfall(one[router], real, formula) for one in per_seed]
            found[f"{name}.{router.replace(' ', '_')}"] = over_seeds(values)
    return {name: finding._replace(unit="share") for name, finding in found.items()}


def _curves(board: Board, seed: int) -> dict[str, dict[str, list[float]]]:
    """Router -> series -> what was put of one seed."""
    return {
        router: {
            series: board.curve(f"{router}, {series}", seed, "distinct", "batch").value
            for series in (CONSECUTIVE, SHUFFLED, UNIFORM, POPULARITY)
        }
        for router in (TRAINED, SCALE, TRACE_NAME)
    }
