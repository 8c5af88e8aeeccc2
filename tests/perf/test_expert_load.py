"""Loads: pairs are conserved, experts touched agree with the formula, tiles hold every pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from moe_core.errors import ConfigError
from moe_core.perf.benchmark_load import benchmark_load
from moe_core.perf.distinct import inclusion, spread, uniform
from moe_core.perf.expert_load import TILES, counted, expected

BANKS = st.sampled_from([(8, 2), (64, 6), (128, 8), (256, 8), (16, 1), (160, 8)])


@given(BANKS, st.integers(1, 5000))
def test_an_even_load_keeps_every_pair_and_touches_what_the_formula_says(bank, tokens):
    found = expected(*bank, tokens)
    assert found.pairs == pytest.approx(tokens * bank[1])
    assert found.distinct == pytest.approx(uniform(*bank, tokens))
    for rows, tiles in zip(TILES, found[2:], strict=True):
        assert tiles * rows >= found.pairs * (1 - 1e-9)
        assert tiles <= found.pairs / rows + bank[0]
        assert tiles >= found.distinct * (1 - 1e-9)


@given(BANKS, st.integers(1, 3000), st.integers(0, 2**31))
def test_expected_tiles_are_the_mean_of_drawn_ones(bank, tokens, seed):
    experts, top_k = bank
    drawn = np.random.default_rng(seed).binomial(tokens, top_k / experts, size=(64, experts))
    means = np.mean([counted(pairs) for pairs in drawn], axis=0)
    assert np.allclose(means, expected(experts, top_k, tokens), rtol=0.12, atol=0.8)


@given(BANKS, st.integers(1, 2000))
def test_more_tokens_never_load_less(bank, tokens):
    less, more = expected(*bank, tokens), expected(*bank, tokens + 1)
    assert all(b >= a * (1 - 1e-6) for a, b in zip(less, more, strict=True))


@given(BANKS, st.integers(1, 2000), st.sampled_from([2, 4, 8]))
def test_the_busiest_rank_has_its_share_and_at_most_everything(bank, tokens, ranks):
    found, whole = expected(*bank, tokens, ranks), expected(*bank, tokens)
    assert whole.pairs / ranks * (1 - 1e-9) <= found.pairs <= whole.pairs * (1 + 1e-9)
    assert found.distinct <= bank[0] / ranks + 1e-9


def test_a_hot_expert_loads_its_rank():
    hot = expected(8, 2, 64, 4, [5, 1, 1, 1, 1, 1, 1, 1])
    assert hot.pairs > expected(8, 2, 64, 4).pairs


@given(st.integers(1, 3000), st.sampled_from([1, 2, 3]))
def test_tiles_of_an_uneven_load_are_those_of_its_experts_one_by_one(tokens, top_k):
    """P(pairs > j rows) summed over j; beyond a dozen tiles half a one is lost."""
    load = [5, 3, 1, 1, 0.2, 0.01]
    chances = np.array(inclusion(load, top_k))
    found = expected(6, top_k, tokens, 1, load)
    for rows, tiles in zip(TILES, found[2:], strict=True):
        j = np.arange(0, tokens + 1, rows)
        each = binom.sf(j[:, None], tokens, chances).sum(0)
        many = tokens * chances > 12 * rows
        assert tiles == pytest.approx(np.where(many, tokens * chances / rows + 0.5, each).sum(), rel=1e-6)


@given(BANKS, st.integers(1, 600), st.sampled_from(["balanced", "power_law_1.01", "power_law_1.2"]))
def test_published_loads_keep_every_pair(bank, tokens, distribution):
    for mend in ("rank", "index"):
        assert benchmark_load(distribution, tokens, *bank, 1, mend).pairs == tokens * bank[1]


def test_published_loads_touch_what_their_definition_says():
    for tokens in (1, 3, 8, 100):
        assert benchmark_load("balanced", tokens, 128, 8).distinct == spread(128, 8, tokens)
    assert (
        benchmark_load("power_law_1.2", 512, 64, 6).tiles16 > benchmark_load("balanced", 512, 64, 6).tiles16
    )
    whole = benchmark_load("power_law_1.2", 512, 64, 6)
    assert whole.pairs / 8 < benchmark_load("power_law_1.2", 512, 64, 6, 8).pairs < whole.pairs


def test_ranks_must_divide_experts():
    with pytest.raises(ConfigError, match=r"ep \(3\): must divide experts \(8\)"):
        expected(8, 2, 4, 3)
