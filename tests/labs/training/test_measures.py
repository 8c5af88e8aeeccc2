"""Measures: MaxVio of steps and windows, its sampling floor, mutual information."""

from __future__ import annotations

import math

import pytest
import torch

from moe_core.labs.training.measures import LoadWindow, max_violation, mutual_information, sampling_floor
from moe_core.nn.router import from_choice
from moe_core.nn.routing import Routing

# Of a perfectly uniform router, by an independent simulation: experts, tokens, top_k, mean, 95th percentile.
PUBLISHED = [
    (8, 2048, 1, 0.087, 0.137),
    (8, 2048, 2, 0.058, 0.100),
    (64, 512, 8, 0.285, 0.376),
    (64, 2048, 8, 0.138, 0.188),
    (64, 4096, 8, 0.098, 0.135),
]


@pytest.mark.parametrize(("experts", "tokens", "top_k", "mean", "high"), PUBLISHED)
def test_the_sampling_floor_is_the_published_one(
    experts: int, tokens: int, top_k: int, mean: float, high: float
):
    """Within three standard errors of the mean over 100 draws; a percentile is less certain."""
    found = sampling_floor(tokens, experts, top_k)
    assert found[0] == pytest.approx(mean, rel=0.1)
    assert found[1] == pytest.approx(high, rel=0.2)


def test_the_floor_falls_as_one_over_the_root_of_the_tokens():
    short, long = sampling_floor(256, 8, 1)[0], sampling_floor(4096, 8, 1)[0]
    assert short / long == pytest.approx(4.0, rel=0.2)


def test_max_violation():
    assert max_violation(torch.tensor([4, 4, 4])) == 0.0
    assert max_violation(torch.tensor([12, 0, 0])) == 2.0
    assert max_violation(torch.tensor([6, 3, 3])) == 0.5


def test_mutual_information_of_known_counts():
    assert mutual_information(torch.full((3, 5), 7)) == pytest.approx(0.0, abs=1e-15)
    assert mutual_information(torch.eye(4) * 9) == pytest.approx(math.log(4))
    half = torch.tensor([[2, 0], [1, 1]])  # 1/2 ln(4/3) + 1/4 ln(2/3) + 1/4 ln 2
    expected = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)
    assert mutual_information(half) == pytest.approx(expected)


def all_to(expert: int, tokens: int = 8, experts: int = 2) -> Routing:
    scores_TE = torch.full((tokens, experts), 1 / experts)
    return from_choice(torch.full((tokens, 1), expert), torch.ones(tokens, 1), scores_TE)


def test_a_window_can_be_even_where_no_step_is():
    window = LoadWindow(domains=3)
    window.add([all_to(0)], torch.tensor([0, 0]))
    window.add([all_to(1)], torch.tensor([2, 2]))
    found = window.sum_up()
    assert (found.step, found.window, found.effective, found.dead) == (1.0, 0.0, 1.0, 0.0)
    assert found.loads_LE == [[8, 8]]
    assert found.information == pytest.approx(math.log(2))  # the domain says all of the expert
    assert found.router_effective == pytest.approx(1.0)


def test_a_window_starts_anew():
    window = LoadWindow(domains=1)
    window.add([all_to(0), all_to(1)], torch.tensor([0]))
    assert window.sum_up().loads_LE == [[8, 0], [0, 8]]
    window.add([all_to(1), all_to(1)], torch.tensor([0]))
    assert window.sum_up().loads_LE == [[0, 8], [0, 8]]


def test_tokens_belong_to_the_domain_of_their_sequence():
    scores_TE = torch.full((4, 2), 0.5)
    chosen_TK = torch.tensor([[0], [0], [1], [1]])
    window = LoadWindow(domains=2)
    window.add([from_choice(chosen_TK, torch.ones(4, 1), scores_TE)], torch.tensor([1, 0]))
    assert window.sum_up().information == pytest.approx(math.log(2))
