"""Served models: what we claim about them is computed here from what ships, and can fail."""

from __future__ import annotations

import pytest

from moe_core.silicon import constants, serving
from moe_core.silicon.workshop import samples
from moe_core.silicon.workshop import served as workshop
from moe_core.silicon.workshop.served import score

MOST_TPOT, LEAST_RANK = 0.20, 0.90


@pytest.fixture(scope="module")
def fresh(served):
    """Predictions made now, not those that ship."""
    return [workshop.row(one) for one in workshop.outcomes(served[0])]


@pytest.fixture(scope="module")
def findings(fresh):
    return workshop.report(fresh)


def test_every_row_is_used_or_left_out_for_a_reason(served):
    cases, left = served
    assert len(cases) + sum(left.values()) == 3619
    assert len(cases) >= 3500
    assert set(left) == {
        "device count of two pools (GB200 racks)",
        "a split that engines refuse (its row cannot say what ran)",
        "does not fit by our count",
    }


def test_a_squared_device_count_is_taken_at_its_root():
    found = {sample.id: sample for sample in samples.aggregated().used}
    ways = {(s.parallel.tensor, s.parallel.expert) for s in found.values() if "tp64_ep8" in s.id}
    assert ways <= {(8, 8), (1, 8)}
    assert max(sample.parallel.devices for sample in found.values()) <= 16


@pytest.mark.slow
def test_time_per_output_token_of_models_left_out(findings):
    for rows in ("all", "all but queued"):
        found = findings["scores"][rows]["tpot_held"]
        assert found["mape"] <= MOST_TPOT
        assert found["spearman"] >= LEAST_RANK


@pytest.mark.slow
def test_dense_and_mixture_are_told_apart_and_neither_hides_the_other(findings):
    for kind in ("dense", "mixture"):
        found = findings["scores"][kind]["tpot_held"]
        assert found["mape"] <= 0.21
        assert found["spearman"] >= LEAST_RANK
        assert found["rows"] > 1000


@pytest.mark.slow
def test_the_error_of_the_first_token_is_known_and_stated(findings):
    """It is no target; a change that makes it much worse is noticed."""
    found = findings["scores"]["all"]["ttft_held"]
    assert found["mape"] <= 0.6
    assert found["spearman"] >= 0.8


@pytest.mark.slow
def test_intervals_hold_what_they_claim_and_failures_are_named(findings):
    assert 0.75 <= findings["coverage"] <= 0.85
    assert len(findings["worst"]) == 20
    assert all(row["id"] for row in findings["worst"])
    assert findings["groups"][0]["tpot_held"]["mape"] > findings["groups"][-1]["tpot_held"]["mape"]


@pytest.mark.slow
def test_what_ships_is_what_the_constants_say_now(served, fresh):
    now = {row.id: row for row in fresh}
    old = workshop.shipped()
    assert {row.id for row in old} == set(now)
    assert workshop.report()["left_out"] == served[1]
    for field in ("tpot", "tpot_predicted", "tpot_held", "ttft_predicted", "ttft_held"):
        far = [abs(getattr(row, field) / getattr(now[row.id], field) - 1) for row in old]
        assert sum(far) / len(far) < 0.01, field


@pytest.mark.slow
def test_shipped_constants_are_those_of_a_new_fit(served):
    cases, _ = served
    for framework, left_out in (("vllm", None), ("sglang", None), ("vllm", "minimax-m2.5")):
        mine = [case for case in cases if case.sample.framework == framework]
        fresh = workshop.fit([case for case in mine if case.sample.name != left_out], framework)
        kept = constants.served(framework)
        if left_out is not None:
            kept = constants.served_without(framework, left_out)
        for formula in (serving.tpot, serving.ttft):
            far = [abs(formula(case.served, fresh) / formula(case.served, kept) - 1) for case in mine]
            assert sum(far) / len(far) < 0.02


@pytest.mark.slow
def test_a_predictor_that_reads_only_top_k_experts_would_fail(monkeypatch):
    """Mutation: the gate above notices when distinct experts are taken for k."""
    from moe_core.silicon import kernels

    def starved(kernel, place, load):
        return bank(kernel._replace(tokens=1), place, load)

    bank = kernels.bank
    monkeypatch.setattr(kernels, "bank", starved)
    monkeypatch.setattr(kernels, "_time", kernels._time.__wrapped__)  # nothing that was kept before
    cases, _ = workshop.cases()
    mixture = [case for case in cases if case.sample.arch.experts is not None]
    guess = [serving.tpot(c.served, constants.served(c.sample.framework)) for c in mixture]
    truth = [c.sample.tpot for c in mixture]
    found = score(guess, truth, [c.sample.configuration for c in mixture])
    assert found.mape > MOST_TPOT or found.spearman < LEAST_RANK


def test_scores_are_what_they_say():
    found = score([1.1, 0.9, 3.0, 2.0], [1.0, 1.0, 2.0, 2.0], ["a", "a", "b", "c"])
    assert found.mape == pytest.approx((0.1 + 0.1 + 0.5 + 0) / 4)
    assert found.bias == pytest.approx(0.125)
    assert found.within_20 == 0.75
    assert found.rows == 4
