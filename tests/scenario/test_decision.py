"""A scenario as a decision: which pair, how many devices, which targets."""

from __future__ import annotations

import pytest

from moe_core.decide import rules
from moe_core.decide.pair import pair
from moe_core.decide.verdict import decide
from moe_core.errors import ConfigError
from moe_core.scenario.decision import decision
from moe_core.scenario.spec import PRESET, Scenario, brings

FIRST = Scenario()


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
    found = pair(decision(Scenario(architecture, rival=rival)))
    assert (found.second.name, found.rule.id) == (dense, rule)


@pytest.mark.parametrize("rival", ["auto", "sqrt", "total", "Llama-3.1-8B"])
def test_the_rival_stays_while_the_knobs_move_and_the_mixture_is_renamed(rival: str) -> None:
    """Otherwise the verdict turns because the other side was exchanged in silence."""
    before = pair(decision(Scenario("Mixtral-8x7B", rival=rival)))
    after = pair(decision(Scenario("Mixtral-8x7B", rival=rival, experts=16)))
    assert after.second.architecture == before.second.architecture
    assert after.first.name == "Mixtral-8x7B, 16 experts"
    bank = after.first.architecture.experts
    assert bank is not None
    assert (bank.count, bank.top_k) == (16, 2)
    assert after.rule.id == "own"  # nobody published the edited mixture


def test_a_knob_at_its_published_value_changes_nothing() -> None:
    assert decision(Scenario(experts=128, top_k=8, shared=0)) == decision(Scenario())
    assert decision(Scenario(experts=128)).mixture == "Qwen3-30B-A3B"


def test_each_model_has_its_own_devices_unless_somebody_says_how_many() -> None:
    assert decision(FIRST).devices is None
    assert decision(FIRST._replace(devices=4)).devices == 4
    assert decision(FIRST._replace(preset="device")).devices is None  # choosing it sets the knob
    assert brings("device")["many"] == "1"


def test_the_first_screen_is_its_preset_exactly() -> None:
    asked, preset = decision(FIRST).workload, rules.preset(PRESET).workload
    for name, value in preset.items():
        assert getattr(asked, name) == value


@pytest.mark.parametrize("name", rules.presets())
def test_every_preset_is_what_is_computed(name: str) -> None:
    from moe_core.scenario.spec import work

    asked = decision(Scenario(preset=name, **work(name))).workload
    for field, value in rules.preset(name).workload.items():
        assert getattr(asked, field) == value


def test_the_scenario_wins_over_the_preset() -> None:
    asked = decision(Scenario(batch=32, prompt=8064, answer=128, preset="code"))
    work = asked.workload
    assert (work.batch, work.context, work.prompt, work.output) == (32, 8192, 8064, 128)
    assert work.latency_ms == 25.0
    mine = decision(Scenario(preset="code", latency_ms=7.0, budget=2.0, task="reasoning", price=3.0))
    assert (mine.workload.latency_ms, mine.budget, mine.task, mine.price) == (7.0, 2.0, "reasoning", 3.0)


def test_what_is_not_on_file_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="hardware"):
        decision(FIRST._replace(hardware="this machine"))


def test_beyond_the_longest_context_of_a_model_there_is_no_other_answer() -> None:
    asked = Scenario("Mixtral-8x7B", rival="Llama-3.1-8B", prompt=65536, hardware="H200", ttft_ms=60_000.0)
    found = decide(decision(asked))
    assert found.state == "only"
    assert found.misses[0][0].words == "takes at most 32,768 tokens, 66,048 are asked"
