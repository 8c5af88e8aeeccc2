"""Loop: splitting a step changes nothing but losses of balance; rates, routings, and the same by seed."""

from __future__ import annotations

import itertools

import pytest
import torch

from moe_core.labs.training import arms, corpus
from moe_core.labs.training.loop import Recipe, TrainStep, joined, split, train
from moe_core.labs.training.strategies import Balancing
from moe_core.nn.model import Decoder, initialise
from tests.labs.training.tiny import TINY, routing_of


def trained(steps: int = 3, **recipe: object) -> tuple[Decoder, list[TrainStep]]:
    """In float64, so that the order of additions does not matter."""
    model = Decoder(arms.mixture(TINY, 4, 2, 16))
    initialise(model, 0)
    model.double()
    source = corpus.windows(TINY.batch, TINY.seq, seed=0)
    return model, list(train(model, Recipe(steps=steps, **recipe), source))  # type: ignore[arg-type]


def furthest(first: Decoder, second: Decoder) -> float:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def test_micro_batches_train_as_the_batch_does():
    whole, seen = trained()
    parts, of_parts = trained(micro=4)
    assert furthest(whole, parts) < 1e-6
    assert [s.loss for s in of_parts] == pytest.approx([s.loss for s in seen], rel=1e-6)  # in fp32
    for one, other in zip(seen, of_parts, strict=True):
        for a, b in zip(one.routings, other.routings, strict=True):
            assert torch.equal(a.token_ids_N, b.token_ids_N)
            assert torch.equal(a.expert_ids_N, b.expert_ids_N)


def test_an_auxiliary_loss_of_single_sequences_is_the_sequence_loss():
    """`micro` as many as there are sequences: the same training by another way."""
    micro, _ = trained(micro=TINY.batch, balancing=Balancing(auxiliary=5.0))
    sequence, _ = trained(balancing=Balancing(sequence=5.0))
    whole, _ = trained(balancing=Balancing(auxiliary=5.0))
    assert furthest(micro, sequence) < 1e-6
    assert furthest(micro, whole) > 1e-4


def test_a_bias_sees_the_whole_step():
    rule = Balancing(rule="proportional", rate=0.1)
    whole, _ = trained(balancing=rule)
    parts, _ = trained(micro=4, balancing=rule)
    for a, b in zip(whole.feed_forwards, parts.feed_forwards, strict=True):
        assert a.router.selection_bias_E.abs().max() > 0
        assert torch.equal(a.router.selection_bias_E, b.router.selection_bias_E)


def test_the_same_seed_is_the_same_training():
    first, seen = trained(balancing=Balancing(auxiliary=0.1, rule="quantile"))
    second, again = trained(balancing=Balancing(auxiliary=0.1, rule="quantile"))
    assert furthest(first, second) == 0.0
    assert [s.loss for s in seen] == [s.loss for s in again]


def test_training_learns():
    _, seen = trained(steps=30)
    assert seen[-1].loss < seen[0].loss - 0.5
    assert [s.number for s in seen] == list(range(30))


def test_an_extra_loss_is_trained_on():
    def extra(routings: list[object]) -> torch.Tensor:
        return torch.tensor(3.0, dtype=torch.float64) * len(routings)

    model = Decoder(arms.mixture(TINY, 4, 2, 16))
    source = corpus.windows(TINY.batch, TINY.seq, seed=0)
    step = next(iter(train(model, Recipe(steps=1), source, extra)))
    assert step.balance == pytest.approx(6.0)


def test_the_rate_rises_and_then_falls_to_a_tenth():
    recipe = Recipe(steps=100, peak=2e-3, warm=0.05)
    rates = [recipe.rate(step) for step in range(101)]
    assert rates[:5] == pytest.approx([2e-3 * n / 5 for n in (1, 2, 3, 4, 5)])
    assert max(rates) == rates[5] == pytest.approx(2e-3)
    assert all(a > b for a, b in itertools.pairwise(rates[5:]))
    assert rates[100] == pytest.approx(2e-4)


def test_parts_of_a_window_are_its_sequences_in_order():
    window = next(corpus.windows(8, 16, seed=1))
    parts = list(split(window, 4))
    assert torch.equal(torch.cat([part.ids_BS for part in parts]), window.ids_BS)
    assert torch.equal(torch.cat([part.domains_B for part in parts]), window.domains_B)
    with pytest.raises(AssertionError):
        split(window, 3)


def test_joined_routings_are_those_of_the_batch():
    scores_TE = torch.rand(12, 4, dtype=torch.float64)
    whole = routing_of(scores_TE, 2)
    found = joined(tuple(routing_of(part, 2) for part in scores_TE.chunk(3)))
    for name in ("token_ids_N", "expert_ids_N", "weights_N", "scores_TE", "logits_TE"):
        assert torch.equal(getattr(found, name), getattr(whole, name)), name
    assert found.per_token == 2
