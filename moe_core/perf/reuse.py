"""Reuse: how often a token's experts are those of tokens before it. What a cache of experts saves, and what
several tokens read at once.

Expert ids are of one text, token after token: [T, L, K], distinct in each token. Layers are apart, each with
a cache of its own. Counted, nothing is modelled.
Legend: T tokens, L layers, K choices of a token, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe_core.errors import ConfigError

COLD = np.iinfo(np.int32).max  # the distance of an expert that was never used before


def distances(ids_TLK: np.ndarray, experts: int) -> np.ndarray:
    """[T, L, K]: how many other experts of the layer were used since this one was last (Mattson et al. 1970).

    A cache of C experts that drops the least recently used one has it if the distance is below C. Experts of
    a token are used in the order of their slots. `COLD` where it is the first time.
    """
    tokens, layers, top_k = _checked(ids_TLK, experts).shape
    last_LE = np.full((layers, experts), -1, dtype=np.int64)
    found = np.empty(ids_TLK.shape, dtype=np.int32)
    layer_L1, slot_K = np.arange(layers)[:, None], np.arange(top_k)
    earlier_KK = slot_K[:, None] > slot_K  # [this slot, another that came before it]
    for token in range(tokens):
        ids_LK = ids_TLK[token]
        mine_LK = last_LE[layer_L1, ids_LK]
        since_LK = (last_LE[:, None, :] > mine_LK[:, :, None]).sum(2)
        # Experts of this token in earlier slots were used since, too: count those not counted yet.
        fresh_LKK = (mine_LK[:, None, :] <= mine_LK[:, :, None]) & earlier_KK
        found[token] = np.where(mine_LK < 0, COLD, since_LK + fresh_LKK.sum(2))
        last_LE[layer_L1, ids_LK] = token * top_k + slot_K
    return found


def hit_rates(distances_TLK: np.ndarray, capacities: Sequence[int]) -> dict[int, float]:
    """Capacity -> share of choices that a cache of so many experts a layer holds, least recently used out."""
    return {capacity: float((distances_TLK < capacity).mean()) for capacity in capacities}


def pinned(ids_TLK: np.ndarray, load_LE: np.ndarray, capacity: int) -> float:
    """Share of choices among the `capacity` experts of each layer with the greatest load, held for good.

    The load is of another text, or of an earlier part: of this one it would be told beforehand.
    """
    ids_TLK = _checked(ids_TLK, load_LE.shape[1])
    kept_LE = np.zeros(load_LE.shape, dtype=bool)
    hottest_LC = np.argsort(-load_LE, axis=1, kind="stable")[:, :capacity]
    np.put_along_axis(kept_LE, hottest_LC, True, axis=1)
    return float(kept_LE[np.arange(ids_TLK.shape[1])[:, None], ids_TLK].mean())


def loads(ids_TLK: np.ndarray, experts: int) -> np.ndarray:
    """[L, E]: how many tokens chose each expert."""
    ids_TLK = _checked(ids_TLK, experts)
    layers = ids_TLK.shape[1]
    shifted = ids_TLK.astype(np.int64) + (np.arange(layers) * experts)[:, None]
    return np.bincount(shifted.ravel(), minlength=layers * experts).reshape(layers, experts)


def read_together(ids_TLK: np.ndarray, experts: int, widths: Sequence[int]) -> dict[int, float]:
    """Width -> distinct experts that so many consecutive tokens need, over those of one; mean over layers.

    What verifying a draft of W tokens reads in the expert layers, in units of one token.
    """
    hit_TLE = _hits(ids_TLK, experts)
    tokens, layers, top_k = ids_TLK.shape
    found = {}
    for width in widths:
        if not 1 <= width <= tokens:
            raise ConfigError(f"widths ({width}): must be between 1 and the tokens ({tokens:,})")
        whole = tokens // width * width
        windows = hit_TLE[:whole].reshape(-1, width, layers, experts).any(1)
        found[width] = float(windows.sum(2).mean()) / top_k
    return found


def repeated(ids_TLK: np.ndarray, experts: int) -> float:
    """Share of choices that the token before made too, in the same layer."""
    hit_TLE = _hits(ids_TLK, experts)
    return float(np.take_along_axis(hit_TLE[:-1], ids_TLK[1:].astype(np.int64), axis=2).mean())


def _hits(ids_TLK: np.ndarray, experts: int) -> np.ndarray:
    """[T, L, E]: which expert is chosen by which token."""
    tokens, layers, _ = _checked(ids_TLK, experts).shape
    hit_TLE = np.zeros((tokens, layers, experts), dtype=bool)
    np.put_along_axis(hit_TLE, ids_TLK.astype(np.int64), True, axis=2)
    return hit_TLE


def _checked(ids_TLK: np.ndarray, experts: int) -> np.ndarray:
    if ids_TLK.ndim != 3 or not len(ids_TLK):
        raise ConfigError("experts: must be [tokens, layers, experts a token], at least one token")
    if ids_TLK.min() < 0 or ids_TLK.max() >= experts:
        raise ConfigError(
            f"experts ({ids_TLK.min()} to {ids_TLK.max()}): must be below {experts} and not negative"
        )
    return ids_TLK
