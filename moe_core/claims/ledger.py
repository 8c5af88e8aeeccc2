"""Ledger: every claim held against what can be computed, was run, or was published. Made anew each time.

`ledger(findings)` takes what experiments found and gives the claims settled by it: number claimed, number
found, how, verdict, condition, source, and where a reader can make the number again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from moe_core import registry
from moe_core.claims import formulas, spec, words
from moe_core.claims.findings import Findings, RunFinding
from moe_core.claims.spec import (
    ByFormula,
    ByPublication,
    ByRun,
    Claim,
    Correction,
    Evidence,
    Ledger,
    Statement,
)
from moe_core.claims.subjects import Computed
from moe_core.claims.verdict import OUTCOMES, Compared, Outcome, agrees, verdict
from moe_core.errors import ConfigError
from moe_core.provenance import Provenance, Source

COMMAND = "python -m moe_core"
HOWS = {"formula": "computed now", "run": "an experiment", "published": "a published number"}
_NUMBER = re.compile(r"\{([AB]\d+)\.(\d+)\}")


class Pointer(NamedTuple):
    """Where a reader makes a number again: a page with its parameters, a command, or the text to read."""

    page: str = ""
    query: Mapping[str, str] = {}
    command: str = ""
    text: str = ""


class Exhibit(NamedTuple):
    """One piece of evidence. computed: None where there is no number, and `missing` says why."""

    evidence: Evidence
    statement: Statement | None
    computed: Computed | None
    unit: str
    agrees: bool | None
    source: Source
    link: Pointer
    missing: str = ""

    @property
    def number(self) -> str:
        """The number in words, or what is missing."""
        return self.missing if self.computed is None else words.found(self.computed, self.unit)

    @property
    def compared(self) -> Compared:
        return Compared(self.evidence.role, self.computed is not None, self.agrees)


class Settled(NamedTuple):
    """A claim with its evidence. The outcome is computed of both when it is asked for."""

    claim: Claim
    evidence: tuple[Exhibit, ...]

    @property
    def outcome(self) -> Outcome:
        return verdict(self.claim.testable, self.claim.condition, [one.compared for one in self.evidence])

    @property
    def main(self) -> Exhibit | None:
        """The piece that speaks for the row: the first that decides the outcome, else the first tested."""
        tests = [one for one in self.evidence if one.evidence.role == "test"]
        wanted = {"does not hold": False, "undecided": None}.get(self.outcome, True)
        known = [one for one in tests if one.computed is not None]
        return next((one for one in known if one.agrees is wanted), next(iter(known or tests), None))

    @property
    def claimed(self) -> str:
        """The number claimed and its tolerance."""
        stated = None if self.main is None else self.main.statement
        parts = () if stated is None else (words.claimed(stated), words.tolerance(stated))
        return ", ".join(part for part in parts if part)

    @property
    def found(self) -> str:
        """The number found, or why there is none."""
        return self.claim.reason if self.main is None else self.main.number

    @property
    def how(self) -> tuple[str, ...]:
        """The kinds of evidence that were asked for."""
        return tuple(dict.fromkeys(HOWS[one.evidence.by] for one in self.evidence))

    @property
    def sentence(self) -> str:
        """`A91 holds under its condition (where ...): H100 that it needs; found 2, claimed at least 2`."""
        said = f"{self.claim.id} {self.outcome}"
        if self.main is None or self.main.computed is None:
            return f"{said}: {self.found}"
        under = f" ({self.claim.condition})" if self.outcome == "holds under its condition" else ""
        return f"{said}{under}: {self.main.evidence.measures}; found {self.found}, claimed {self.claimed}"


def ledger(findings: Findings, of: Ledger | None = None) -> tuple[Settled, ...]:
    """Every claim settled, in the order of the file. `of`: another ledger than the one that ships."""
    return tuple(settle(claim, findings) for claim in (of or spec.ledger()).claim)


def settle(claim: Claim, findings: Findings) -> Settled:
    """One claim held against its evidence. Raises ConfigError naming the claim."""
    try:
        return Settled(claim, tuple(_found(claim, one, findings) for one in claim.how))
    except ConfigError as error:
        raise ConfigError(f"claim {claim.id}: {error}") from error


def by_id(settled: Sequence[Settled], name: str) -> Settled:
    """One row. Raises ConfigError for a row that there is not."""
    wanted = name.strip().upper()
    for one in settled:
        if one.claim.id == wanted:
            return one
    last = {mark: sum(one.claim.document == mark for one in settled) for mark in ("A", "B")}
    raise ConfigError(f"claim ({name[:40]}): must be one of A1 to A{last['A']}, B1 to B{last['B']}")


def corrected(correction: Correction, settled: Sequence[Settled]) -> str:
    """What is right, with the numbers that were found. Raises ConfigError for a number that there is not."""
    rows = {one.claim.id: one for one in settled}

    def number(match: re.Match[str]) -> str:
        row, place = rows.get(match[1]), int(match[2])
        if row is None or place >= len(row.evidence):
            raise ConfigError(f"correction {correction.number}: there is no number {match[0]}")
        one = row.evidence[place]
        return "no run yet" if one.computed is None else one.number

    return _NUMBER.sub(number, correction.says)


def counts(settled: Sequence[Settled]) -> dict[Outcome, int]:
    """Claims by outcome, every outcome named."""
    return {outcome: sum(one.outcome == outcome for one in settled) for outcome in OUTCOMES}


# -- evidence --------------------------------------------------------------------------------------


def _found(claim: Claim, one: Evidence, findings: Findings) -> Exhibit:
    statement = None if one.role == "beside" and one.statement is None else one.statement or claim.statement
    unit = "" if (stated := one.statement or claim.statement) is None else stated.unit
    if isinstance(one, ByFormula):
        computed = formulas.compute(one.formula, one.using)
        return Exhibit(one, statement, computed, unit, _agrees(statement, computed), *_formula(claim, one))
    if isinstance(one, ByPublication):
        return _published(one, statement, unit)
    return _run(one, statement, unit, findings.get(one.lab, {}))


def _agrees(statement: Statement | None, computed: Computed) -> bool | None:
    return None if statement is None else agrees(statement, computed)


def _formula(claim: Claim, one: ByFormula) -> tuple[Source, Pointer]:
    formula = formulas.FORMULAS[one.formula]
    values = ", ".join(f"{name} {value}" for name, value in one.using.items())
    source = Source(
        formula.kind, f"{one.formula} ({values}), computed now by {formula.home}. {one.note}".strip()
    )
    if formula.command:
        quoted = {name: shlex.quote(str(value)) for name, value in one.using.items()}
        command = f"{COMMAND} {formula.command.format(**quoted)}"
    else:
        command = f"{COMMAND} claims {claim.id}"
    return source, _page(formula, one.using)._replace(command=command)


def _page(formula: formulas.Formula, using: Mapping[str, Any]) -> Pointer:
    """The page that shows the number; a dense model is no scenario's mixture, so it is looked up instead."""
    page, query = formula.page, formula.query
    if "architecture" in query and registry.get(str(using.get("model"))).kind == "dense":
        page, query = "architectures", {"subject": "model"}
    return Pointer(page, {name: str(using[value]) for name, value in query.items() if value in using})


