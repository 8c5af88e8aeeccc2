"""Routing: counts, ranks, drops and shares, against plain loops."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_core.nn.routing import Routing, counts, rank_within

id_lists = st.lists(st.integers(0, 6), max_size=40)


def routing(pairs: list[tuple[int, int]], tokens: int, experts: int) -> Routing:
    token_ids_N = torch.tensor([t for t, _ in pairs], dtype=torch.int64)
    expert_ids_N = torch.tensor([e for _, e in pairs], dtype=torch.int64)
    return Routing(token_ids_N, expert_ids_N, torch.ones(len(pairs)), torch.full((tokens, experts), 0.5))


@given(id_lists)
@settings(deadline=None)
def test_counts_and_ranks_equal_a_plain_loop(ids: list[int]) -> None:
    ids_N = torch.tensor(ids, dtype=torch.int64)
    seen: Counter[int] = Counter()
    expected = []
    for i in ids:
        expected.append(seen[i])
        seen[i] += 1
    assert rank_within(ids_N, 7).tolist() == expected
    assert counts(ids_N, 7).tolist() == [seen[i] for i in range(7)]


def test_load_slots_and_drops_of_a_known_routing() -> None:
    r = routing([(2, 0), (0, 1), (2, 1), (2, 3)], tokens=4, experts=5)
    assert (r.tokens, r.experts) == (4, 5)
    assert r.load_E().tolist() == [1, 2, 0, 1, 0]
    assert r.slots_N().tolist() == [0, 0, 1, 2]
    assert r.dropped_T().tolist() == [False, True, False, True]
    assert r.dropped_pairs() == 0


def test_demand_tells_what_a_capacity_threw_away() -> None:
    r = routing([(0, 0), (1, 1)], tokens=4, experts=2)._replace(demand_E=torch.tensor([3, 1]))
    assert r.dropped_pairs() == 2
    assert r.wanted_E().tolist() == [3, 1]
    assert r.load_E().tolist() == [1, 1]


def test_no_tokens() -> None:
    r = routing([], tokens=0, experts=3)
    assert r.load_E().tolist() == [0, 0, 0]
    assert r.slots_N().shape == r.dropped_T().shape == (0,)
    assert r.probabilities_TE().shape == (0, 3)


def test_shares_of_softmax_scores_are_the_scores() -> None:
    scores_TE = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    r = routing([], 6, 4)._replace(scores_TE=scores_TE)
    torch.testing.assert_close(r.probabilities_TE(), scores_TE)


def test_shares_ignore_scores_below_zero() -> None:
    r = routing([], 2, 3)._replace(scores_TE=torch.tensor([[3.0, -5.0, 1.0], [-1.0, -2.0, -3.0]]))
    assert r.probabilities_TE()[0].tolist() == pytest.approx([0.75, 0.0, 0.25])
    assert r.probabilities_TE()[1].tolist() == [0.0, 0.0, 0.0]
    assert not math.isnan(r.probabilities_TE().sum().item())
