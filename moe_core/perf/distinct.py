"""How many different experts a batch touches: what a decode step must read.

T tokens, K of E experts each. Tokens are taken as independent; real consecutive tokens reuse experts,
so measured counts are lower still (OLMoE, batch 2: measured 14.64, uniform 15.0, popularity-aware 14.22).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb

from moe_core.errors import ConfigError


def uniform(experts: int, top_k: int, tokens: float) -> float:
    """E (1 - (1 - K/E)^T): independent tokens, each K different experts drawn evenly. Exact for T = 1."""
    _check(experts, top_k)
    return experts * (1 - (1 - top_k / experts) ** tokens)


def spread(experts: int, top_k: int, tokens: int) -> int:
    """min(E, KT): tokens placed round robin, what kernel benchmarks call balanced."""
    _check(experts, top_k)
    return min(experts, top_k * tokens)


def popular(load: Sequence[float], top_k: int, tokens: float) -> float:
    """Sum over experts of 1 - (1 - p_e)^T for an uneven `load` (any scale; p_e sums to K, at most 1 each)."""
    return sum(1 - (1 - p) ** tokens for p in inclusion(load, top_k))


def busiest(load: Sequence[float], top_k: int, tokens: float, ranks: int) -> float:
    """The expected count on the rank with most: experts placed in order, `ranks` equal groups.

    Ignores that the maximum of expectations is below the expectation of the maximum.
    """
    chances = inclusion(load, top_k)
    if len(chances) % ranks:
        raise ConfigError(f"ranks ({ranks}): must divide experts ({len(chances)})")
    each = len(chances) // ranks
    touched = [1 - (1 - p) ** tokens for p in chances]
    return max(sum(touched[r * each : (r + 1) * each]) for r in range(ranks))


def inclusion(load: Sequence[float], top_k: int) -> list[float]:
    """Chance that one token visits each expert: proportional to `load`, capped at 1, sum K.

    What the cap takes from a hot expert goes to the others in proportion.
    """
    return list(_inclusion(tuple(load), top_k))


@lru_cache(maxsize=1024)
def _inclusion(load: tuple[float, ...], top_k: int) -> tuple[float, ...]:
    _check(len(load), top_k)
    if min(load) < 0 or sum(x > 0 for x in load) < top_k:
        raise ConfigError(f"load: needs at least top_k ({top_k}) experts above zero and none below")
    certain: set[int] = set()
    while True:
        free = sum(x for i, x in enumerate(load) if i not in certain)
        scale = (top_k - len(certain)) / free if free else 0.0
        over = {i for i, x in enumerate(load) if i not in certain and x * scale > 1}
        if not over:
            return tuple(1.0 if i in certain else x * scale for i, x in enumerate(load))
        certain |= over


def combinations(experts: int, top_k: int, groups: int = 1, top_groups: int = 1) -> int:
    """Expert sets a token can get, exact; with groups, only sets inside `top_groups` of them.

    Counts by inclusion over the number of groups a set uses: sets spanning at most top_groups groups.
    """
    _check(experts, top_k)
    if groups == 1 or top_groups >= groups:
        return comb(experts, top_k)
    size = experts // groups
    return sum(comb(groups, g) * _spanning(size, g, top_k) for g in range(1, top_groups + 1))


def _spanning(size: int, groups: int, top_k: int) -> int:
    """Sets of `top_k` out of `groups` groups of `size` that use every one of the groups."""
    return sum((-1) ** (groups - j) * comb(groups, j) * comb(j * size, top_k) for j in range(groups + 1))


def _check(experts: int, top_k: int) -> None:
    if not 1 <= top_k <= experts:
        raise ConfigError(f"top_k ({top_k}): must be between 1 and experts ({experts})")
