"""Dual: a lower bound that every rule climbs, whose best is what the best even assignment is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from moe_core.labs.training import dual


def scores_of(seed: int, tokens: int = 64, experts: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    leaning_E = torch.randn(experts, generator=generator, dtype=torch.float64)
    return (torch.randn(tokens, experts, generator=generator, dtype=torch.float64) + leaning_E).softmax(-1)


def climbed(scores_TE: Tensor, top_k: int, steps: int) -> Tensor:
    bias_E = torch.zeros(scores_TE.shape[1], dtype=torch.float64)
    for _ in range(steps):
        bias_E = dual.quantile_step(scores_TE, bias_E, top_k)
    return bias_E


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_slope_of_the_dual_is_what_is_missing_of_the_even_share(seed: int):
    scores_TE, step = scores_of(seed), 1e-9
    at_E = torch.linspace(0, 0.1, 4, dtype=torch.float64)
    here = dual.assign(scores_TE, at_E, 2)
    for expert in range(4):
        there_E = at_E.clone()
        there_E[expert] += step
        slope = (dual.assign(scores_TE, there_E, 2).value - here.value) / step
        missing = 0.5 - float(here.routing.load_E()[expert]) / 64
        assert slope == pytest.approx(missing, abs=1e-5)


@given(st.integers(0, 10**6), st.integers(1, 3))
@settings(max_examples=30)
def test_a_quantile_step_never_goes_down(seed: int, top_k: int):
    """It is a step of coordinate descent on the two kinds of prices, so that the bound only improves."""
    scores_TE = scores_of(seed)
    bias_E = torch.zeros(4, dtype=torch.float64)
    for _ in range(4):
        before = dual.assign(scores_TE, bias_E, top_k).value
        bias_E = dual.quantile_step(scores_TE, bias_E, top_k)
        assert dual.assign(scores_TE, bias_E, top_k).value >= before - 1e-12


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_dual_is_the_best_even_assignment(seed: int):
    """Weak and strong duality, K = 1: the Hungarian method over as many seats an expert as its share."""
    scores_TE = scores_of(seed)
    seats_TT = np.repeat(scores_TE.numpy(), 16, axis=1)
    rows, columns = linear_sum_assignment(seats_TT, maximize=True)
    best = -seats_TT[rows, columns].sum() / 64
    found = dual.assign(scores_TE, climbed(scores_TE, 1, 200), 1)
    assert found.value <= best + 1e-12
    assert found.value == pytest.approx(best, abs=2e-3)
    assert found.moved <= 0.05


def test_shares_above_even():
    assert dual.moved(torch.tensor([5, 5, 5, 5])) == 0.0
    assert dual.moved(torch.tensor([20, 0, 0, 0])) == 0.75
    assert dual.moved(torch.tensor([9, 5, 5, 1])) == pytest.approx(0.2)


def test_where_every_expert_is_chosen_a_bias_stays():
    bias_E = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    assert torch.equal(dual.quantile_step(scores_of(0), bias_E, 4), bias_E)
