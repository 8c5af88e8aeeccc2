"""Spec: what is claimed, in our own words, and by what it is settled. `data/claims.toml`, strictly read.

A record holds no verdict and no number found: both are made from it in `ledger`.
"""

from __future__ import annotations

import json
import tomllib
from functools import cache as once
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from moe_core.claims import formulas
from moe_core.errors import ConfigError, short
from moe_core.specs import Experiment, Spec

DATA = Path(__file__).parent.parent.parent / "data" / "claims.toml"
Says = Literal["equals", "at most", "at least", "between", "zero"]
Role = Literal["test", "beyond", "beside"]
Grade = Literal["P", "S"]
Document = Literal["A", "B"]
Topic = Literal[
    "parameters",
    "compute",
    "memory",
    "speed",
    "communication",
    "routing",
    "balance",
    "quality",
    "training",
    "conversion",
    "fine-tuning",
    "choice",
]
Type = Literal["arithmetic", "architecture", "behaviour", "systems", "literature", "opinion"]
GRADES: dict[Grade, str] = {
    "P": "primary text read",
    "S": "quoted second-hand",
}
Text = Annotated[str, Field(min_length=1, max_length=600)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]


class Statement(Spec):
    """A number and how it is meant. within: a share of it; margin: in its unit; neither: exact."""

    says: Says
    number: float | None = None
    to: float | None = None  # the upper end of `between`
    unit: str = ""
    within: Share = 0.0
    margin: Amount = 0.0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.says == "zero") != (self.number is None):
            raise ValueError(f"number ({self.number}) must be given unless says ({self.says}) is zero")
        if (self.says == "between") != (self.to is not None):
            raise ValueError(f"to ({self.to}) must be given if, and only if, says ({self.says}) is between")
        if self.to is not None and self.number is not None and self.to < self.number:
            raise ValueError(f"to ({self.to}) must be at least number ({self.number})")
        return self


class _Piece(Spec):
    """Of every piece of evidence: what its number is, in words, and how it bears on the claim.

    role: `test` is judged; `beyond` is judged where the condition is not met; `beside` is only shown.
    statement: in place of the claim's own. note: a caveat.
    """

    measures: Text
    role: Role = "test"
    statement: Statement | None = None
    note: str = ""


class ByFormula(_Piece):
    """A number that `formulas` computes now."""

    by: Literal["formula"]
    formula: str
    using: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            formulas.check(self.formula, self.using)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self


class ByRun(_Piece):
    """A finding of an experiment, over another or less another of the same. seeds: fewer settle nothing."""

    by: Literal["run"]
    lab: Experiment
    finding: Annotated[str, Field(pattern=r"^[\w.]+$")]
    over: Annotated[str, Field(pattern=r"^[\w.]+$")] | None = None
    minus: Annotated[str, Field(pattern=r"^[\w.]+$")] | None = None
    seeds: Annotated[int, Field(ge=1, le=100)] = 2


class ByPublication(_Piece):
    """A number that somebody published and that was read, over another or less another of the same source."""

    by: Literal["published"]
    value: float
    over: float | None = None
    minus: float | None = None
    source: Text
    grade: Grade


Evidence = Annotated[ByFormula | ByRun | ByPublication, Field(discriminator="by")]


class Claim(Spec):
    """One row of the audit. `how` is empty where nothing settles it; `reason` then says why."""

    id: Annotated[str, Field(pattern=r"^[AB][1-9]\d*$")]
    claim: Text
    topic: Topic
    type: Type
    condition: str = ""
    correction: Annotated[int, Field(ge=1)] | None = None
    statement: Statement | None = None
    how: tuple[Evidence, ...] = ()
    reason: str = ""

    @model_validator(mode="after")
    def _settled(self) -> Self:
        if bool(self.how) == bool(self.reason):
            raise ValueError(f"reason must be given if, and only if, how is empty ({len(self.how)} pieces)")
        bare = [one.measures for one in self.how if one.role != "beside" and one.statement is None]
        if bare and self.statement is None:
            raise ValueError(f"statement must be given: {bare[0]} is held against it")
        if self.how and not any(one.role == "test" for one in self.how):
            raise ValueError("how must hold a piece whose role is test")
        return self

    @property
    def document(self) -> Document:
        return "A" if self.id.startswith("A") else "B"

    @property
    def testable(self) -> bool:
        return bool(self.how)


class Correction(Spec):
    """What is right where documents are wrong; `{A41.0}` stands for the first number found for A41."""

    number: Annotated[int, Field(ge=1)]
    title: Text
    says: Text


class Ledger(Spec):
    """The whole file."""

    document: dict[Document, Text]
    correction: tuple[Correction, ...]
    claim: tuple[Claim, ...]

    @model_validator(mode="after")
    def _together(self) -> Self:
        names = [one.id for one in self.claim]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"claim ({', '.join(twice)}) must stand once")
        known = [one.number for one in self.correction]
        used = {one.correction for one in self.claim if one.correction is not None}
        if sorted(known) != sorted(used):
            raise ValueError(
                f"correction ({known}) must be those that claims are flagged with ({sorted(used)})"
            )
        return self


def read(text: str | bytes) -> Ledger:
    """The ledger of a TOML file. Raises ConfigError naming the row."""
    try:
        values = tomllib.loads(text if isinstance(text, str) else text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"claims: must be TOML ({error})") from error
    for place, row in enumerate(values.get("claim", ()), 1):
        name = row.get("id", f"row {place}") if isinstance(row, dict) else f"row {place}"
        try:
            Claim.parse_json(json.dumps(row))
        except ConfigError as error:
            raise ConfigError(f"claim {short(name)}: {error}") from error
    return Ledger.parse_json(json.dumps(values))


@once
def ledger() -> Ledger:
    """What ships."""
    return read(DATA.read_bytes())


def claims() -> dict[str, Claim]:
    """Every claim by id, in the order of the file."""
    return {one.id: one for one in ledger().claim}
