"""Distinct experts: closed forms against drawing, and against each other."""

import random
from itertools import combinations as subsets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.perf.distinct import busiest, combinations, inclusion, popular, spread, uniform


def test_exact_for_one_token_and_everything_in_the_end() -> None:
    assert uniform(64, 8, 1) == 8
    assert uniform(64, 8, 2) == 15.0  # OLMoE at batch 2: measured 14.64
    assert uniform(64, 8, 4) == pytest.approx(26.484, abs=1e-3)
    assert uniform(64, 8, 10_000) == pytest.approx(64)


def test_uniform_is_the_mean_of_random_draws() -> None:
    rng = random.Random(0)
    draws = [len({e for _ in range(5) for e in rng.sample(range(16), 3)}) for _ in range(4000)]
    assert sum(draws) / len(draws) == pytest.approx(uniform(16, 3, 5), rel=0.01)


@given(st.integers(1, 256), st.integers(1, 64), st.data())
def test_an_even_load_is_uniform_and_a_round_robin_bounds_both(
    experts: int, tokens: int, data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, experts))
    assert popular([1.0] * experts, top_k, tokens) == pytest.approx(uniform(experts, top_k, tokens))
    assert uniform(experts, top_k, tokens) <= spread(experts, top_k, tokens) + 1e-9


loads = st.lists(st.floats(0.01, 100), min_size=4, max_size=32)


@given(loads, st.integers(1, 4), st.integers(1, 100))
def test_imbalance_only_lowers_the_count(load: list[float], top_k: int, tokens: int) -> None:
    assert popular(load, top_k, tokens) <= uniform(len(load), top_k, tokens) + 1e-6


@given(loads, st.integers(1, 4))
def test_chances_sum_to_k_and_never_exceed_one(load: list[float], top_k: int) -> None:
    chances = inclusion(load, top_k)
    assert sum(chances) == pytest.approx(top_k)
    assert max(chances) <= 1 + 1e-9
    assert [a for _, a in sorted(zip(load, chances, strict=True))] == pytest.approx(sorted(chances))


def test_the_busiest_rank_holds_the_hot_experts() -> None:
    even, hot = [1.0] * 8, [9.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert busiest(even, 2, 4, ranks=4) == pytest.approx(uniform(8, 2, 4) / 4)
    assert busiest(hot, 2, 4, ranks=4) == pytest.approx(sum(1 - (1 - p) ** 4 for p in inclusion(hot, 2)[:2]))
    assert busiest(hot, 2, 4, ranks=4) > popular(hot, 2, 4) / 4


def test_binomials_are_exact() -> None:
    assert combinations(256, 8) == 409_663_695_276_000
    assert combinations(256, 8, groups=8, top_groups=4) == 71_614_201_382_880
    assert combinations(512, 10) == 312_268_282_598_377_321_216


@pytest.mark.parametrize(("groups", "top_groups", "top_k"), [(4, 2, 3), (4, 1, 2), (2, 2, 3), (4, 3, 4)])
def test_group_limited_sets_by_listing_them(groups: int, top_groups: int, top_k: int) -> None:
    size = 8 // groups
    listed = sum(len({e // size for e in chosen}) <= top_groups for chosen in subsets(range(8), top_k))
    assert combinations(8, top_k, groups, top_groups) == listed


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: uniform(8, 9, 1),
        lambda: uniform(8, 0, 1),
        lambda: inclusion([1, 0, 0], 2),
        lambda: inclusion([1, -1, 1], 1),
        lambda: busiest([1] * 8, 2, 1, ranks=3),
    ],
)
def test_nonsense_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError):
        wrong()  # type: ignore[operator]
