"""E13: with and without a shared expert at the same work."""

from __future__ import annotations

import pytest
import torch

from moe_core.labs.training import shared_expert
from moe_core.labs.training.shared_expert import EXPERTS, MARGIN
from moe_core.labs.training.statistics import equivalent
from moe_core.nn.model import Decoder
from moe_core.settings import Settings
from moe_core.specs import Training
from tests.labs.training.tiny import TINY, findings, perform, series


def test_both_use_and_store_as_much_but_for_one_row_of_the_router():
    there, gone = (arm.arch for arm in shared_expert.compared(TINY))
    assert there.experts.top_k + there.experts.shared == gone.experts.top_k == 4
    assert there.experts.count + there.experts.shared == gone.experts.count == EXPERTS
    assert there.experts.width == gone.experts.width
    count = [sum(p.numel() for p in Decoder(arch).parameters()) for arch in (there, gone)]
    assert count[1] - count[0] == TINY.layers * TINY.hidden


def test_an_expert_counts_one_on_average_in_both():
    x_TD = torch.randn(20, TINY.hidden)
    for arm in shared_expert.compared(TINY):
        routing = Decoder(arm.arch).feed_forwards[0].router(x_TD)
        sums_T = torch.zeros(20).index_add(0, routing.token_ids_N, routing.weights_N)
        assert torch.allclose(sums_T, torch.tensor(float(arm.arch.experts.top_k)))


def test_the_experiment(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_expert, "SIZES", {"quick": TINY})
    found = findings(done := perform("shared_expert", Training(seeds=3)))
    assert set(found) == {
        *("loss_difference", "tost_margin", "tost_p"),
        *(f"{kind}.{arm}" for kind in ("loss", "maxvio_step") for arm in ("with", "without")),
    }
    table = series(done)
    loss = table[table.metric == "heldout"].pivot(index="seed", columns="arm", values="value")
    differences = (loss["with"] - loss["without"]).tolist()
    assert len(differences) == 3
    assert found["loss_difference"]["value"] == pytest.approx(sum(differences) / 3)
    assert found["tost_p"]["value"] == pytest.approx(equivalent(differences, MARGIN))
    assert found["tost_margin"]["value"] == MARGIN == 0.02
    assert findings(perform("shared_expert", Training(seeds=3))) == found
