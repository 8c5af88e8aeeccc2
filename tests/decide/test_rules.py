"""The data files hold together, and every factor of the documents' table is there."""

from __future__ import annotations

from moe_core import registry
from moe_core.claims.spec import claims
from moe_core.decide import rules
from moe_core.decide.factors import EVIDENCE
from moe_core.decide.scores import RELEVANCE, SCORES

TABLE = ("memory", "throughput", "task", "scratch", "scale", "finetune")  # the documents' own six
MORE = ("latency", "context", "traffic", "interconnect", "budget", "skill")


def test_every_factor_of_the_documents_and_of_the_brief_is_answered() -> None:
    assert set(rules.factors()) >= {*TABLE, *MORE}
    assert all(rules.factors()[name].documents for name in TABLE)
    assert set(SCORES) == set(EVIDENCE) == set(rules.factors())
    assert set(RELEVANCE) <= set(SCORES)


def test_every_citation_exists_and_is_used() -> None:
    cited = {fact for factor in rules.factors().values() for fact in factor.facts}
    assert cited == set(rules.facts())
    assert all(fact.source and fact.holds for fact in rules.facts().values())
    assert all(factor.facts for factor in rules.factors().values() if factor.basis == "cited")


def test_claims_that_factors_cite_are_in_the_ledger() -> None:
    cited = {name for factor in rules.factors().values() for name in factor.claims}
    assert cited <= set(claims())
    assert len(cited) > 20
    assert all(factor.claims for factor in rules.factors().values() if factor.documents)


def test_presets_name_tasks_and_factors_that_exist() -> None:
    assert set(rules.presets()) == {"chat", "batch", "device", "retrieval", "code", "agentic"}
    for preset in rules.presets().values():
        assert preset.task in rules.tasks()
        assert set(preset.weights) <= set(rules.factors())


def test_published_pairs_are_on_file() -> None:
    for known in rules.known_pairs():
        assert registry.get(known.mixture).kind == "moe"
        assert registry.get(known.dense).kind == "dense"


def test_scores_of_ratios_and_limits() -> None:
    scoring = rules.scoring()
    assert scoring.better(2, 1) == -scoring.better(1, 2)
    assert 0.7 < scoring.better(2, 1) < 0.8
    assert scoring.better(5, 5) == 0
    assert scoring.satisfied(1, 1) == 0.5
    assert scoring.satisfied(2, 1) > 0.9
    assert scoring.satisfied(1e9, 1e-9) == 1.0
    assert scoring.satisfied(1e-9, 1e9) >= 0.0
