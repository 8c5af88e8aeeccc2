"""Strategies: losses, their gradients and rules of the bias against the papers' equations, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from moe_core.errors import ConfigError
from moe_core.labs.training import strategies
from moe_core.labs.training.strategies import NOTHING, RULES, Balancing
from moe_core.nn.balance import router_z_loss, sequence_loss, switch_loss
from moe_core.nn.model import Decoder
from moe_core.nn.router import build, from_choice
from moe_core.nn.routing import Routing
from moe_core.specs import Experts, Strategy
from tests.labs.training.tiny import routing_of
from tests.nn.small import architecture

TOKENS, EXPERTS, TOP_K, SEQUENCES = 24, 6, 2, 4
Array = NDArray[np.float64]


def logits_of(seed: int, tokens: int = TOKENS, experts: int = EXPERTS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, experts, generator=generator, dtype=torch.float64) * 2


def routed(logits_TE: Tensor, top_k: int = TOP_K) -> Routing:
    scores_TE = logits_TE.softmax(-1)
    chosen_TK = scores_TE.detach().topk(top_k, dim=-1).indices
    return from_choice(chosen_TK, scores_TE.gather(-1, chosen_TK), scores_TE, logits_TE)


def probabilities(logits: Array) -> Array:
    grown = np.exp(logits - logits.max(1, keepdims=True))
    return grown / grown.sum(1, keepdims=True)


def shares(logits: Array, top_k: int) -> Array:
    """f_i: the share of the T K pairs that expert i is sent."""
    chosen = np.argsort(-logits, axis=1)[:, :top_k]
    return np.bincount(chosen.ravel(), minlength=logits.shape[1]) / chosen.size


def switch(logits: Array, top_k: int) -> tuple[float, Array]:
    """arXiv 2101.03961, eq 4-6: N sum f_i P_i, and its gradient with f held still."""
    tokens, experts = logits.shape
    p, f = probabilities(logits), shares(logits, top_k)
    gradient = experts / tokens * p * (f - (p * f).sum(1, keepdims=True))
    return float(experts * (f * p.mean(0)).sum()), gradient


def of_sequences(logits: Array, top_k: int, sequences: int) -> tuple[float, Array]:
    """arXiv 2412.19437, eq 17-20: the same of every sequence, averaged."""
    each = [switch(part, top_k) for part in np.split(logits, sequences)]
    return float(np.mean([value for value, _ in each])), np.concatenate([g for _, g in each]) / sequences


def z(logits: Array) -> tuple[float, Array]:
    """arXiv 2202.08906, eq 5: the mean of the squared log-sum-exp."""
    total = np.log(np.exp(logits).sum(1, keepdims=True))
    return float((total**2).mean()), 2 * total * probabilities(logits) / len(logits)


REFERENCES = {
    "auxiliary": lambda logits: switch(logits, TOP_K),
    "sequence": lambda logits: of_sequences(logits, TOP_K, SEQUENCES),
    "z": z,
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_losses_and_gradients_equal_their_equations(name: str, seed: int):
    logits_TE = logits_of(seed).requires_grad_()
    loss = Balancing(**{name: 0.7}).loss([routed(logits_TE)], SEQUENCES)
    (gradient,) = torch.autograd.grad(loss, logits_TE)
    value, expected = REFERENCES[name](logits_TE.detach().numpy())
    assert loss.item() == pytest.approx(0.7 * value, rel=1e-12)
    np.testing.assert_allclose(gradient.numpy(), 0.7 * expected, rtol=1e-9, atol=1e-14)


def test_losses_of_layers_and_kinds_add_up():
    layers = [routed(logits_of(seed)) for seed in (3, 4)]
    found = Balancing(auxiliary=0.5, sequence=0.25, z=2.0).loss(layers, SEQUENCES)
    one = sum(
        0.5 * switch(r.logits_TE.numpy(), TOP_K)[0]
        + 0.25 * of_sequences(r.logits_TE.numpy(), TOP_K, SEQUENCES)[0]
        + 2.0 * z(r.logits_TE.numpy())[0]
        for r in layers
    )
    assert found.item() == pytest.approx(one, rel=1e-12)
    assert NOTHING.loss(layers, SEQUENCES).item() == 0.0


# -- what splitting a batch does -------------------------------------------------------------------


def parts(routing: Routing, count: int) -> list[Routing]:
    return [routed(part) for part in routing.logits_TE.chunk(count)]


def test_the_mean_of_micro_batches_is_not_the_loss_of_the_batch():
    """Two halves, each sent to an expert of its own: collapsed apart, even together (arXiv 2501.11873)."""
    sure = torch.tensor([[9.0, -9.0]] * 4 + [[-9.0, 9.0]] * 4, dtype=torch.float64)
    whole = routed(sure, 1)
    each = [switch_loss(routed(half, 1)).item() for half in sure.chunk(2)]
    assert switch_loss(whole).item() == pytest.approx(1.0, abs=1e-6)
    assert each == pytest.approx([2.0, 2.0], abs=1e-6)


@given(st.integers(0, 10**6), st.sampled_from([2, 4]))
@settings(max_examples=20)
def test_z_and_sequence_loss_do_not_depend_on_the_split(seed: int, count: int):
    whole = routed(logits_of(seed))
    split = parts(whole, count)
    assert np.mean([router_z_loss(p).item() for p in split]) == pytest.approx(router_z_loss(whole).item())
    mean = np.mean([sequence_loss(p, SEQUENCES // count).item() for p in split])
    assert mean == pytest.approx(sequence_loss(whole, SEQUENCES).item(), rel=1e-12)


def test_a_sequence_loss_is_the_mean_of_auxiliary_losses_of_single_sequences():
    whole = routed(logits_of(7))
    mean = np.mean([switch_loss(part).item() for part in parts(whole, SEQUENCES)])
    assert sequence_loss(whole, SEQUENCES).item() == pytest.approx(mean, rel=1e-12)


# -- rules of the bias -----------------------------------------------------------------------------


def biased(scores: Array, bias: Array, top_k: int) -> Array:
    """Loads under a bias."""
    chosen = np.argsort(-(scores + bias), axis=1)[:, :top_k]
    return np.bincount(chosen.ravel(), minlength=scores.shape[1]).astype(float)


def quantile_of(scores: Array, bias: Array, top_k: int) -> Array:
    """kexue.fm 11619: thresholds by row, then prices by column, by sorting everything."""
    tokens, experts = scores.shape
    threshold = np.sort(scores + bias, axis=1)[:, ::-1][:, top_k]
    above = np.sort(scores - threshold[:, None], axis=0)[::-1]
    return -above[tokens * top_k // experts]


EQUATIONS = {
    "sign": lambda s, b, rate: b + rate * np.sign(biased(s, b, TOP_K).mean() - biased(s, b, TOP_K)),
    "proportional": lambda s, b, rate: b + rate * (1 - biased(s, b, TOP_K) / biased(s, b, TOP_K).mean()),
    "quantile": lambda s, b, rate: quantile_of(s, b, TOP_K),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rules_equal_their_equations(name: str, seed: int):
    scores_TE, bias_E = logits_of(seed).softmax(-1), logits_of(seed + 9)[0] / 10
    chosen_TK = (scores_TE + bias_E).topk(TOP_K, dim=-1).indices
    routing = from_choice(chosen_TK, scores_TE.gather(-1, chosen_TK), scores_TE)
    expected = EQUATIONS[name](scores_TE.numpy(), bias_E.numpy(), 0.03)
    np.testing.assert_allclose(RULES[name](bias_E, routing, 0.03).numpy(), expected, rtol=0, atol=1e-15)


def steered() -> Decoder:
    router = strategies.ROUTERS["softmax"]
    return Decoder(architecture(Experts(count=EXPERTS, top_k=TOP_K, width=8, router=router)))


def test_a_rule_moves_every_layers_own_bias():
    model = steered()
    routers = [ffn.router for ffn in model.feed_forwards]
    routings = [routing_of(logits_of(seed).softmax(-1), TOP_K) for seed in (0, 1)]
    Balancing(rule="sign", rate=0.5).after_step(routers, routings)
    for bias_E, routing in zip(strategies.biases(model), routings, strict=True):
        load = routing.load_E().double()
        np.testing.assert_allclose(bias_E.numpy(), 0.5 * np.sign(float(load.mean()) - load.numpy()))


def test_no_rule_moves_nothing():
    model = steered()
    NOTHING.after_step([ffn.router for ffn in model.feed_forwards], [routing_of(logits_of(0), TOP_K)] * 2)
    assert all(bias_E.abs().max() == 0 for bias_E in strategies.biases(model))


@pytest.mark.parametrize("kind", strategies.ROUTERS)
def test_every_router_of_the_table_can_be_built(kind: str):
    router = build(Experts(count=4, top_k=2, width=8, router=strategies.ROUTERS[kind]), 16)
    routing = router(torch.randn(8, 16), torch.arange(8))
    assert routing.load_E().sum() == 16


# -- what somebody asks for ------------------------------------------------------------------------


def test_a_strategy_becomes_its_losses_and_rule():
    asked = Strategy(auxiliary=0.1, sequence=0.2, z=0.3, rule="sign", rate=0.4)
    assert strategies.balancing(asked) == Balancing(0.1, 0.2, 0.3, "sign", 0.4)
    assert strategies.balancing(Strategy()) == NOTHING


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rule": "sign"}, "rate (0) must be above 0 with rule sign"),
        ({"rule": "quantile", "rate": 0.1}, "rate (0.1) must be 0 with rule quantile"),
        ({"rate": 0.1}, "rate (0.1) must be 0 with rule none"),
        ({"router": "hash", "z": 0.1}, "router (hash) must come without losses"),
        ({"router": "expert_choice", "rule": "sign", "rate": 0.1}, "expert_choice has no bias"),
    ],
)
def test_a_strategy_that_cannot_be_is_one_sentence(values: dict[str, object], words: str):
    with pytest.raises(ConfigError) as caught:
        Strategy.parse(values)
    assert words in str(caught.value)
