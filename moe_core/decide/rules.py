"""Rules: factors, facts, presets, tasks, pairs and scoring, strictly read from `data/decide/*.toml`."""

from __future__ import annotations

import json
import tomllib
from functools import cache as once
from math import log2, tanh
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from moe_core.errors import ConfigError
from moe_core.lookup import find
from moe_core.specs import Spec
from moe_core.units import significant

DATA = Path(__file__).parent.parent.parent / "data" / "decide"
T = TypeVar("T", bound=Spec)
Basis = Literal["computed", "measured", "cited"]
Grade = Literal["P", "S", "C"]
Skill = Literal["none", "some", "expert"]
GRADES: dict[Grade, str] = {
    "P": "primary text read",
    "S": "quoted second-hand",
    "C": "computed",
}
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=10, strict=False)]


class FactorRule(Spec):
    """One question of the framework, what the documents say of it, and the claims that check that."""

    id: str
    title: str
    question: str
    basis: Basis
    weight: Weight
    documents: str
    claims: tuple[str, ...]
    facts: tuple[str, ...]


class Fact(Spec):
    """A published finding with its conditions and what contradicts it."""

    id: str
    says: str
    holds: str
    against: str
    source: str
    grade: Grade


class Preset(Spec):
    """Named work: what a spec that names it may leave out."""

    id: str
    title: str
    says: str
    task: str
    devices: int | None = None
    workload: dict[str, Any]
    weights: dict[str, Weight]


class Task(Spec):
    """What the work lives on: `knowledge` is the share of memorised facts."""

    id: str
    title: str
    knowledge: Share


class PairRule(Spec):
    """By what two models are taken as equals. `settles_quality`: the rule itself says both are as good."""

    id: str
    title: str
    says: str
    caveat: str
    settles_quality: bool


class KnownPair(Spec):
    """A mixture and a dense model that their makers set side by side."""

    mixture: str
    dense: str
    source: str
    grade: Grade


class Knob(Spec):
    """One input that what-ifs turn: its range, whether it is a whole number, the tornado's factor."""

    id: str
    title: str
    phrase: Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")]
    unit: str
    low: float
    high: float
    whole: bool
    around: Annotated[float, Field(gt=1)]

    def words(self, value: float) -> str:
        """A value as people say it: `batch 43`, `96.0 GB a device`."""
        return self.phrase.format(f"{value:,.0f}" if self.whole else significant(value))


class Scoring(Spec):
    """How numbers become scores."""

    ratio: float
    enough: float
    crowded: Share
    missed: float
    memorise: Share
    reason: Share
    saves: Share
    risk: Share
    drift: Share
    states: Share
    skill: dict[Skill, Share]
    knob: tuple[Knob, ...]

    def better(self, first: float, second: float) -> float:
        """Score of `first` over `second` where more is better: 0 when equal, 0.76 at twice, antisymmetric."""
        return tanh(self.ratio * log2(first / second))

    def satisfied(self, limit: float, need: float) -> float:
        """How far a need stays inside a limit, 0 to 1; a half exactly at the limit."""
        x = (limit / need) ** self.enough
        return x / (1 + x) if x < 1e12 else 1.0


class _Factors(Spec):
    factor: tuple[FactorRule, ...]


class _Facts(Spec):
    fact: tuple[Fact, ...]


class _Presets(Spec):
    preset: tuple[Preset, ...]
    task: tuple[Task, ...]


class _Pairs(Spec):
    rule: tuple[PairRule, ...]
    pair: tuple[KnownPair, ...]


@once
def factors() -> dict[str, FactorRule]:
    """Every factor by id, in the order they are shown."""
    return {one.id: one for one in _read("factors", _Factors).factor}


@once
def facts() -> dict[str, Fact]:
    return {one.id: one for one in _read("facts", _Facts).fact}


@once
def presets() -> dict[str, Preset]:
    return {one.id: one for one in _read("presets", _Presets).preset}


@once
def tasks() -> dict[str, Task]:
    return {one.id: one for one in _read("presets", _Presets).task}


@once
def pair_rules() -> dict[str, PairRule]:
    return {one.id: one for one in _read("pairs", _Pairs).rule}


@once
def known_pairs() -> tuple[KnownPair, ...]:
    return _read("pairs", _Pairs).pair


@once
def scoring() -> Scoring:
    return _read("scoring", Scoring)


@once
def knobs() -> dict[str, Knob]:
    return {one.id: one for one in scoring().knob}


@once
def preset(name: str) -> Preset:
    """The preset of that id or title. Raises ConfigError with close matches."""
    table = presets()
    return find("preset", name, table, ((one.title, one) for one in table.values()))


def weights(name: str) -> dict[str, float]:
    """Every factor's weight under a preset."""
    return {one.id: one.weight for one in factors().values()} | preset(name).weights


@once
def task(name: str) -> Task:
    """The task of that id or title. Raises ConfigError with close matches."""
    table = tasks()
    return find("task", name, table, ((one.title, one) for one in table.values()))


def check_weights(weights: dict[str, float]) -> None:
    """Raises ConfigError for a weight of a factor that does not exist."""
    for name in weights:
        if name not in factors():
            raise ConfigError(f"weights.{name[:40]}: must be one of {', '.join(factors())}")


def _read(name: str, kind: type[T]) -> T:
    """A file of facts is written for people: its lists become tuples through JSON."""
    values = tomllib.loads((DATA / f"{name}.toml").read_text(encoding="utf-8"))
    return kind.parse_json(json.dumps(values))
