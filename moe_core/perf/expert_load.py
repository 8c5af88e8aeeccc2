"""The load of one step on the experts: how many are touched, by how many pairs, in how many tiles.

Legend: T tokens, K top-k, E experts, R ranks that share the experts in order. A grouped kernel rounds the
pairs of each expert up to whole tiles of rows, so the work depends on how the pairs are spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
from scipy.special import bdtrc, ndtri

from moe_core.errors import ConfigError
from moe_core.perf.distinct import inclusion

Values = float | np.ndarray
TILES = (16, 64, 128)  # rows of a tile in the kernels that were measured
_MANY = 12  # tiles an expert, beyond which half a tile is lost on average


class Load(NamedTuple):
    """On the busiest rank: experts touched, pairs, and tiles of 16, 64 and 128 rows. Numbers or arrays."""

    distinct: Values
    pairs: Values
    tiles16: Values
    tiles64: Values
    tiles128: Values


def counted(pairs_E: np.ndarray) -> Load:
    """The load of known pairs an expert, [E]."""
    tiles = [float((-(-pairs_E // rows)).sum()) for rows in TILES]
    return Load(float((pairs_E > 0).sum()), float(pairs_E.sum()), *tiles)


def expected(
    experts: int, top_k: int, tokens: float, ranks: int = 1, load: Sequence[float] | None = None
) -> Load:
    """The load to be expected of independent tokens; `load` is relative popularity, None is even.

    The busiest of R even ranks gets more than the mean: by Blom's normal scores (1958) times the spread of
    its pairs. With a `load`, the rank with most expected pairs is taken, without that addition.
    """
    return _kept(experts, top_k, tokens, ranks, None if load is None else tuple(load))


@lru_cache(maxsize=20_000)
def _kept(experts: int, top_k: int, tokens: float, ranks: int, load: tuple[float, ...] | None) -> Load:
    if experts % ranks:
        raise ConfigError(f"ep ({ranks}): must divide experts ({experts})")
    each = experts // ranks
    if load is None:
        chances = [top_k / experts] * each
        tokens *= _busiest(tokens * top_k / ranks, ranks)
    else:
        p = np.asarray(inclusion(load, top_k)).reshape(ranks, each)
        chances = list(p[int(p.sum(1).argmax())])
    return _expected(chances, tokens)


def _busiest(mean: float, ranks: int) -> float:
    """Pairs on the busiest of `ranks` even ranks over the mean; all of them at most."""
    if ranks == 1 or mean <= 0:
        return 1.0
    score = float(ndtri((ranks - 0.375) / (ranks + 0.25)))
    return min(float(ranks), 1 + score * sqrt((1 - 1 / ranks) / mean))


def _expected(chances: Sequence[float], tokens: float) -> Load:
    counted = Counter(chances)  # experts of one chance are alike
    chance, number = (np.array(list(values), float) for values in (counted.keys(), counted.values()))
    tiles = _tiles(tokens, chance)
    sums = (1 - (1 - chance) ** tokens, tokens * chance, *tiles)
    return Load(*(float(number @ values) for values in sums))


def _tiles(tokens: float, chance: np.ndarray) -> np.ndarray:
    """Expected tiles of experts, [tile, expert]: the sum over j of P(pairs > j rows), pairs binomial."""
    mean, rows = tokens * chance, np.array(TILES, float)[:, None]
    few = mean <= _MANY * rows
    if tokens < 1:
        return np.broadcast_to(np.minimum(1.0, chance), few.shape)
    certain = np.ceil(tokens / rows) * np.minimum(1.0, chance)
    found = np.where(few & (chance >= 1), certain, mean / rows + 0.5)
    last = np.minimum(tokens - 1, mean + 10 * np.sqrt(mean) + 10)  # what lies beyond is negligible
    tile, expert = np.nonzero(few & (chance < 1))
    if len(tile):
        terms = np.ceil((last[expert] + 1) / rows[tile, 0]).astype(int)
        ends = np.cumsum(terms)
        j = (np.arange(ends[-1]) - np.repeat(ends - terms, terms)) * np.repeat(rows[tile, 0], terms)
        share = np.minimum(1.0, mean[expert] / ceil(tokens))
        beyond = bdtrc(j, ceil(tokens), np.repeat(share, terms))
        found[tile, expert] = np.add.reduceat(beyond, ends - terms)
    return found