def _published(one: ByPublication, statement: Statement | None, unit: str) -> Exhibit:
    value = one.value if one.over is None else one.value / one.over
    value = value if one.minus is None else value - one.minus
    source = Source("published", f"{one.source} ({spec.GRADES[one.grade]}). {one.note}".strip())
    link = Pointer(text=one.source)
    computed = Computed(value)
    return Exhibit(one, statement, computed, unit, _agrees(statement, computed), source, link)


def _run(one: ByRun, statement: Statement | None, unit: str, known: Mapping[str, RunFinding]) -> Exhibit:
    names = [name for name in (one.finding, one.over, one.minus) if name is not None]
    link = Pointer("experiments", {"lab": one.lab}, f"{COMMAND} lab run {one.lab}")
    missing = [name for name in names if name not in known]
    said = f"no run of {one.lab} has found {', '.join(missing)}" if missing else ""
    if one.over is not None and not missing and known[one.over].value == 0:
        said = f"{one.over} of {one.lab} is zero, so nothing can be divided by it"
    if said:
        return Exhibit(one, statement, None, unit, None, Source("measured here", said), link, said)
    found = [known[name] for name in names]
    computed, seeds = _combined(one, found), min(each.seeds for each in found)
    enough = seeds == 0 or seeds >= one.seeds  # 0: nothing in it is left to chance
    runs = ", ".join(dict.fromkeys(each.run_id for each in found))
    kind: Provenance = "measured here" if all(each.here for each in found) else "measured elsewhere"
    few = "" if enough else f"; fewer than {one.seeds} settle nothing"
    detail = f"{one.lab}, {', '.join(names)}: run {runs}, {found[0].where}, seeds: {seeds}{few}. {one.note}"
    agreed = _agrees(statement, computed) if enough else None
    return Exhibit(
        one, statement, computed, unit, agreed, Source(kind, detail.strip(), found[0].run_id), link
    )


def _combined(one: ByRun, found: list[RunFinding]) -> Computed:
    """The finding, over or less the other; of two intervals the widest that they allow."""
    first = found[0]
    if len(found) == 1:
        return Computed(first.value, first.low, first.high)
    other = found[1]
    ends = [(a, b) for a in (first.low, first.high) for b in (other.low, other.high)]
    pairs = [(a, b) for a, b in ends if a is not None and b is not None]
    if one.over is not None:
        pairs = [] if any(b <= 0 for _, b in pairs) else pairs
        value, results = first.value / other.value, [a / b for a, b in pairs]
    else:
        value, results = first.value - other.value, [a - b for a, b in pairs]
    return Computed(value, min(results), max(results)) if len(results) == 4 else Computed(value)
