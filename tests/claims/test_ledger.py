"""The ledger: every row settles; a deleted run and a changed input change the verdict, for none is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_core import registry
from moe_core.claims import export, spec
from moe_core.claims.findings import RunFinding
from moe_core.claims.ledger import Settled, by_id, corrected, counts, ledger, settle
from moe_core.claims.spec import ByRun
from moe_core.errors import ConfigError
from moe_core.runs import bundle
from moe_core.runs.findings import findings
from tests import synthetic
from tests.claims.found import finding, of, summary
from tests.claims.found import spec as question


@pytest.fixture(scope="module")
def bare() -> tuple[Settled, ...]:
    """The ledger without any run."""
    return ledger({})


def test_every_row_settles(bare: tuple[Settled, ...]) -> None:
    assert len(bare) == 165
    number = counts(bare)
    assert sum(number.values()) == 165
    assert number["holds"] + number["holds under its condition"] + number["does not hold"] > 100
    for one in bare:
        assert one.found
        assert one.sentence.startswith(one.claim.id)
        assert not one.claim.testable or one.claimed


def test_numbers_of_the_audit(bare: tuple[Settled, ...]) -> None:
    rows = {one.claim.id: one for one in bare}
    exact = {"A41": 409_663_695_276_000, "A24": 46_702_792_704, "A42": 28, "A14": 2, "B43": 93_405_585_408}
    for name, value in exact.items():
        main = rows[name].main
        assert main is not None
        assert main.computed is not None
        assert main.computed.value == value, name
    wrong = {"A9", "A14", "A31", "A32", "A37", "A41", "A46", "A60", "A62", "A63", "A68", "A95", "A98"}
    wrong |= {"B24", "B27", "B34", "B35", "B40", "B43", "B44", "B48", "B49"}
    assert {name for name, one in rows.items() if one.outcome == "does not hold"} == wrong
    right = {"A3", "A10", "A13", "A20", "A24", "A25", "A26", "A27", "A34", "A35", "A36", "A42", "B2", "B12"}
    assert all(rows[name].outcome == "holds" for name in right)
    bound = {"A1", "A5", "A15", "A48", "A58", "A59", "A75", "A76", "A103", "A104", "B5", "B26", "B30"}
    assert all(rows[name].outcome == "holds under its condition" for name in bound)


def test_without_runs_exactly_those_wait_that_rest_on_runs(bare: tuple[Settled, ...]) -> None:
    waiting = {one.claim.id for one in bare if one.outcome == "no evidence"}
    resting = {
        one.claim.id
        for one in bare
        if one.claim.testable and all(isinstance(p, ByRun) for p in one.claim.how if p.role == "test")
    }
    assert waiting == resting
    assert len(waiting) > 20


def test_deleting_the_run_that_settles_a_claim_leaves_no_evidence(tmp_path: Path) -> None:
    nothing, claim = tmp_path / "no-reference", spec.claims()["A51"]
    found = {"maxvio_step.none.k1": summary(3.72, 3.2, 4.1), "maxvio_step.none.k2": summary(2.3, 2.0, 2.6)}
    path = synthetic.write_bundle(tmp_path, question("collapse", setting="full"), findings=found)
    before = settle(claim, findings(tmp_path, nothing))
    assert before.outcome == "holds under its condition"
    assert before.main is not None
    assert before.main.source.run == path.name
    assert before.main.source.kind == "measured here"
    assert bundle.remove(tmp_path, path.name)
    after = settle(claim, findings(tmp_path, nothing))
    assert after.outcome == "no evidence"
    assert "no run of collapse" in after.found


def test_a_run_that_finds_otherwise_turns_the_verdict() -> None:
    claim = spec.claims()["A51"]
    assert (
        settle(claim, of("collapse", maxvio_step__none__k1=finding(3.5, 3.1, 3.9))).outcome != "does not hold"
    )
    turned = settle(claim, of("collapse", maxvio_step__none__k1=finding(1.5, 1.1, 1.9)))
    assert turned.outcome == "does not hold"
    across = settle(claim, of("collapse", maxvio_step__none__k1=finding(3.0, 2.1, 3.9)))
    assert across.outcome == "undecided"


def test_a_single_seed_is_no_law_and_what_is_exact_needs_none() -> None:
    claim = spec.claims()["A51"]
    one = settle(claim, of("collapse", maxvio_step__none__k1=finding(5.0, seeds=1)))
    assert one.outcome == "undecided"
    assert "fewer than 2" in one.evidence[0].source.detail
    exact = settle(spec.claims()["A55"], of("bias", bias_gradient=finding(0.0, seeds=0)))
    assert exact.outcome == "holds"


def test_changing_the_input_of_a_formula_flips_its_claim() -> None:
    claim = spec.claims()["A42"]
    assert settle(claim, {}).outcome == "holds"
    other = claim.how[0].model_copy(update={"using": {"experts": 9, "top_k": 2}})
    assert settle(claim.model_copy(update={"how": (other,)}), {}).outcome == "does not hold"


def test_changing_a_fact_that_a_formula_reads_flips_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settle(spec.claims()["A37"], {}).outcome == "does not hold"
    record = registry.get("Qwen3-235B-A22B")
    assert record.routing is not None
    shared = record.model_copy(update={"routing": record.routing.model_copy(update={"shared": 1})})
    monkeypatch.setattr(registry, "get", lambda name: shared)
    assert settle(spec.claims()["A37"], {}).outcome == "holds"


def test_a_claim_of_two_findings_takes_the_widest_interval_that_they_allow() -> None:
    claim = spec.claims()["A96"]
    found = of(
        "fine_tuning", forgetting__all=finding(0.5, 0.4, 0.6), forgetting__dense=finding(0.1, 0.0, 0.2)
    )
    main = settle(claim, found).main
    assert main is not None
    assert main.computed is not None
    assert main.computed == pytest.approx((0.4, 0.2, 0.6))
    half = settle(claim, of("fine_tuning", forgetting__all=finding(0.5)))
    assert half.outcome == "no evidence"
    assert "forgetting.dense" in half.found


def test_nothing_is_divided_by_zero() -> None:
    found = of("bias", dual_violation_last=finding(1.0), dual_violation_first=finding(0.0))
    assert settle(spec.claims()["A56"], found).outcome == "no evidence"


def test_shipped_runs_are_measured_elsewhere() -> None:
    shipped: RunFinding = finding(0.0, seeds=0)._replace(here=False)
    main = settle(spec.claims()["A55"], of("bias", bias_gradient=shipped)).main
    assert main is not None
    assert main.source.kind == "measured elsewhere"


def test_corrections_carry_the_numbers_that_are_found_now(bare: tuple[Settled, ...]) -> None:
    said = {one.number: corrected(one, bare) for one in spec.ledger().correction}
    assert "409,663,695,276,000" in said[1]
    assert "46,702,792,704" in said[12]
    assert "no run yet" in said[10]
    assert not [words for words in said.values() if "{" in words]
    found = of("upcycling", error__shards=finding(1.2, seeds=1), error__copy=finding(1e-7, seeds=1))
    upcycled = corrected(spec.ledger().correction[9], ledger(found))
    assert "1.20" in upcycled


def test_a_correction_that_names_no_number_raises(bare: tuple[Settled, ...]) -> None:
    odd = spec.ledger().correction[0].model_copy(update={"says": "{A41.9}"})
    with pytest.raises(ConfigError, match=r"correction 1: there is no number \{A41\.9\}"):
        corrected(odd, bare)


def test_a_row_is_found_by_its_id(bare: tuple[Settled, ...]) -> None:
    assert by_id(bare, " a41 ").claim.id == "A41"
    with pytest.raises(ConfigError, match="must be one of A1 to A111, B1 to B54"):
        by_id(bare, "C3")


def test_every_piece_says_where_it_is_from_and_how_to_make_it_again(bare: tuple[Settled, ...]) -> None:
    for one in bare:
        for piece in one.evidence:
            assert piece.source.detail
            assert piece.link.command or piece.link.text


def test_exports_hold_what_the_ledger_says(bare: tuple[Settled, ...]) -> None:
    values = export.ledger(bare, bare)
    assert len(values["claims"]) == 165
    assert len(values["corrections"]) == 17
    row = export.row(by_id(bare, "A41"))
    assert row["verdict"] == "does not hold"
    assert row["found"] == "409,663,695,276,000 sets"
    assert row["claimed"] == "4.30 B sets, within 5 %"
