"""Causal: thresholds in place of expert choice, and how far experts look ahead."""

from __future__ import annotations

import pytest
import torch

from moe_core.labs.training import arms, corpus
from moe_core.labs.training.causal import ThresholdRouter, causal, leak
from moe_core.labs.training.strategies import ROUTERS
from moe_core.nn.model import Decoder, initialise
from moe_core.nn.observe import RoutingLog
from tests.labs.training.tiny import TINY


def model_of(kind: str) -> Decoder:
    model = Decoder(arms.mixture(TINY, 4, 2, 16, router=ROUTERS[kind]))
    initialise(model, 0)
    return model.eval()


def routings(model: Decoder, ids_BS: torch.Tensor) -> list[object]:
    log = RoutingLog()
    with torch.no_grad():
        model(ids_BS, observer=log)
    return [routing for _, routing in log.seen]


def test_thresholds_take_what_reaches_them():
    router = model_of("expert_choice").feed_forwards[0].router
    x_TD = torch.randn(64, TINY.hidden, generator=torch.Generator().manual_seed(0)) * 30
    scores_TE = router.logits(x_TD).softmax(-1).detach()
    threshold_E = torch.tensor([0.1, 0.3, 0.5, 1.1])
    routing = ThresholdRouter(router, threshold_E)(x_TD)
    taken = set(zip(routing.token_ids_N.tolist(), routing.expert_ids_N.tolist(), strict=True))
    assert taken == {(t, e) for t, e in (scores_TE >= threshold_E).nonzero().tolist()}
    assert routing.weights_N.tolist() == [
        scores_TE[t, e].item()
        for t, e in zip(routing.token_ids_N.tolist(), routing.expert_ids_N.tolist(), strict=True)
    ]


def test_on_the_text_they_were_taken_from_thresholds_let_the_even_share_through():
    model = model_of("expert_choice")
    read = next(corpus.windows(corpus.SEPARATE, TINY.seq, seed=0))
    before = routings(model, read.ids_BS[:, :-1])
    with causal(model, read) as fair:
        after = routings(fair, read.ids_BS[:, :-1])
    even = corpus.SEPARATE * TINY.seq * 2 // 4
    assert after[0].load_E().tolist() == pytest.approx([even] * 4, abs=2)
    assert [type(ffn.router).__name__ for ffn in model.feed_forwards] == ["ExpertChoice"] * TINY.layers
    assert torch.equal(routings(model, read.ids_BS[:, :-1])[0].load_E(), before[0].load_E())


def test_thresholds_read_nothing_ahead():
    model = model_of("expert_choice")
    with causal(model, next(corpus.windows(8, TINY.seq, seed=0))) as fair:
        assert leak(fair, corpus.heldout(64, 16)) == 0.0
    assert leak(model, corpus.heldout(64, 16)) > 0.0


@pytest.mark.parametrize("kind", ["softmax", "hash"])
def test_token_choice_reads_nothing_ahead(kind: str):
    assert leak(model_of(kind), corpus.heldout(64, 16)) == 0.0


def test_only_expert_choice_has_thresholds():
    read = next(corpus.windows(2, TINY.seq, seed=0))
    with pytest.raises(AssertionError, match="expert choice"), causal(model_of("softmax"), read):
        pass
