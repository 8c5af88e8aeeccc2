"""The loads behind the published kernel tables, drawn again from their definition.

`balanced` deals the K picks of token t out with a fixed stride. `power_law_a` draws a weight for every
expert from a bounded power law of exponent a, scales the weights to T K pairs, caps each at T, and mends the
rounding one pair at a time; the rank with most pairs is the one that was timed. Tables before vLLM 0.15
mended from the first expert on (`index`), later ones rank by rank (`rank`). Source: the collector of
aiconfigurator, Apache-2.0, whose loads were averaged over five draws.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import Literal

import numpy as np

from moe_core.perf.expert_load import Load, counted

Mend = Literal["rank", "index"]
DRAWS = 16


@lru_cache(maxsize=65_536)
def benchmark_load(
    distribution: str, tokens: int, experts: int, top_k: int, ranks: int = 1, mend: Mend = "rank"
) -> Load:
    """The mean load of the timed rank. The same arguments give the same numbers."""
    if distribution == "balanced":
        return counted(_balanced(tokens, experts, top_k)[: experts // ranks])
    alpha = float(distribution.removeprefix("power_law_"))
    rng = np.random.default_rng([tokens, experts, top_k, ranks, round(alpha * 100)])
    draws = [counted(_power_law(alpha, tokens, experts, top_k, ranks, mend, rng)) for _ in range(DRAWS)]
    return Load(*(float(value) for value in np.mean(np.array(draws), axis=0)))


def _balanced(tokens: int, experts: int, top_k: int) -> np.ndarray:
    """Pairs an expert, [E]."""
    stride = ceil(experts / top_k)
    first = np.arange(tokens)[:, None] * (1 if tokens >= stride else stride / tokens)
    picks = np.floor((first + np.arange(top_k)[None] * stride) % experts).astype(np.int64)
    return np.bincount(picks.ravel(), minlength=experts)


def _power_law(
    alpha: float,
    tokens: int,
    experts: int,
    top_k: int,
    ranks: int,
    mend: Mend,
    rng: np.random.Generator,
) -> np.ndarray:
    """Pairs an expert on the rank with most, [E / R]."""
    low, high = (1.0, tokens * 0.8) if tokens * top_k > experts else (0.01, 2.0)
    power = 1 - alpha
    weights = ((high**power - low**power) * rng.random(experts) + low**power) ** (1 / power)
    pairs = np.rint(weights / weights.sum() * tokens * top_k).astype(np.int64)
    missing = int((pairs - tokens).clip(0).sum())
    groups = ranks if mend == "rank" else 1
    pairs = _mended(pairs.clip(max=tokens), missing, tokens, groups)
    for _ in range(4):  # a rank may be full: what it could not take goes round again
        missing = tokens * top_k - int(pairs.sum())
        if missing == 0:
            break
        pairs = _mended(pairs, missing, tokens, groups)
    by_rank = pairs.reshape(ranks, -1)
    return np.asarray(by_rank[by_rank.sum(1).argmax()])


def _mended(pairs: np.ndarray, missing: int, most: int, groups: int) -> np.ndarray:
    """`missing` pairs added one by one to the least loaded, or taken from the most, in each group in turn."""
    share, rest = divmod(abs(missing), groups)
    rows = pairs.reshape(groups, -1)
    if missing >= 0:
        return np.concatenate([_raised(row, share + (i < rest), most) for i, row in enumerate(rows)])
    return np.concatenate([-_raised(-row, share + (i < rest), 0) for i, row in enumerate(rows)])


def _raised(pairs: np.ndarray, units: int, most: int) -> np.ndarray:
    """`units` given one at a time to the smallest entry, the first of equals, none beyond `most`."""
    units = min(units, int((most - pairs).sum()))
    if units <= 0:
        return pairs
    ordered = np.sort(pairs)
    below = np.concatenate(([0], np.cumsum(ordered)))
    counts = np.arange(1, len(ordered) + 1)
    room = np.append(ordered[1:], np.iinfo(np.int64).max // 4096) * counts - below[1:]
    lowest = min(int(np.searchsorted(room, units)) + 1, len(ordered))
    level, extra = divmod(int(below[lowest]) + units, lowest)
    raised = pairs.copy()
    places = np.flatnonzero(pairs <= level)
    raised[places] = level
    raised[places[:extra]] += 1
    return np.minimum(raised, most)
