"""E14: the auxiliary loss below 1 at an uneven load."""

from __future__ import annotations

import pytest
import torch

from moe_core.labs.training import below_one
from moe_core.labs.training.below_one import Free
from moe_core.nn.balance import switch_loss
from moe_core.nn.router import from_choice
from moe_core.settings import Settings
from tests.labs.training.tiny import findings, perform, series

SMALL = Free(tokens=64, steps=150, seeds=2)


def test_the_audits_example_exactly():
    """2 * (0.1 * 0.541 + 0.9 * 0.459), the busier expert at 1.8 times its share."""
    audit = below_one.example()
    assert switch_loss(audit).item() == pytest.approx(0.9344, abs=1e-12)
    assert below_one.most(audit) == pytest.approx(1.8)


def test_the_least_of_two_experts_is_seven_eighths():
    """2 q^2 - q + 1 at q = 1/4: a quarter sure of one expert, all others as good as undecided."""
    for quarter, expected in ((25, 0.875), (10, 0.92), (50, 1.0)):
        scores_TE = torch.tensor([[1.0, 0.0]] * quarter + [[0.5, 0.5]] * (100 - quarter), dtype=torch.float64)
        chosen_T1 = torch.tensor([[0]] * quarter + [[1]] * (100 - quarter))
        routing = from_choice(chosen_T1, scores_TE.gather(-1, chosen_T1), scores_TE)
        assert switch_loss(routing).item() == pytest.approx(expected)


def test_choices_as_sets():
    logits_TE = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 6.0]])
    assert below_one.chosen(logits_TE, 2).tolist() == [[0, 2], [1, 2]]


def test_the_experiment(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(below_one, "SIZES", {"quick": SMALL})
    monkeypatch.setattr(below_one, "SHAPES", ((2, 1), (8, 2)))
    found = findings(done := perform("below_one"))
    names = {f"{way}_{shape}" for way in ("free", "kept") for shape in ("e2_k1", "e8_k2")}
    least, loads = ({f"{kind}.{name}" for name in names} for kind in ("minimum", "load_most"))
    assert set(found) == {"minimum", "load_most", "example", "example_load_most"} | least | loads
    assert 0.875 <= found["minimum.kept_e2_k1"]["value"] < 1.0
    assert found["minimum"]["value"] < 1.0 < found["load_most"]["value"]
    assert found["minimum.free_e2_k1"]["value"] <= 1.0
    assert found["example"] == {
        "value": pytest.approx(0.9344),
        "low": None,
        "high": None,
        "seeds": 0,
        "unit": "",
    }
    table = series(done)
    kept = table[table.arm.str.startswith("kept") & (table.metric == "load_most")]
    assert kept.groupby(["arm", "seed"]).value.nunique().max() == 1  # the load stays what it was
    falling = table[table.arm.str.startswith("kept") & (table.metric == "auxiliary")]
    assert falling.groupby(["arm", "seed"]).value.agg(lambda v: v.is_monotonic_decreasing).all()
    assert findings(perform("below_one")) == found
