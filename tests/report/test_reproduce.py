"""Reproduce: equal numbers are called equal, changed ones different, lost ones unknown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.report import kinds
from moe_core.report.manifest import Manifest, Number, Ran, make, ran
from moe_core.report.measured import FACTS, Measured, find
from moe_core.report.reproduce import meets, reproduce, same
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.settings import REFERENCE, Settings
from moe_core.specs import RunSpec
from tests import synthetic
from tests.report.examples import case, manifest

SPEC = RunSpec(batch=2, seq=32)


@pytest.fixture
def found(bundle_dir: Callable[..., Path]) -> Bundle:
    return bundle.read(bundle_dir(SPEC, seed=1))


def of_run(found: Bundle) -> Manifest:
    return make("figure", "x", runs=[ran(found.manifest)], numbers=kinds.of_run(found))


def nowhere(run: Ran) -> Bundle:
    raise ConfigError(f"run_id ({run.run_id}): is no run of this installation")


def changed(made: Manifest, **values: Any) -> Manifest:
    first = made.numbers[0].model_copy(update=values)
    return made.model_copy(update={"numbers": (first, *made.numbers[1:])})


@pytest.mark.parametrize("model", ["Mixtral-8x7B", "Llama-2-70B", "DeepSeek-V3", "gpt-oss-120b"])
def test_the_numbers_of_a_scenario_are_the_same_again(model: str) -> None:
    made = Manifest.parse_json(manifest(one=case(model)).to_json())
    checks = reproduce(made, nowhere)
    assert len(checks) > 12
    assert {check.outcome for check in checks} == {"equal"}
    assert {number.how for number in made.numbers} <= set(kinds.KINDS)


def test_every_kind_of_scenario_is_in_a_manifest() -> None:
    assert {number.how for number in manifest().numbers} == set(kinds.KINDS)


def test_a_changed_number_is_found() -> None:
    checks = reproduce(changed(manifest(), value=1), nowhere)
    assert [check.outcome for check in checks].count("different") == 1
    assert checks[0].now == 46_702_792_704
    assert "now 46,702,792,704 parameters" in checks[0].line()


def test_another_device_is_another_answer() -> None:
    made = manifest()
    values = {**made.scenarios["A"], "capacity": 200_000_000_000}
    checks = reproduce(made.model_copy(update={"scenarios": {"A": values}}), nowhere)
    different = {check.name for check in checks if check.outcome == "different"}
    assert {
        "Usable memory of one device",
        "Devices",
        "Largest batch there",
    } <= different
    assert not {"Parameters", "Weights", "KV cache of one token"} & different


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"how": "no.such"}, "no rule 'no.such'"),
        ({"of": "B"}, "does not describe 'B'"),
        ({"how": "memory.part", "arguments": {}}, "lacks the argument 'component'"),
    ],
)
def test_what_cannot_be_computed_is_unknown_and_says_why(values: dict[str, Any], why: str) -> None:
    check = reproduce(changed(manifest(), **values), nowhere)[0]
    assert check.outcome == "unknown"
    assert why in check.why


def test_a_new_kind_is_a_new_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        kinds.KINDS, "context.double", kinds.Kind("tokens", lambda one, _: 2 * one.context, "Double")
    )
    made = changed(manifest(), how="context.double", value=8192)
    assert reproduce(made, nowhere)[0].outcome == "equal"


def test_a_measured_number_is_read_from_its_bundle(found: Bundle, settings: Settings, tmp_path: Path) -> None:
    made = Manifest.parse_json(of_run(found).to_json())
    checks = reproduce(made, lambda run: find(run.run_id, settings.runs_dir, tmp_path))
    assert {check.outcome for check in checks} == {"equal"}
    assert {number.how for number in made.numbers} == set(FACTS) - {"run.finding"}
    lost = reproduce(made, nowhere)
    assert {check.outcome for check in lost} == {"unknown"}
    assert "is no run of this installation" in lost[0].why


def test_what_an_experiment_found_goes_along() -> None:
    shipped = bundle.read(REFERENCE / "cpu-distinct_experts")
    made = Manifest.parse_json(of_run(shipped).to_json())
    findings = {number.arguments["finding"]: number for number in made.numbers}
    assert findings.keys() == shipped.manifest.summary["findings"].keys()
    told, number = shipped.manifest.summary["findings"]["popularity_error"], findings["popularity_error"]
    assert (number.value, number.low, number.high) == (told["value"], told["low"], told["high"])
    assert (number.unit, number.how, number.source) == ("share", "run.finding", "measured here")
    assert {check.outcome for check in reproduce(made, lambda _: shipped, fresh=True)} == {"equal"}


@pytest.mark.parametrize(("now", "meeting"), [(-0.10, True), (-0.12, True), (-0.14, False), (0.1, False)])
def test_slack_widens_what_is_negative_too(now: float, meeting: bool) -> None:
    number = Number(
        name="loss", value=-0.1, unit="nats", source="measured here", how="run.finding", of="r"
    )  # fmt: skip
    assert meets(number, Measured(now)) == meeting


def test_a_shipped_run_is_found_too(tmp_path: Path, settings: Settings) -> None:
    path = synthetic.write_bundle(tmp_path / "reference", SPEC, seed=2)
    path.rename(tmp_path / "reference" / "cpu-bench")
    identity = bundle.read(tmp_path / "reference" / "cpu-bench").manifest.run_id
    assert find(identity, settings.runs_dir, tmp_path / "reference").manifest.run_id == identity
    with pytest.raises(ConfigError, match="is no run"):
        find("0" * 16, settings.runs_dir, tmp_path / "reference")


def test_a_repetition_is_judged_by_both_spreads(found: Bundle) -> None:
    made = of_run(found)
    assert {check.outcome for check in reproduce(made, lambda _: found, fresh=True)} == {"equal"}
    far = changed(made, value=1e6, low=9e5, high=2e6)
    assert reproduce(far, lambda _: found, fresh=True)[0].outcome == "different"


@given(st.floats(1e-6, 1e3), st.floats(1.0, 1.5), st.floats(0.01, 100))
def test_two_measurements_meet_if_and_only_if_their_widened_spreads_do(
    value: float, spread: float, ratio: float
) -> None:
    number = Number(
        name="t", value=value, unit="s", source="measured here", how="run.time", of="r",
        low=value / spread, high=value * spread,
    )  # fmt: skip
    now = Measured(value * ratio, value * ratio / spread, value * ratio * spread)
    slack = FACTS["run.time"].slack / 2
    apart = max(ratio, 1 / ratio)
    limit = spread * spread * (1 + slack) / (1 - slack)
    if abs(apart / limit - 1) > 1e-6:
        assert meets(number, now) == (apart < limit)


def test_same_is_exact_for_integers_and_words_and_not_for_the_last_digit() -> None:
    assert same(3, 3)
    assert not same(3, 4)
    assert same("needs 2 GB", "needs 2 GB")
    assert same(0.1 + 0.2, 0.3)
    assert not same(0.3, 0.3001)
    assert not same(0.3, "0.3")
    assert same(None, None)


def test_a_users_own_text_does_not_travel(bundle_dir: Callable[..., Path]) -> None:
    text = "a secret of ours " * 10
    own = bundle.read(bundle_dir(SPEC.model_copy(update={"text": text}), seed=1))
    made = of_run(own).to_json()
    assert "secret" not in made
    assert "sha256:" in made
