"""A scenario as a decision: which pair, how many devices, which targets."""

from __future__ import annotations

import pytest

from app import rulings
from app.rulings import Chosen
from app.scenario import Scenario
from moe_core.decide.pair import pair
from moe_core.errors import ConfigError

H100 = Scenario("Qwen3-30B-A3B", "H100")


@pytest.mark.parametrize(
    ("architecture", "rival", "dense", "rule"),
    [
        ("Qwen3-30B-A3B", "auto", "Qwen3-14B", "published"),
        ("DBRX", "auto", "DBRX dense, sqrt", "sqrt"),
        ("Mixtral-8x7B", "total", "Mixtral-8x7B dense, total", "total"),
        ("Mixtral-8x7B", "Qwen3-8B", "Qwen3-8B", "own"),
        ("Mixtral-8x7B", "no such model", "Llama-2-70B", "published"),
    ],
)
def test_the_dense_side(architecture: str, rival: str, dense: str, rule: str) -> None:
    found = pair(rulings.spec(H100._replace(architecture=architecture), Chosen(rival=rival)))
    assert (found.second.name, found.rule.id) == (dense, rule)


def test_an_edited_mixture_is_no_longer_the_published_one() -> None:
    edited = H100._replace(edit=True, experts=64, top_k=4, shared=0)
    found = pair(rulings.spec(edited, Chosen()))
    bank = found.first.architecture.experts
    assert bank is not None
    assert (bank.count, bank.top_k) == (64, 4)
    assert found.rule.id == "sqrt"


@pytest.mark.parametrize(
    ("scenario", "rival", "devices"),
    [
        (H100, "auto", 1),  # both fit one
        (Scenario("Mixtral-8x7B", "RTX 4090", batch=1), "Qwen3-8B", 1),  # one of them does
        (Scenario("DeepSeek-V3", "H200", precision="fp8"), "Llama-3.1-405B", 8),  # neither: both must
    ],
)
def test_devices_are_one_if_it_holds_either_else_the_fewest_that_hold_both(
    scenario: Scenario, rival: str, devices: int
) -> None:
    assert rulings.spec(scenario, Chosen(rival=rival)).devices == devices
    assert rulings.spec(scenario, Chosen(rival=rival, devices=4)).devices == 4


def test_the_sidebar_is_the_work_and_the_preset_the_targets() -> None:
    asked = rulings.spec(H100._replace(batch=32, context=8192, write=128), Chosen(preset="code"))
    work = asked.workload
    assert (work.batch, work.context, work.output, work.latency_ms) == (32, 8192, 128, 25.0)
    mine = rulings.spec(H100, Chosen(preset="code", latency_ms=7.0, budget=2.0, task="reasoning", price=3.0))
    assert (mine.workload.latency_ms, mine.budget, mine.task, mine.price) == (7.0, 2.0, "reasoning", 3.0)


def test_an_answer_longer_than_half_the_context_is_cut() -> None:
    assert rulings.spec(H100._replace(context=512, write=1024), Chosen()).workload.output == 256


def test_what_is_not_on_file_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="hardware"):
        rulings.spec(H100._replace(hardware="this machine"), Chosen())
