"""Balancing: the strategies and the mixture that somebody picks, as far as the setting can pay them."""

from __future__ import annotations

import pytest

from moe_core.errors import ConfigError
from moe_core.labs.training import balancing
from moe_core.labs.training.balancing import SIZES
from moe_core.labs.training.strategies import Balancing
from moe_core.settings import Settings
from moe_core.specs import RunSpec, Strategy, Training
from tests.labs.training.tiny import TINY, findings, perform

PICKED = (
    Strategy(),
    Strategy(rule="quantile"),
    Strategy(auxiliary=0.01, z=0.001),
    Strategy(router="expert_choice"),
)


def spec_of(training: Training, **asked: int) -> RunSpec:
    return RunSpec(lab="balancing", training=training, **asked)


def test_arms_are_the_strategies_on_the_mixture_that_was_asked_for():
    spec = spec_of(Training(strategies=PICKED), experts=12, top_k=3, shared=1)
    every = balancing.compared(spec, SIZES["quick"])
    assert [arm.name for arm in every] == ["1", "2", "3", "4"]
    assert every[2].balancing == Balancing(auxiliary=0.01, z=0.001)
    for arm in every:
        experts = arm.arch.experts
        assert (experts.count, experts.top_k, experts.shared) == (12, 3, 1)
        assert experts.width * (experts.top_k + experts.shared) == SIZES["quick"].width


@pytest.mark.parametrize(
    ("training", "asked", "sentence"),
    [
        (Training(), {}, "strategies (0): must be at least 1 for lab balancing"),
        (
            Training(strategies=(*PICKED, Strategy(z=0.1))),
            {},
            "strategies times seeds (5): must be at most 4 in setting quick",
        ),
        (
            Training(strategies=PICKED, seeds=2),
            {},
            "strategies times seeds (8): must be at most 4 in setting quick",
        ),
        (
            Training(strategies=PICKED),
            {"experts": 64},
            "experts (64): must be at most 32 in setting quick",
        ),
        (
            Training(strategies=PICKED),
            {"experts": 32, "top_k": 16, "shared": 1},
            "top_k and shared (17): must be at most 16 in setting quick",
        ),
    ],
)
def test_what_quick_cannot_pay_is_one_sentence(training: Training, asked: dict[str, int], sentence: str):
    with pytest.raises(ConfigError) as caught:
        balancing.check(spec_of(training, **asked))
    assert str(caught.value) == sentence


def test_full_takes_what_quick_refuses():
    spec = spec_of(Training(setting="full", strategies=(*PICKED, Strategy(z=0.1))), experts=64, top_k=8)
    assert balancing.check(spec) == SIZES["full"]


def test_the_experiment(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(balancing, "SIZES", {"quick": TINY})
    training = Training(strategies=PICKED, seeds=1)
    done = perform("balancing", training, experts=8, top_k=2, shared=1)
    found = findings(done)
    metrics = ("maxvio_step", "maxvio_window", "effective", "dead", "mutual_information", "loss")
    expected = {f"{metric}.{number}" for metric in metrics for number in (1, 2, 3, 4)}
    assert set(found) == expected | {"floor_step"} | {f"loss_difference.{n}" for n in (2, 3, 4)}
    assert found["maxvio_step.4"]["value"] == 0.0
    difference = found["loss.2"]["value"] - found["loss.1"]["value"]
    assert found["loss_difference.2"]["value"] == pytest.approx(difference)
    rules = done.manifest.provenance["rules"]
    assert rules["strategies"]["2"]["rule"] == "quantile"
    loads = done.table("loads").to_pandas()
    per_step = TINY.tokens * 2 * TINY.steps
    assert (loads.groupby(["arm", "layer"]).load.sum() == per_step).all()
    assert findings(perform("balancing", training, experts=8, top_k=2, shared=1)) == found
