"""Collectives: what each rank sends, a start and a bandwidth, and the network beyond a node."""

from __future__ import annotations

import pytest

from moe_core.perf.comm import Link, collective, exchange, exchange_bytes, sent, visited

LINES = (Link(2, 5e-6, 250e9), Link(4, 7e-6, 300e9), Link(8, 1e-5, 350e9))


def test_a_ring_all_reduce_sends_almost_twice_the_buffer():
    assert sent("all_reduce", 8, 800) == 1400
    assert sent("all_gather", 8, 800) == 700


def test_one_rank_sends_nothing():
    assert collective("all_reduce", 1, 1e9, LINES) == 0.0
    assert exchange(1e9, 1, LINES[-1]) == 0.0


def test_a_measured_count_gives_its_own_line():
    assert collective("all_reduce", 4, 1e9, LINES) == pytest.approx(7e-6 + 1.5e9 / 300e9)


def test_beyond_a_node_the_network_is_added():
    inside, across = (collective("all_reduce", ranks, 1e9, LINES) for ranks in (8, 16))
    assert across > inside + 1e9 / (8 * 50e9)


def test_a_token_visits_fewer_ranks_than_experts():
    """8 choices among 8 ranks reach 5.25 of them (8 (1 - (7/8)^8))."""
    assert visited(8, 8) == pytest.approx(5.25, abs=0.01)
    assert visited(1, 8) == 1


def test_one_copy_a_rank_is_less_than_one_an_expert():
    once, each = (exchange_bytes(128, 7168, 8, 8, 1.0, once=o) for o in (True, False))
    assert once < each == 128 * 7168 * 8 * 7 / 8


def test_dispatch_across_nodes_is_bound_by_the_adapter():
    """Most bytes leave the node: a rank cannot send them faster than its 50 GB/s."""
    assert exchange(1e9, 64, LINES[-1]) > 1e9 * (1 - 8 / 64) / 50e9
