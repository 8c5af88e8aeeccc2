"""E7: what is frozen does not move at all, what is told of updates and drift is what it says."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_core.labs.training import corpus, fine_tuning
from moe_core.labs.training.fine_tuning import ARMS, HeldOut, drift, free, gini, known, relevant, updates
from moe_core.labs.training.loop import Recipe, train
from moe_core.nn.model import Decoder, initialise
from moe_core.nn.router import from_choice
from moe_core.nn.routing import Routing
from tests.labs.training.published import TINY, Published, mean, of_seed, published

MOE, TWIN = (arm.arch for arm in fine_tuning.beginnings(TINY))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published(fine_tuning, tmp_path_factory.mktemp("fine_tuning"), BEFORE={"quick": 8})


def model(arch=MOE) -> Decoder:
    decoder = Decoder(arch)
    initialise(decoder, 0)
    return decoder


def tuned(name: str, only: list[list[int]] | None = None) -> dict[str, torch.Tensor]:
    """Parameter -> what it changed by in a few steps of the arm."""
    before = model()
    after = deepcopy(before)
    free(after, ARMS[name], only)
    recipe = Recipe(steps=4, peak=fine_tuning.PEAK, decay=0.0)
    list(train(after, recipe, corpus.windows(4, 32, 0, only=fine_tuning.NEW)))
    old = before.state_dict()
    return {name: value - old[name] for name, value in after.state_dict().items()}


MOVING = {
    "all": lambda name: "selection_bias" not in name,
    "non-MoE only": lambda name: ".ffn." not in name,
    "experts only": lambda name: name.endswith(("gate_up_EGD", "down_EDF")),
    "router frozen": lambda name: ".router." not in name,
    "last router": lambda name: name == "blocks.1.ffn.router.weight_ED",
}


@pytest.mark.parametrize("name", MOVING)
def test_what_is_frozen_stays_bit_by_bit_and_all_else_moves(name):
    moved = {parameter for parameter, change in tuned(name).items() if change.any()}
    assert moved == {parameter for parameter in model().state_dict() if MOVING[name](parameter)}


def test_of_the_experts_only_the_relevant_ones_move():
    changes = tuned("relevant experts", [[3, 5], [0]])
    for layer, chosen in ((0, [3, 5]), (1, [0])):
        for part in ("gate_up_EGD", "down_EDF"):
            moved_E = changes[f"blocks.{layer}.ffn.{part}"].flatten(1).any(1)
            assert moved_E.nonzero().squeeze(1).tolist() == chosen
        assert changes[f"blocks.{layer}.ffn.router.weight_ED"].any()
    others = [name for name in changes if ".ffn." not in name]
    assert not any(changes[name].any() for name in others)


def test_a_dense_model_is_free_as_a_whole():
    twin = model(TWIN)
    free(twin, ARMS["dense"])
    assert all(parameter.requires_grad for parameter in twin.parameters())


# -- Gini ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 1, 1, 1], 0), ([0, 0, 0, 7], 0.75), ([1, 3], 0.25), ([0, 1, 2, 3, 4], 0.4), ([0, 0], 0), ([5], 0)],
)
def test_gini_of_known_cases(values, expected):
    assert gini(torch.tensor(values, dtype=torch.float64)) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.floats(0.001, 1e3), min_size=1, max_size=20), st.floats(0.01, 100))
def test_gini_is_half_the_mean_difference_over_the_mean_whatever_the_unit(values, unit):
    array = np.array(values)
    by_hand = np.abs(array[:, None] - array[None, :]).mean() / (2 * array.mean())
    assert gini(torch.tensor(array)) == pytest.approx(by_hand, abs=1e-9)
    assert gini(torch.tensor(array * unit)) == pytest.approx(by_hand, abs=1e-9)


# -- updates, drift, relevance ---------------------------------------------------------------------


def test_an_update_is_the_norm_over_all_of_an_expert():
    before, after = model(), model()
    with torch.no_grad():
        after.feed_forwards[1].gate_up_EGD[2, 0, :9] += 2.0
        after.feed_forwards[1].down_EDF[2, :8, 0] -= 1.0
    first_E, second_E = updates(before, after)
    assert not first_E.any()
    expected_E = torch.zeros(fine_tuning.EXPERTS, dtype=torch.float64)
    expected_E[2] = (9 * 4 + 8) ** 0.5
    torch.testing.assert_close(second_E, expected_E, atol=1e-5, rtol=1e-6)
    assert updates(model(TWIN), model(TWIN)) == []


def of_scores(scores_TE: torch.Tensor, k: int = 1) -> Routing:
    chosen_TK = scores_TE.topk(k, dim=-1).indices
    return from_choice(chosen_TK, scores_TE.gather(-1, chosen_TK), scores_TE)


def test_drift_is_the_divergence_of_gate_distributions():
    generator = torch.Generator().manual_seed(0)
    old_TE, new_TE = (torch.randn(50, 8, generator=generator).double().softmax(-1) for _ in range(2))
    by_hand = (old_TE * (old_TE / new_TE).log()).sum() / 50
    assert drift([of_scores(old_TE)], [of_scores(new_TE)]) == pytest.approx(float(by_hand), rel=1e-9)
    two = drift([of_scores(old_TE), of_scores(old_TE)], [of_scores(new_TE), of_scores(old_TE)])
    assert two == pytest.approx(float(by_hand) / 2, rel=1e-9)
    assert drift([of_scores(old_TE)], [of_scores(old_TE)]) == 0


def test_relevant_experts_are_the_fewest_that_have_the_share():
    """Loads 5, 3, 1, 1 of ten pairs."""
    chosen = [2] * 5 + [0] * 3 + [1, 3]
    routing = of_scores(torch.eye(4, dtype=torch.float64)[chosen])
    assert relevant([routing, routing], 0.5) == [[2], [2]]
    assert relevant([routing], 0.51) == [[2, 0]]
    assert relevant([routing], 0.9) == [[2, 0, 1]]
    assert relevant([routing], 1.0) == [[2, 0, 1, 3]]


# -- text ------------------------------------------------------------------------------------------


def test_what_is_known_before_never_has_the_new_domain():
    source = known(TINY, 3)
    new = corpus.domains().index(fine_tuning.NEW)
    seen = torch.cat([next(source).domains_B for _ in range(60)])
    assert len(seen) == 60 * TINY.batch
    assert set(seen.tolist()) == set(range(len(corpus.domains()))) - {new}


def test_heldout_text_is_split_in_two():
    text, new = HeldOut.of(TINY), corpus.domains().index(fine_tuning.NEW)
    assert set(text.new.domains_B.tolist()) == {new}
    assert set(text.old.domains_B.tolist()) == set(range(len(corpus.domains()))) - {new}


# -- the experiment --------------------------------------------------------------------------------


def test_the_contract_of_names_is_kept(run):
    arms = (
        "all",
        "router_frozen",
        "experts_only",
        "non_moe_only",
        "last_router",
        "relevant_experts",
        "dense",
    )
    names = {f"{kind}.{arm}" for kind in ("forgetting", "new_loss") for arm in arms}
    assert names | {"gini.updates", "router_drift.all"} <= set(run.findings)
    assert "router_drift.dense" not in run.findings


def test_findings_are_taken_from_the_series(run):
    for arm in ("all", "dense"):
        curves = [run.series[arm, seed, "old_loss", "step"] for seed in (0, 1)]
        assert [x for x, _ in curves[0]] == [0, 2, 4, 6, 8]
        forgotten = mean([curve[-1][1] - curve[0][1] for curve in curves])
        assert run.value(f"forgetting.{arm}") == pytest.approx(forgotten)
    by_layer = [
        gini(torch.tensor([value for _, value in run.series["all", 0, f"update.layer{layer}", "expert"]]))
        for layer in range(TINY.layers)
    ]
    assert run.series["all", 0, "gini", "step"][-1][1] == pytest.approx(mean(by_layer))


def test_arms_start_alike_and_without_routers_that_move_or_see_anything_new_nothing_drifts(run):
    starts = {run.series[arm, 0, "old_loss", "step"][0][1] for arm in ARMS if arm != "dense"}
    assert len(starts) == 1
    for seed in (0, 1):
        first_layer = [value for _, value in run.series["last router", seed, "update.layer0", "expert"]]
        assert first_layer == [0.0] * fine_tuning.EXPERTS
        assert run.series["last router", seed, "router_drift", "step"][-1][1] > 0


def test_training_is_deterministic_by_seed(run, tmp_path):
    again = published(fine_tuning, tmp_path, seeds=1, BEFORE={"quick": 8})
    assert again.series == of_seed(run, 0)
