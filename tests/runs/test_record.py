"""Recording: every decision of a pass once, in order; probabilities that are probabilities."""

import numpy as np
import pytest
import torch
from torch import Tensor

from moe_core.nn.model import Decoder, initialise
from moe_core.nn.router import build, from_choice
from moe_core.nn.routing import Routing
from moe_core.runs.record import Recorder
from moe_core.specs import GQA, Architecture, Experts, Router

BATCH, SEQ, EXPERTS, TOP_K, LAYERS = 3, 16, 6, 2, 4
SPARSE = (1, 2, 3)  # the first layer is dense


@pytest.fixture(scope="module")
def model() -> Decoder:
    arch = Architecture(
        hidden=16,
        layers=LAYERS,
        vocab=256,
        attention=GQA(heads=2, kv_heads=1, head_dim=8),
        ffn_width=32,
        experts=Experts(count=EXPERTS, top_k=TOP_K, width=8),
        first_dense=1,
    )
    built = Decoder(arch).eval()
    initialise(built, 0)
    return built


@pytest.fixture(scope="module")
def ids_BS() -> Tensor:
    return torch.randint(0, 256, (BATCH, SEQ), generator=torch.Generator().manual_seed(0))


def record(model: Decoder, ids_BS: Tensor, parts: int = 1) -> Recorder:
    recorder = Recorder([0, 1, 0], 2, SEQ)
    for part in ids_BS.tensor_split(parts):
        with torch.inference_mode():
            model(part, observer=recorder)
        recorder.collect()
    return recorder


def test_decisions_are_conserved_and_sorted(model: Decoder, ids_BS: Tensor):
    columns = record(model, ids_BS).decisions().columns()
    assert len(columns["layer"]) == BATCH * SEQ * TOP_K * len(SPARSE)
    order = list(zip(columns["layer"], columns["token"], columns["slot"], strict=True))
    assert order == sorted(set(order))
    assert set(columns["layer"].tolist()) == set(SPARSE)


def test_recorded_pairs_are_the_ones_routers_chose(model: Decoder, ids_BS: Tensor):
    class Witness(Recorder):
        seen: dict[int, set[tuple[int, int]]] = {}  # noqa: RUF012

        def routing(self, layer, routing):  # type: ignore[no-untyped-def]
            self.seen[layer] = set(
                zip(routing.token_ids_N.tolist(), routing.expert_ids_N.tolist(), strict=True)
            )
            super().routing(layer, routing)

    witness = Witness([0, 1, 0], 2, SEQ)
    with torch.inference_mode():
        model(ids_BS, observer=witness)
    witness.collect()
    columns = witness.decisions().columns()
    for layer, pairs in witness.seen.items():
        mask = columns["layer"] == layer
        assert (
            set(zip(columns["token"][mask].tolist(), columns["expert"][mask].tolist(), strict=True)) == pairs
        )


def test_chunks_join_into_one_recording(model: Decoder, ids_BS: Tensor):
    whole, pieces = record(model, ids_BS).decisions(), record(model, ids_BS, parts=3).decisions()
    np.testing.assert_array_equal(whole.expert_LTK, pieces.expert_LTK)
    np.testing.assert_allclose(whole.weight_LTK, pieces.weight_LTK, rtol=1e-5)
    np.testing.assert_allclose(whole.share_LME, pieces.share_LME, rtol=1e-5)


def test_probabilities_are_means_over_the_tokens_of_a_domain(model: Decoder, ids_BS: Tensor):
    table = record(model, ids_BS).decisions().probabilities(("prose", "code"))
    alone = record(model, ids_BS[1:2].expand(3, -1)).decisions()
    assert len(table["layer"]) == len(SPARSE) * 2 * EXPERTS
    sums = table["probability"].reshape(len(SPARSE), 2, EXPERTS).sum(-1)
    np.testing.assert_allclose(sums, 1.0, rtol=1e-5)
    code = table["probability"][table["domain"] == "code"].reshape(len(SPARSE), EXPERTS)
    np.testing.assert_allclose(code, alone.share_LME[:, 0], rtol=1e-4)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "sqrt_softplus", "unit", "hash"])
def test_every_router_has_probabilities_that_sum_to_one(kind: str):
    router = build(Experts(count=EXPERTS, top_k=TOP_K, width=8, router=Router(kind=kind)), 16)  # type: ignore[arg-type]
    for seed in range(20):  # some have a token whose every score is below zero
        drawn = torch.Generator().manual_seed(seed)
        if kind != "hash":
            router.weight_ED.data.normal_(generator=drawn)
        share_LME = recorded(router(torch.randn(5, 16, generator=drawn), torch.arange(5)))
        assert share_LME.sum() == pytest.approx(1.0)
        assert (share_LME >= 0).all()


def test_a_token_without_a_score_above_zero_has_no_part_in_the_mean():
    scores_TE = torch.tensor([[3.0, 1.0, -2.0], [-1.0, -2.0, -3.0]])
    routing = from_choice(torch.tensor([[0], [0]]), torch.ones(2, 1), scores_TE)
    assert recorded(routing)[0, 0].tolist() == pytest.approx([0.75, 0.25, 0.0])


def test_a_domain_of_such_tokens_has_no_probabilities():
    routing = from_choice(torch.tensor([[0], [2]]), torch.ones(2, 1), torch.full((2, 3), -1.0))
    assert recorded(routing)[0, 0].tolist() == [0.0, 0.0, 0.0]


def recorded(routing: Routing) -> np.ndarray:
    """share_LME of one layer, its tokens one sequence of one domain."""
    recorder = Recorder([0], 1, routing.tokens)
    recorder.routing(0, routing)
    with torch.no_grad():
        recorder.collect()
    return recorder.decisions().share_LME
