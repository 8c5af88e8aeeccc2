"""The spec: a preset and two names suffice, what is said wins, and bad input is one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moe_core.decide import rules
from moe_core.decide.pair import pair
from moe_core.decide.spec import DecideSpec
from moe_core.errors import ConfigError
from moe_core.perf.edit import edit
from moe_core.perf.params import count
from moe_core.registry import get

TWO = {"mixture": "mixtral 8x7b", "dense": "LLAMA-2-70b"}


@pytest.mark.parametrize("name", sorted(rules.presets()))
def test_every_preset_fills_work_and_task_below_what_is_said(name: str) -> None:
    preset = rules.preset(name)
    plain = DecideSpec.of({**TWO, "preset": preset.title})
    assert plain.preset == name
    assert plain.task == preset.task
    for field, value in preset.workload.items():
        assert getattr(plain.workload, field) == value
    for factor, weight in preset.weights.items():
        assert plain.importance[factor] == weight
    said = DecideSpec.of(
        {**TWO, "preset": name, "workload": {"batch": 3}, "task": "code", "weights": {"task": 9.0}}
    )
    assert (said.workload.batch, said.task, said.importance["task"]) == (3, "code", 9.0)
    assert said.workload.context == plain.workload.context


def test_a_short_context_shortens_what_the_preset_would_put_into_it() -> None:
    work = DecideSpec.of({**TWO, "preset": "agentic", "workload": {"context": 2048}}).workload
    assert work.read + work.output + work.cached == work.context == 2048


def test_history_in_the_cache_is_not_read_again() -> None:
    work = DecideSpec.of({**TWO, "workload": {"context": 100_000, "prompt": 1000, "output": 500}}).workload
    assert (work.read, work.cached, work.past) == (1000, 98_500, 99_750)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mixture": "mixtral-8x7b"}, "dense (None) must be given"),
        ({"mixture": "mixtral-8x7b", "rule": "own"}, "dense (None) must be given"),
        ({**TWO, "mixture": "qwen3-8b"}, "mixture (Qwen3-8B): is dense"),
        ({**TWO, "dense": "qwen3-30b-a3b"}, "dense (Qwen3-30B-A3B): is a mixture"),
        ({**TWO, "mixture": "mixtrall"}, "model (mixtrall): is not known; close matches"),
        ({**TWO, "hardware": "H1000"}, "hardware (H1000): is not known"),
        ({**TWO, "preset": "chatt"}, "preset (chatt): is not known; close matches: chat"),
        ({**TWO, "task": "poetry"}, "task (poetry): is not known"),
        ({**TWO, "precision": "fp7"}, "precision (fp7): must be stored, a format (fp32"),
        ({**TWO, "weights": {"beauty": 1.0}}, "weights.beauty: must be one of memory, throughput"),
        ({**TWO, "weights": {"memory": -1.0}}, "weights.memory (-1.0): input should be greater"),
        ({**TWO, "devices": 0}, "devices (0): input should be greater"),
        ({**TWO, "workload": {"batch": 0}}, "workload.batch (0)"),
        (
            {**TWO, "workload": {"context": 100, "output": 100}},
            "output (100) must be less than context (100)",
        ),
        ({**TWO, "devices": 1, "parallel": {"tensor": 4}}, "parallel (4 devices) must use devices (1)"),
        ({**TWO, "budget": float("nan")}, "budget"),
        ({**TWO, "preset": "chat", "workload": [1]}, "workload"),
        ({**TWO, "colour": "red"}, "colour (red): extra inputs are not permitted"),
        ({"mixture": "llama-2-70b", "rule": "active"}, "mixture (Llama-2-70B): is dense"),
        ({"mixture": "dbrx", "rule": "published"}, "rule (published): knows a dense rival of"),
        ({**TWO, "mixture": "deepseek-v4-pro"}, "no closed form"),
    ],
)
def test_bad_input_is_one_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pair(DecideSpec.of(values))
    assert words.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", ["active", "total"])
def test_the_twin_of_a_rule_has_the_size_the_rule_says(rule: str) -> None:
    found = pair(DecideSpec.of({"mixture": "mixtral-8x7b", "rule": rule}))
    counted = count(found.first.architecture)
    target = counted.total if rule == "total" else counted.active.incl_embeddings
    assert found.second.total == pytest.approx(target, rel=0.01)
    assert found.rule.id == rule


def test_the_rule_nobody_names_is_the_makers_or_the_users_own() -> None:
    assert pair(DecideSpec.of(TWO)).rule.id == "published"
    assert pair(DecideSpec.of({**TWO, "dense": "qwen3-32b"})).rule.id == "own"
    assert (
        pair(DecideSpec.of({"mixture": "deepseek-v3", "rule": "published"})).second.name == "Llama-3.1-405B"
    )


def test_an_architecture_of_ones_own_survives_json() -> None:
    mixture = get("mixtral-8x7b").architecture
    assert mixture is not None
    own = edit(mixture, {"experts": 16})
    asked = DecideSpec.of({"mixture": own, "rule": "active"})
    again = DecideSpec.of(json.loads(asked.model_dump_json()))
    assert again == asked
    assert pair(again).first.architecture == own


def test_prices_links_and_capacity_take_the_place_of_the_data_file() -> None:
    asked = DecideSpec.of({**TWO, "capacity_gb": 40, "price": 9.5, "link_gbs": 64})
    device = asked.device
    assert (device.capacity_gb, device.usd_per_hour, device.link_gbs) == (40, 9.5, 64)
    assert DecideSpec.of(TWO).device.capacity_gb == 80
