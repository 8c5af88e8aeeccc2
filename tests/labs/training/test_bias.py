"""E4: rules of the bias beside losses and routers that are even by themselves."""

from __future__ import annotations

import itertools

import pytest
import torch

from moe_core.labs.training import arms, bias, corpus
from moe_core.labs.training.board import Board
from moe_core.nn.model import Decoder, initialise
from moe_core.runs.context import RunContext
from moe_core.settings import Settings
from moe_core.specs import RunSpec, Training
from tests.labs.training.tiny import TINY, findings, perform, series

ARMS = ("none", "sign", "proportional", "quantile", "auxiliary", "sequence", "z", "expert_choice", "hash")


def test_every_arm_differs_in_its_balancing_alone():
    every = {arm.name: arm for arm in bias.compared(TINY)}
    assert tuple(every) == ARMS
    kinds = {name: arm.arch.experts.router.kind for name, arm in every.items()}
    assert {name: kind for name, kind in kinds.items() if kind != "softmax"} == {
        "expert_choice": "expert_choice",
        "hash": "hash",
    }
    assert every["quantile"].balancing.rate == 0.0


def test_the_bias_gets_no_gradient():
    model = Decoder(arms.mixture(TINY, 8, 2, 16))
    initialise(model, 0)
    window = next(corpus.windows(4, 16, seed=0))
    assert bias.bias_gradient(model, window.ids_BS) == 0.0
    assert not any(buffer.requires_grad for buffer in model.buffers())


def test_a_gradient_would_be_seen(monkeypatch: pytest.MonkeyPatch):
    """Were the bias part of the gate, `bias_gradient` would tell."""
    model = Decoder(arms.mixture(TINY, 8, 2, 16))
    initialise(model, 0)
    for layer in model.feed_forwards:
        layer.router.logits = lambda x_TD, router=layer.router: (  # type: ignore[method-assign]
            torch.nn.functional.linear(x_TD, router.weight_ED) + router.selection_bias_E
        )
    assert bias.bias_gradient(model, next(corpus.windows(4, 16, seed=0)).ids_BS) > 0.0


def test_rules_climb_the_dual_of_frozen_scores(monkeypatch: pytest.MonkeyPatch):
    """The sign rule's steps are 0.001: it never falls by more, and ends higher and more even."""
    board = Board(RunSpec(lab="bias", training=Training()), RunContext(), {})
    model = Decoder(arms.mixture(TINY, 8, 2, 16))
    initialise(model, 0)
    with torch.no_grad():
        model.feed_forwards[0].router.weight_ED.mul_(20.0)  # uneven
    monkeypatch.setattr(bias, "ASCENT", 300)
    bias.ascend(board, 0, model, TINY)
    for rule in ("sign", "proportional", "quantile"):
        value = board.curve(f"dual, {rule}", 0, "dual").value
        moved = board.curve(f"dual, {rule}", 0, "dual_violation").value
        assert value[-1] > value[0] + 1e-3
        assert moved[-1] < moved[0] / 2
        assert min(b - a for a, b in itertools.pairwise(value)) > -1e-3
    best = max(board.curve("dual, quantile", 0, "dual").value)
    assert board.curve("dual, sign", 0, "dual").value[-1] <= best + 1e-3


def test_the_experiment(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bias, "SIZES", {"quick": TINY})
    monkeypatch.setattr(bias, "ASCENT", 20)
    monkeypatch.setattr(bias, "READ", 2)
    found = findings(done := perform("bias"))
    for kind in ("maxvio_step", "maxvio_window", "mutual_information"):
        assert {f"{kind}.{arm}" for arm in ARMS} <= set(found)
    rest = {
        *(f"loss_difference.{pair}" for pair in ("sign_auxiliary", "sign_quantile", "sign_none")),
        *("loss_difference.hash_sign", "loss_difference.expert_choice_sign", "bias_gradient"),
        *("dual_violation_first", "dual_violation_last", "causal_gap.expert_choice"),
        *(f"dual_violation_last.{rule}" for rule in ("sign", "proportional", "quantile")),
        *("leak.sign", "leak.expert_choice"),
    }
    assert {name for name in found if name.rsplit(".", 1)[-1] not in ARMS} <= rest <= set(found)
    assert found["bias_gradient"]["value"] == 0.0
    assert found["maxvio_step.expert_choice"]["value"] == 0.0
    assert found["leak.sign"]["value"] == 0.0 < found["leak.expert_choice"]["value"]
    assert found["dual_violation_last"] == found["dual_violation_last.sign"]
    table = series(done)
    biases = table[(table.arm == "quantile") & table.metric.str.startswith("bias.")]
    assert set(biases.metric) == {f"bias.{expert}" for expert in range(8)}
    assert findings(perform("bias")) == found
