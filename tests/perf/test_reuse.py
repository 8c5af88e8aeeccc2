"""Reuse of experts: equal to caches that are really kept, and to what was published of a real mixture."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.perf import reuse
from moe_core.runs import bundle
from moe_core.settings import REFERENCE


def drawn(tokens: int, layers: int, experts: int, top_k: int, seed: int) -> np.ndarray:
    """A text whose tokens like the experts of the token before."""
    generator = np.random.default_rng(seed)
    liking = generator.random((tokens, layers, experts))
    liking[1:] += 0.7 * liking[:-1]
    return np.argsort(-liking, axis=2)[..., :top_k]


def kept(ids_TK: np.ndarray, capacity: int) -> float:
    """The oracle: a cache of one layer, choice after choice."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for expert in ids_TK.ravel().tolist():
        hits += expert in cache
        cache[expert] = None
        cache.move_to_end(expert)
        if len(cache) > capacity:
            cache.popitem(last=False)
    return hits / ids_TK.size


@given(st.integers(1, 40), st.integers(1, 3), st.integers(2, 12), st.integers(0, 9999), st.data())
def test_distances_are_those_of_a_cache(
    tokens: int, layers: int, experts: int, seed: int, data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, min(4, experts)))
    ids_TLK = drawn(tokens, layers, experts, top_k, seed)
    capacities = range(1, experts + 1)
    rates = reuse.hit_rates(reuse.distances(ids_TLK, experts), capacities)
    for capacity in capacities:
        oracle = np.mean([kept(ids_TLK[:, layer], capacity) for layer in range(layers)])
        assert rates[capacity] == pytest.approx(oracle, abs=1e-12)


@given(st.integers(2, 60), st.integers(0, 9999), st.integers(1, 5))
def test_what_is_read_together_is_the_union(tokens: int, seed: int, width: int) -> None:
    width = min(width, tokens)
    ids_TLK = drawn(tokens, 2, 9, 3, seed)
    unions = [
        len(set(ids_TLK[start : start + width, layer].ravel()))
        for layer in range(2)
        for start in range(0, tokens // width * width, width)
    ]
    assert reuse.read_together(ids_TLK, 9, [width])[width] == pytest.approx(np.mean(unions) / 3)
    again = [
        expert in ids_TLK[token - 1, layer]
        for token in range(1, tokens)
        for layer in range(2)
        for expert in ids_TLK[token, layer]
    ]
    assert reuse.repeated(ids_TLK, 9) == pytest.approx(np.mean(again))


def test_the_hottest_are_pinned() -> None:
    ids_TLK = drawn(200, 2, 8, 2, seed=1)
    load_LE = reuse.loads(ids_TLK, 8)
    assert load_LE.sum() == ids_TLK.size
    shares = [reuse.pinned(ids_TLK, load_LE, capacity) for capacity in range(9)]
    assert shares[0] == 0
    assert shares[8] == 1
    hottest = np.sort(load_LE, axis=1)[:, ::-1].cumsum(1).sum(0) / ids_TLK.size
    assert shares[1:] == pytest.approx(hottest)


@pytest.fixture(scope="module")
def texts() -> dict[str, np.ndarray]:
    """Domain -> [T, L, K] of the shipped trace of a 16B mixture."""
    found = bundle.read(REFERENCE / "deepseek-v2-lite")
    ids_LTK = np.stack([group["expert"].to_numpy().reshape(-1, 6) for group in found.groups("decisions")])
    domain_T = found.table("tokens")["domain"].to_numpy()
    return {str(name): ids_LTK[:, domain_T == name].transpose(1, 0, 2)[:4096] for name in np.unique(domain_T)}


def test_a_real_mixture_is_as_published(texts: dict[str, np.ndarray]) -> None:
    """Of all 26 layers: 26-29, 46-58, 72-85 % at 8, 16, 32 of 64; here of four layers of it."""
    rates = [reuse.hit_rates(reuse.distances(ids, 64), (8, 16, 32)) for ids in texts.values()]
    for capacity, low, high in ((8, 0.22, 0.33), (16, 0.42, 0.62), (32, 0.68, 0.88)):
        assert all(low < rate[capacity] < high for rate in rates), capacity
    together = [reuse.read_together(ids, 64, (1, 2, 4)) for ids in texts.values()]
    assert [one[1] for one in together] == [1.0] * 4
    assert np.mean([one[2] for one in together]) == pytest.approx(1.72, abs=0.05)
    assert np.mean([one[4] for one in together]) == pytest.approx(2.9, abs=0.15)
    again = [reuse.repeated(ids, 64) for ids in texts.values()]
    assert all(0.22 < share < 0.34 for share in again)


def test_pinning_what_another_domain_likes_is_little_better_than_chance(texts: dict[str, np.ndarray]) -> None:
    half = {domain: (ids[: len(ids) // 2], ids[len(ids) // 2 :]) for domain, ids in texts.items()}
    loads = {domain: reuse.loads(first, 64) for domain, (first, _) in half.items()}
    own = [reuse.pinned(later, loads[domain], 16) for domain, (_, later) in half.items()]
    foreign = [
        reuse.pinned(later, loads[other], 16)
        for domain, (_, later) in half.items()
        for other in half
        if other != domain
    ]
    assert min(own) > max(0.25, np.mean(foreign))
    assert 0.2 < np.mean(foreign) < 0.45


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (np.zeros((0, 1, 1), int), "at least one token"),
        (np.zeros((3, 1), int), r"must be \[tokens, layers, experts a token\]"),
        (np.full((1, 1, 1), 9), r"experts \(9 to 9\): must be below 8"),
        (np.full((1, 1, 1), -1), "not negative"),
    ],
)
def test_what_cannot_be_counted_is_refused(ids: np.ndarray, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        reuse.loads(ids, 8)


def test_a_width_is_at_most_the_text() -> None:
    with pytest.raises(ConfigError, match=r"widths \(5\): must be between 1 and the tokens \(4\)"):
        reuse.read_together(drawn(4, 1, 4, 1, 0), 4, [5])
