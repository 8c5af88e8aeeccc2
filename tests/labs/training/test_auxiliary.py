"""E3: the sweep of the coefficient, and the scope that one loss is taken over."""

from __future__ import annotations

import pytest

from moe_core.labs.training import auxiliary
from moe_core.labs.training.auxiliary import ALPHAS
from moe_core.settings import Settings
from tests.labs.training.tiny import TINY, findings, perform, series

ALPHA_NAMES = ("a0", "a0.0001", "a0.001", "a0.01", "a0.1", "a1")


def test_scopes_are_one_sequence_four_and_all():
    arms = {arm.name: arm for arm in auxiliary.compared(TINY)}
    parts = {name: TINY.batch // arms[name].micro for name in ("micro", "four")}
    assert parts == {"micro": 1, "four": 4}
    assert arms["alpha 0.1"].micro == 1  # which is the global one
    assert {arm.balancing.auxiliary for arm in arms.values()} == set(ALPHAS)
    assert arms["micro"].balancing == arms["alpha 0.1"].balancing
    assert all(arm.by_domain for arm in arms.values())
    for setting in auxiliary.SIZES.values():
        assert setting.batch % 4 == 0


def test_the_experiment(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(auxiliary, "SIZES", {"quick": TINY})
    found = findings(done := perform("auxiliary"))
    expected = {f"{kind}.{a}" for kind in ("mutual_information", "maxvio_step") for a in ALPHA_NAMES}
    expected |= {f"loss_difference.{a}" for a in ALPHA_NAMES if a != "a0.01"}
    scopes = ("micro", "four", "global")
    expected |= {f"scope_{kind}.{s}" for kind in ("mutual_information", "maxvio_step") for s in scopes}
    expected |= {"scope_loss_difference.micro", "scope_loss_difference.four"}
    assert set(found) == expected
    assert found["scope_mutual_information.global"] == found["mutual_information.a0.1"]
    table = series(done)
    sweep = table[(table.arm == "sweep") & (table.metric == "heldout") & (table.seed == 0)]
    assert list(sweep.x) == list(ALPHAS)
    assert set(sweep.axis) == {"alpha"}
    difference = table[(table.arm == "sweep") & (table.metric == "heldout")].pivot(
        index="seed", columns="x", values="value"
    )
    mean = (difference[1.0] - difference[0.01]).mean()
    assert found["loss_difference.a1"]["value"] == pytest.approx(mean)
    scope = table[(table.arm == "scope") & (table.metric == "maxvio_step") & (table.seed == 0)]
    assert list(scope.x) == [1.0, 4.0, 8.0]
    assert findings(perform("auxiliary")) == found
