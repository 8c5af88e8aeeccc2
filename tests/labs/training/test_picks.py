"""Picks: names and numbers become strategies, and strategies words."""

import pytest

from moe_core.errors import ConfigError
from moe_core.labs.training import picks
from moe_core.labs.training.balancing import check
from moe_core.labs.training.picks import PICKS, affordable, parse, strategy, words
from moe_core.labs.training.table import TABLE, question
from moe_core.specs import EXPERIMENTS, Strategy


@pytest.mark.parametrize("name", PICKS)
def test_every_pick_is_a_strategy_with_its_usual_number(name: str) -> None:
    pick = PICKS[name]
    made = strategy(name)
    assert made == parse(name)
    if pick.usual is not None:
        assert made == parse(f"{name}={pick.usual}")
        assert f"{pick.usual:g}" in words(made)
        assert strategy(name, 0.5) != made


def test_what_is_said_of_a_strategy() -> None:
    assert words(Strategy()) == "no balancing"
    both = Strategy(auxiliary=0.01, rule="sign", rate=0.02)
    assert words(both) == "auxiliary loss 0.01, bias (sign) 0.02"
    assert words(Strategy(rule="quantile")) == "bias (quantile)"
    assert words(Strategy(router="expert_choice")) == "expert choice"


@pytest.mark.parametrize("bank", [(1, 1, 0), (8, 2, 1), (16, 16, 0), (64, 64, 8), (128, 8, 0), (128, 128, 8)])
@pytest.mark.parametrize("setting", ["quick", "full"])
def test_what_is_affordable_is_what_the_experiment_takes(bank: tuple[int, int, int], setting: str) -> None:
    found = affordable(bank, setting)
    check(question("balancing", setting, strategies=[Strategy()], bank=found))  # type: ignore[arg-type]
    if bank[0] <= picks.MOST_EXPERTS[setting] and bank[1] + bank[2] <= picks.MOST_ACTIVE[setting]:
        assert found == bank


def test_the_share_that_is_active_is_kept() -> None:
    assert affordable((128, 8, 1), "quick") == (32, 2, 1)
    assert affordable((128, 8, 1), "full") == (64, 4, 1)


def test_every_experiment_can_be_asked_in_both_settings() -> None:
    assert set(TABLE) == set(EXPERIMENTS)
    for lab in EXPERIMENTS:
        arms = [Strategy()] if lab == "balancing" else []
        quick, full = (question(lab, setting, strategies=arms) for setting in ("quick", "full"))
        assert quick.training is not None
        assert quick.fingerprint() != full.fingerprint()
        assert question(lab, strategies=arms) == quick


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: question("balancing"), r"strategies \(0\): must be at least one for balancing"),
        (
            lambda: question("bias", strategies=[Strategy()]),
            r"strategies \(1\): must be none: bias has its own",
        ),
        (lambda: question("bias", seeds=11), r"seeds \(11\)"),
        (lambda: parse("sgn"), "close matches: sign"),
        (lambda: strategy("hash", 1.0), r"strategies \(hash=1\): hash takes no number"),
        (lambda: strategy("sign", 0.0), r"strategies \(sign=0\): must be a number from 0.0001 to 100"),
        (lambda: strategy("z", float("nan")), r"strategies \(z=nan\): must be a number from 0 to 100"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(ask, sentence) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ask()
