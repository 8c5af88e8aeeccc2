"""Bytes alive: counted when a tensor appears, forgotten when the last reference goes."""

import torch

from moe_core.runs.live import LiveBytes

KB = 1024


def tensor() -> torch.Tensor:
    return torch.empty(KB // 4)


def test_the_peak_is_the_worst_moment_not_the_sum():
    with LiveBytes() as live:
        for _ in range(5):
            one, two = tensor(), tensor()
            del one, two
    assert live.peak == 2 * KB or live.peak == 3 * KB  # the old `one` dies after the new one is born


def test_freed_tensors_do_not_count_on():
    with LiveBytes() as live:
        kept = tensor()
        for _ in range(3):
            passing = tensor()
            del passing
    assert live.peak == 2 * KB
    assert live.now == kept.nbytes


def test_views_and_results_in_place_add_nothing():
    known = torch.zeros(KB // 4)
    with LiveBytes([known]) as live:
        known.view(16, 16)[1:].add_(1.0)
        known.unsqueeze(0).expand(8, -1)
    assert live.peak == 0


def test_a_view_keeps_its_storage_alive():
    with LiveBytes() as live:
        part = tensor()[:1]
        assert live.now == KB
        del part
    assert live.now == 0
