"""Manifest: what a reader needs to make an exported number again. It travels inside every file.

Schema 1. `numbers` name a row of `moe_core.report.kinds.KINDS` (`how`), of
`moe_core.report.measured.FACTS` or of `moe_core.report.decided.DECIDED`, and what it is computed of: a
scenario of this manifest, a run or a decision. What has no such row is no number of a manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal, Protocol

from pydantic import Field

from moe_core.provenance import Provenance as Provenance
from moe_core.report.text import clean, line, plain
from moe_core.specs import Spec
from moe_core.version import __version__, code_version, commit

NAME = "moescope-manifest"
PACKAGES = ("numpy", "pandas", "pyarrow", "vl-convert-python")


class Number(Spec):
    """One number. A measured one has the ends of its spread; a legitimate no is its sentence."""

    name: str
    value: int | float | str | None
    unit: str
    source: Provenance
    how: str
    of: str
    arguments: dict[str, str] = Field(default_factory=dict)
    low: float | None = None
    high: float | None = None


class Origin(Spec):
    """Where numbers come from, as a badge and its tooltip say it."""

    kind: Provenance
    detail: str


class Ran(Spec):
    """A run that was read: its question, seed, device and code."""

    run_id: str
    question_id: str
    spec: dict[str, Any]
    seed: int
    device: str
    code_version: str
    date: str
    reference: str | None = None  # name of a shipped run


class Manifest(Spec):
    """Everything about an export that its picture does not show.

    scenarios  name -> resolved scenario (`moe_core.scenario.resolved.Resolved`, as JSON).
    decisions  name -> what was asked (`moe_core.report.decided.Asked`, as JSON).
    machine    what wrote the file; the devices of measured numbers stand with their runs.
    rows       figure -> SHA-256 of its CSV, so that a table that was edited is noticed.
    """

    schema_: Literal[1] = Field(alias="schema")
    what: Literal["figure", "page", "review"]
    title: str
    date: str
    sources: tuple[Origin, ...] = ()
    scenarios: dict[str, dict[str, Any]] = Field(default_factory=dict)
    decisions: dict[str, dict[str, Any]] = Field(default_factory=dict)
    runs: tuple[Ran, ...] = ()
    numbers: tuple[Number, ...] = ()
    rows: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: str = ""
    review: dict[str, Any] | None = None

    def of(self, sources: tuple[Origin, ...]) -> Manifest:
        """The same for a part of the file, which has fewer sources than the whole."""
        return self.model_copy(update={"sources": sources or self.sources})

    def to_json(self) -> str:
        """JSON in pure ASCII, so that it fits into any container. `<` is escaped: HTML may hold it."""
        values = self.model_dump(by_alias=True, mode="json")
        text = json.dumps(values, allow_nan=False, separators=(",", ":"))
        return text.replace("<", "\\u003c").replace("&", "\\u0026")

    @property
    def lines(self) -> tuple[str, ...]:
        """What stands under the title of every exported figure: sources, then version and date."""
        made = f"MoEScope {self.versions.get('moescope', '')} ({self.versions.get('commit', 'no commit')})"
        return (*(f"{item.kind}: {item.detail}" for item in self.sources), f"{made}, {self.date}")


def make(
    what: Literal["figure", "page", "review"],
    title: str,
    *,
    sources: Iterable[Origin] = (),
    scenarios: dict[str, dict[str, Any]] | None = None,
    decisions: dict[str, dict[str, Any]] | None = None,
    runs: Iterable[Ran] = (),
    numbers: Iterable[Number] = (),
    rows: dict[str, str] | None = None,
    review: dict[str, Any] | None = None,
) -> Manifest:
    """A manifest of now, by this code on this machine."""
    return Manifest(
        schema=1,
        what=what,
        title=line(plain(title)),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        sources=tuple(Origin(kind=item.kind, detail=clean(plain(item.detail))) for item in sources),
        scenarios=_plain(scenarios or {}),
        decisions=_plain(decisions or {}),
        runs=tuple(runs),
        numbers=tuple(numbers),
        rows=rows or {},
        versions=versions(),
        machine=f"{platform.machine()}, {platform.platform(terse=True)}",
        review=_plain(review) if review is not None else None,
    )


def versions() -> dict[str, str]:
    """This program and what draws its charts."""
    own = {"moescope": __version__, "code": code_version(), "commit": commit() or "no commit"}
    return own | {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def number(value: float | None) -> int | float | None:
    """A value JSON can hold."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int) else float(value)


class Answered(Protocol):
    """What the store and a bundle both know of a run."""

    @property
    def run_id(self) -> str: ...
    @property
    def question_id(self) -> str: ...
    @property
    def created(self) -> datetime: ...
    @property
    def spec(self) -> dict[str, Any]: ...
    @property
    def provenance(self) -> dict[str, Any]: ...


def ran(found: Answered, reference: str | None = None) -> Ran:
    """The entry of one run. A user's own text stays behind: only its SHA-256 goes along."""
    facts, text = found.provenance, found.spec.get("text")
    own = {"text": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"} if text else {}
    return Ran(
        run_id=found.run_id,
        question_id=found.question_id,
        spec={**found.spec, **own},
        seed=int(found.spec.get("seed", 0)),
        device=str(facts.get("device", "")),
        code_version=str(facts.get("code_version", "")),
        date=found.created.isoformat(),
        reference=reference,
    )


def _plain(value: Any) -> Any:
    """Values as they come out of JSON, text cleaned."""
    if isinstance(value, dict):
        return {clean(str(key)): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, str):
        return clean(value, 200_000)
    return None if isinstance(value, float) and not math.isfinite(value) else value
