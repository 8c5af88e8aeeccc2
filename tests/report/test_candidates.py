"""A review with a verdict shows both models that it is between."""

from __future__ import annotations

from moe_core.report.candidates import completed
from tests.report.examples import case
from tests.report.reviewed import verdict


def test_the_rival_is_asked_the_same() -> None:
    own = case("Qwen3-30B-A3B", batch=32, context=2048, hardware="H100")
    found = completed({"Ours": own}, verdict())
    assert list(found) == ["Ours", "Qwen3-14B on H100, batch 32"]
    rival = found["Qwen3-14B on H100, batch 32"]
    assert rival.architecture is not None
    assert rival.architecture.name == rival.record == "Qwen3-14B"
    same = ("hardware", "capacity", "batch", "context", "precision", "kv", "price")
    assert all(getattr(rival, name) == getattr(own, name) for name in same)


def test_nothing_is_added_where_both_are_there() -> None:
    cases = {"A": case("Qwen3-30B-A3B"), "B": case("Qwen3-14B")}
    assert completed(cases, verdict()) == cases


def test_without_either_both_are_what_the_decision_was_asked() -> None:
    found = completed({}, verdict())
    work = verdict().asked.spec.workload
    assert [one.record for one in found.values()] == ["Qwen3-30B-A3B", "Qwen3-14B"]
    assert {(one.batch, one.context) for one in found.values()} == {(work.batch, work.context)}


def test_a_name_that_is_taken_gets_a_number() -> None:
    cases = {"Qwen3-14B on H100, batch 8": case("Qwen3-30B-A3B")}
    assert list(completed(cases, verdict()))[1] == "Qwen3-14B on H100, batch 8 (2)"
