"""E1: the two orders are one function; what the router learns from at k = 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moe_core.labs.training import gates
from moe_core.labs.training.gates import GATES
from moe_core.settings import Settings
from tests.labs.training.tiny import TINY, findings, perform, series


def logits_of(seed: int, tokens: int = 50, experts: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(tokens, experts, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_gates_against_their_formulas(k: int):
    """Softmax of what is not masked; shares of the softmax over their sum; shares as they are."""
    logits = logits_of(0).numpy()
    kept = np.argsort(np.argsort(-logits, axis=1), axis=1) < k
    grown = np.exp(logits)
    masked = np.where(kept, grown, 0) / np.where(kept, grown, 0).sum(1, keepdims=True)
    shares = np.where(kept, grown / grown.sum(1, keepdims=True), 0)
    for name, expected in (("mask_first", masked), ("renormalised", masked), ("softmax_first", shares)):
        found = gates.weights(torch.from_numpy(logits), k, GATES[name]).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("seed", [0, 1])
def test_only_the_raw_gate_teaches_the_router_at_k_1(seed: int):
    at_one = {name: gates.gradient(gate, 1, seed, TINY) for name, gate in GATES.items()}
    assert at_one["mask_first"] == 0.0
    assert at_one["renormalised"] < 1e-15 < 1e-5 < at_one["softmax_first"]
    assert gates.gradient(GATES["mask_first"], 2, seed, TINY) > 1e-6


def test_the_experiment(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gates, "SIZES", {"quick": TINY})
    monkeypatch.setattr(gates, "RANDOM", {"quick": 500})
    found = findings(done := perform("gates"))
    assert set(found) == {
        "max_difference",
        "mass_not_renormalised",
        *(f"router_gradient_k1_{gate}" for gate in GATES),
    }
    assert 0 < found["max_difference"]["value"] <= 1e-12
    assert found["router_gradient_k1_mask_first"]["value"] == 0.0
    assert found["router_gradient_k1_softmax_first"]["value"] > 1e-5
    assert 0.25 < found["mass_not_renormalised"]["value"] < 1.0  # two of eight, evenly, are a quarter
    assert found["mass_not_renormalised"]["seeds"] == 2
    table = series(done)
    renormalised = table[table.metric == "mass_renormalised"].value
    np.testing.assert_allclose(renormalised, 1.0, rtol=0, atol=1e-12)
    assert set(table[table.metric == "difference"].arm) == {
        "real logits",
        "random logits, 8 experts",
        "random logits, 64 experts",
    }
    assert findings(perform("gates")) == found
