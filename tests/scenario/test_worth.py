"""Worth: quality as a dense width beside time as a dense width."""

import pytest

from app.economics import worth as drawn
from moe_core.grid import LADDER, Member
from moe_core.scenario import costs, loads, worth
from moe_core.scenario.costs import Study
from moe_core.scenario.spec import Scenario
from moe_core.silicon import dense_equivalent
from tests.shelf import ship


@pytest.fixture(scope="module")
def study() -> Study:
    return costs.study(Scenario(), "vllm", None)


@pytest.fixture
def filled(shelf: None) -> None:
    """A dense ladder of 3.0 to 2.4 bits, and three mixtures: one good, one bad, one beyond it."""
    for step, width in enumerate(LADDER):
        ship(Member(0, 0, 0, width), 3.0 - 0.1 * step)
    ship(Member(64, 4, 0), 2.5)
    ship(Member(16, 4, 1), 2.75)
    ship(Member(64, 8, 0), 2.3)


@pytest.mark.usefixtures("filled")
def test_both_are_multiples_of_the_active_width(study: Study) -> None:
    rows = worth.of(study, 16).set_index("name")
    assert list(rows.index) == ["16 experts, top-4, 1 shared", "64 experts, top-4"]  # not the one beyond
    good = rows.loc["64 experts, top-4"]
    assert good["quality"] == pytest.approx(512 / 64)
    assert good["held"] == 16
    shared = rows.loc["16 experts, top-4, 1 shared"]
    assert shared["quality"] == pytest.approx(64 * 2**0.5 / 80)
    assert shared["held"] == pytest.approx(17 / 5)
    assert (rows["low"] <= rows["cost"]).all()
    assert (rows["cost"] <= rows["high"]).all()


@pytest.mark.usefixtures("filled")
def test_the_time_is_that_of_the_curve_of_such_a_layer(study: Study) -> None:
    mine = costs.layer_of(study.mixture.architecture)
    like = worth.like(mine, Member(64, 4, 0))
    assert (like.experts, like.top_k, like.shared_width) == (64, 4, 0)
    assert (like.hidden, like.active_width) == (mine.hidden, mine.active_width)
    shared = worth.like(mine, Member(16, 4, 1))
    assert shared.width == shared.shared_width == pytest.approx(mine.active_width / 5, abs=worth.STEP / 2)
    assert shared.width % worth.STEP == 0
    curve = dense_equivalent.predicted(study.hardware, loads.form(study), like, loads.POWER_LAW)
    (point,) = (one for one in curve.points if one.tokens == 16)
    row = worth.of(study, 16).set_index("name").loc["64 experts, top-4"]
    assert row["cost"] == pytest.approx(point.width / like.active_width)


@pytest.mark.usefixtures("filled")
def test_time_moves_with_the_batch_and_quality_does_not(study: Study) -> None:
    few, many = (worth.of(study, tokens).set_index("name") for tokens in (16, 16_384))
    assert (few["quality"] == many["quality"]).all()
    assert few.loc["64 experts, top-4", "cost"] > 2 * many.loc["64 experts, top-4", "cost"]


@pytest.mark.usefixtures("filled")
def test_the_chart_says_which_beats_what_takes_as_long(study: Study) -> None:
    title = drawn.chart(worth.of(study, 16), 16).title
    assert title.startswith("At 16 tokens at once ")
    assert "of 2 mixtures beat the dense layer that takes as long; the best, 64 experts, top-4," in title
    one = drawn.chart(worth.of(study, 1).tail(1), 1).title
    assert one.startswith("At one token, 64 experts, top-4 is as good as 8.00× and takes as long as ")


@pytest.mark.usefixtures("shelf")
def test_without_dense_models_there_is_nothing_to_say(study: Study) -> None:
    assert worth.of(study, 16).empty
