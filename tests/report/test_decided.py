"""A decision as it is kept: nothing is lost, it is made again from what was asked, a change is found."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_core.decide.case import Recorded
from moe_core.decide.spec import DecideSpec
from moe_core.decide.verdict import decide
from moe_core.errors import ConfigError
from moe_core.report import decided
from moe_core.report.argument import blocks, plot
from moe_core.report.decided import DECIDED, Asked, Decided, again, keep, of_decided
from moe_core.report.manifest import Manifest, make
from moe_core.report.reproduce import Check, reproduce
from moe_core.specs import Architecture
from tests.report.examples import anything
from tests.report.reviewed import verdict

PAIRS = (
    {"mixture": "Qwen3-30B-A3B", "dense": "Qwen3-14B"},
    {"mixture": "Mixtral-8x7B", "rule": "published", "hardware": "A100 80GB", "precision": "int8"},
    {"mixture": "DeepSeek-V3", "rule": "sqrt", "hardware": "H200", "devices": 16, "precision": "fp8"},
    {"mixture": "Mixtral-8x7B", "dense": "Qwen3-8B", "hardware": "RTX 4090", "devices": 2},
)


def manifest(found: Decided, **changes: Any) -> Manifest:
    """As an export carries it; `changes`: numbers that somebody wrote over, by kind."""
    asked = {"verdict": found.asked.model_dump(mode="json")}
    made = make("figure", "x", decisions=asked, numbers=of_decided("verdict", found))
    numbers = (
        one.model_copy(update={"value": changes[one.how]}) if one.how in changes else one
        for one in made.numbers
    )
    return Manifest.parse_json(made.model_copy(update={"numbers": tuple(numbers)}).to_json())


def checked(made: Manifest) -> list[Check]:
    return reproduce(made, lambda run: pytest.fail(f"no run is read: {run}"))


@pytest.mark.parametrize("asked", PAIRS, ids=lambda asked: asked["mixture"])
@pytest.mark.parametrize("preset", ["chat", "agentic"])
def test_what_was_asked_gives_the_same_decision_again(asked: dict[str, Any], preset: str) -> None:
    found = keep(decide(DecideSpec.of({"preset": preset, "workload": {"context": 8192}} | asked)))
    assert Decided.of(json.loads(found.model_dump_json())) == found
    assert again(found.asked.model_dump(mode="json")) == found
    assert {check.outcome for check in checked(manifest(found))} == {"equal"}


def test_what_was_asked_names_nothing_but_the_device() -> None:
    spec = verdict().asked.spec
    assert isinstance(spec.mixture, Architecture)
    assert isinstance(spec.dense, Architecture)
    assert spec.weights == spec.importance
    assert spec.rule is not None


def test_what_a_run_told_is_kept_too() -> None:
    spec = DecideSpec.of({"preset": "chat", "mixture": "Mixtral-8x7B", "dense": "Qwen3-14B", "devices": 2})
    load = (3.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5)
    found = keep(decide(spec, Recorded(load, "a run", False)))
    assert found.asked.recorded == Recorded(load, "a run", False)
    assert again(found.asked.model_dump(mode="json")) == found
    deaf = found.asked.model_copy(update={"heard": None}).model_dump(mode="json")
    assert again(deaf).margin != found.margin


def test_every_kind_is_in_a_manifest_and_has_a_provenance() -> None:
    numbers = of_decided("verdict", verdict())
    assert {one.how for one in numbers} == set(DECIDED)
    assert {one.source for one in numbers} > {"modelled"}


@pytest.mark.parametrize(
    ("how", "value"),
    [("decide.margin", 0.5), ("decide.winner", "mixture"), ("decide.flips", 0), ("decide.flip", 1.5)],
)
def test_a_number_that_was_changed_by_hand_is_different(how: str, value: Any) -> None:
    checks = checked(manifest(verdict(), **{how: value}))
    assert verdict().winner == "dense"
    count = sum(one.how == how for one in of_decided("verdict", verdict()))
    assert [check.outcome for check in checks].count("different") == count


def test_another_question_has_another_margin_and_flips_that_are_no_more() -> None:
    made = manifest(verdict())
    values = json.loads(json.dumps(made.decisions["verdict"]))
    values["spec"]["capacity_gb"] = 200.0
    checks = checked(made.model_copy(update={"decisions": {"verdict": values}}))
    different = {check.name for check in checks if check.outcome == "different"}
    assert {"Margin", "Score context"} <= different
    assert not [check for check in checks if check.outcome == "unknown"]


def test_a_question_that_cannot_be_read_is_unknown_and_says_why() -> None:
    made = manifest(verdict())
    for values, why in (({"spec": {}}, "mixture"), ({"spec": 3}, "spec")):
        checks = checked(made.model_copy(update={"decisions": {"verdict": values}}))
        assert {check.outcome for check in checks} == {"unknown"}
        assert why in checks[0].why
    lost = checked(made.model_copy(update={"decisions": {}}))
    assert "does not describe 'verdict'" in lost[0].why


def test_what_fits_nowhere_any_more_is_a_sentence_with_its_numbers() -> None:
    made = manifest(verdict())
    values = json.loads(json.dumps(made.decisions["verdict"]))
    values["spec"] |= {"capacity_gb": 8.0, "devices": 1}
    check = checked(made.model_copy(update={"decisions": {"verdict": values}}))[0]
    assert check.outcome == "unknown"
    assert "neither fits" in check.why


def test_unknown_keys_are_refused_and_another_verdict_is_no_decision() -> None:
    values = verdict().model_dump(mode="json")
    with pytest.raises(ConfigError, match="more"):
        Decided.of({**values, "more": 1})
    with pytest.raises(ConfigError):
        Asked.of({**values["asked"], "spec": {**values["asked"]["spec"], "devices": "8"}})
    assert decided.read({"sentence": "Mixture", "margin": 0.3}) is None
    assert decided.read(None) is None
    assert decided.read(values) == verdict()


@given(st.dictionaries(anything, anything | st.floats() | st.none(), max_size=4))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_is_a_decision_or_none(values: dict[str, Any]) -> None:
    assert decided.read(values) is None


def test_the_chart_has_the_factors_in_play_the_loudest_first() -> None:
    data = plot(verdict()).figure.data
    pulls = [abs(pull) for pull in data["pull"]]
    assert pulls == sorted(pulls, reverse=True)
    assert (data["weight"] > 0).all()
    assert sum(data["pull"]) == pytest.approx(verdict().margin)
    assert set(data.loc[data["score"] > 0.1, "side"]) <= {"mixture"}


def test_a_verdict_without_a_flip_says_so() -> None:
    still = verdict().model_copy(update={"turns": ()})
    assert "Nothing inside" in str(blocks(still)[-1])
