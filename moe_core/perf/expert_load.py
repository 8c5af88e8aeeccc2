"""The load of one step on the experts: how many are touched, by how many pairs, in how many tiles.

Legend: T tokens, K top-k, E experts, R ranks that share the experts in order. A grouped kernel rounds the
pairs of each expert up to whole tiles of rows, so the work depends on how the pairs are spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
    total = np.zeros(2 + len(TILES))
    for chance, number in Counter(chances).items():
        mean = tokens * chance
        tiles = [_tiles(tokens, chance, rows) for rows in TILES]
        total += number * np.array([1 - (1 - chance) ** tokens, mean, *tiles])
    return Load(*(float(value) for value in total))


def _tiles(tokens: float, chance: float, rows: int) -> float:
    """Expected tiles of one expert: the sum over j of P(pairs > j rows), pairs binomial."""
    mean = tokens * chance
    if mean > _MANY * rows:
        return mean / rows + 0.5
    if chance >= 1 or tokens < 1:
        return float(ceil(tokens / rows)) * min(1.0, chance)
    last = min(tokens - 1, mean + 10 * sqrt(mean) + 10)  # what lies beyond is negligible
    j = np.arange(0, last + 1, rows)
    return float(bdtrc(j, ceil(tokens), min(1.0, mean / ceil(tokens))).sum())
