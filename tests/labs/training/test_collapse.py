"""E2: what is trained, what is told of it, and the same by seed."""

from __future__ import annotations

import pytest

from moe_core.labs.training import collapse
from moe_core.labs.training.measures import sampling_floor
from moe_core.settings import Settings
from tests.labs.training.tiny import TINY, findings, perform, series


def test_experts_of_both_k_do_the_same_work():
    for arm in collapse.compared(TINY):
        assert arm.arch.experts.width * arm.arch.experts.top_k == TINY.width


def test_the_bias_can_cross_the_range_of_a_score():
    for size in collapse.SIZES.values():
        assert collapse.rate(size) * size.steps == pytest.approx(3.0)


def test_the_experiment(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(collapse, "SIZES", {"quick": TINY})
    found = findings(done := perform("collapse"))
    metrics = ("maxvio_step", "maxvio_window", "effective", "dead")
    names = ("none", "auxiliary", "bias")
    of_arms = {f"{m}.{name}.k{k}" for m in metrics for name in names for k in (1, 2)}
    rest = ("floor_step", "ratio_step", "ratio_window", "loss_difference")
    assert set(found) == of_arms | {f"{name}.k{k}" for name in rest for k in (1, 2)}
    assert found["floor_step.k2"]["value"] == sampling_floor(TINY.tokens, 8, 2)[0]
    assert found["ratio_step.k1"]["seeds"] == TINY.seeds
    table = series(done)
    last = table[(table.arm == "none, k=1") & (table.metric == "maxvio_step") & (table.x == TINY.steps)]
    assert found["maxvio_step.none.k1"]["value"] == pytest.approx(last.value.mean())
    assert findings(perform("collapse")) == found
