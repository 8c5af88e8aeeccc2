"""The busiest expert of a step, alone on its device: pairs by its MaxVio, seconds by the layer's model."""

import pytest

from moe_core.perf.moe_layer import LayerCase
from moe_core.scenario import costs, loads
from moe_core.scenario.costs import Study
from moe_core.scenario.spec import Scenario
from moe_core.silicon import layer

STEPS = (1, 16, 4096, 65_536)


@pytest.fixture(scope="module")
def study() -> Study:
    return costs.study(Scenario(), "vllm", None)


def test_pairs_are_the_fair_share_times_the_violation(study: Study) -> None:
    bank = costs.layer_of(study.mixture.architecture)
    rows = loads.hottest(study, {"none": 3.0, "even": 0.0}, STEPS).set_index(["load", "tokens"])
    fair = bank.top_k / bank.experts
    assert rows.loc[("even", 65_536), "pairs"] == pytest.approx(65_536 * fair)
    assert rows.loc[("none", 65_536), "pairs"] == pytest.approx(65_536 * fair * 4)
    assert rows.loc[("none", 65_536), "factor"] == 4


def test_a_token_reaches_an_expert_once(study: Study) -> None:
    rows = loads.hottest(study, {"one takes all": 1e6}, STEPS)
    assert (rows["pairs"] == rows["tokens"]).all()


def test_the_seconds_are_those_of_the_layers_model(study: Study) -> None:
    bank = costs.layer_of(study.mixture.architecture)
    (row,) = loads.hottest(study, {"none": 1.0}, (65_536,)).to_dict("records")
    case = LayerCase(round(row["pairs"]), bank.hidden, bank.width, 1, 1, gated=bank.gated)
    found = layer.estimate(study.hardware, loads.form(study), case, framework=study.framework)
    assert row["seconds"] == found.seconds
    assert (row["lower"], row["upper"]) == (found.lower, found.upper)


def test_a_busier_expert_never_takes_less(study: Study) -> None:
    names = {str(violation): violation for violation in (0.0, 0.5, 2.0, 7.0)}
    rows = loads.hottest(study, names, STEPS)
    for _, mine in rows.groupby("tokens"):
        assert mine.sort_values("factor")["seconds"].is_monotonic_increasing
