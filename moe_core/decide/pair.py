"""Pair: which mixture against which dense model, and by which rule they are taken as equals."""

from __future__ import annotations

from functools import cache as once
from typing import Literal, NamedTuple

from moe_core import registry
from moe_core.decide import rules
from moe_core.decide.rules import PairRule
from moe_core.decide.spec import DecideSpec
from moe_core.errors import ConfigError
from moe_core.lookup import plain
from moe_core.perf import memory, twins
from moe_core.perf.memory import Model
from moe_core.specs import Architecture
from moe_core.units import count

Kind = Literal["mixture", "dense"]


class Candidate(NamedTuple):
    """One side. `key` stands for the architecture in caches."""

    name: str
    architecture: Architecture
    model: Model
    key: str

    @property
    def kind(self) -> Kind:
        return "dense" if self.architecture.experts is None else "mixture"

    @property
    def longest(self) -> int:
        """Tokens of the longest context that it was made for."""
        return self.architecture.max_positions

    @property
    def total(self) -> int:
        return self.model.parameters.total

    @property
    def active(self) -> int:
        """Parameters a token passes through, the input table left out: what it multiplies."""
        return self.model.parameters.active.excl_input_embedding


class Pair(NamedTuple):
    """Two candidates and the rule; `source` says where the rule finds them equal."""

    first: Candidate
    second: Candidate
    rule: PairRule
    source: str

    def swapped(self) -> Pair:
        return self._replace(first=self.second, second=self.first)

    @property
    def leaning(self) -> int:
        """1 where the first is the mixture, -1 where it is the dense model: the sign of what is cited."""
        return (self.first.kind == "mixture") - (self.second.kind == "mixture")

    def of(self, kind: Kind) -> Candidate:
        """The side of that kind; the first where both are."""
        return self.first if self.first.kind == kind else self.second

    @property
    def sentence(self) -> str:
        """`Mixtral-8x7B (46.7 B, 12.8 B active) against Llama-2-70B (69.0 B), by published benchmarks`."""
        sides = " against ".join(_sized(one) for one in (self.of("mixture"), self.of("dense")))
        return f"{sides}, by {self.rule.title}"


def pair(spec: DecideSpec) -> Pair:
    """The pair of a spec, the mixture first. Raises ConfigError, or InfeasibleError where no twin exists."""
    mixture = candidate(spec.mixture)
    if mixture.kind != "mixture":
        raise ConfigError(f"mixture ({mixture.name[:60]}): is dense; it must have experts")
    name = spec.rule or _rule(mixture, spec.dense)
    rule = rules.pair_rules()[name]
    if spec.dense is not None:
        dense = candidate(spec.dense)
        if dense.kind != "dense":
            raise ConfigError(f"dense ({dense.name[:60]}): is a mixture; it must have no experts")
        return Pair(mixture, dense, rule, _published(mixture, dense) or rule.says)
    if name == "published":
        return _known(mixture, rule)
    twin = twins.twin(mixture.architecture, name)  # type: ignore[arg-type]
    return Pair(mixture, candidate(twin.architecture), rule, rule.says)


def candidate(model: str | Architecture) -> Candidate:
    """A published model by name, or an architecture of one's own."""
    if isinstance(model, str):
        return _registered(registry.get(model).name)
    return Candidate(model.name, model, memory.model(model), model.fingerprint())


@once
def _registered(name: str) -> Candidate:
    found = registry.get(name).architecture
    if found is None:
        raise ConfigError(f"model ({name}): its layers have no closed form here, so no step can be timed")
    return Candidate(name, found, memory.model(found), found.fingerprint())


def _rule(mixture: Candidate, dense: str | Architecture | None) -> str:
    """The rule nobody named: the makers' where they published both, else the user's own."""
    if dense is None:
        return "active"
    return "published" if _published(mixture, candidate(dense)) else "own"


def _published(mixture: Candidate, dense: Candidate) -> str | None:
    for known in rules.known_pairs():
        if plain(known.mixture) == plain(mixture.name) and plain(known.dense) == plain(dense.name):
            return f"{known.source} ({rules.GRADES[known.grade]})"
    return None


def _known(mixture: Candidate, rule: PairRule) -> Pair:
    for known in rules.known_pairs():
        if plain(known.mixture) == plain(mixture.name):
            dense = candidate(known.dense)
            return Pair(mixture, dense, rule, f"{known.source} ({rules.GRADES[known.grade]})")
    names = ", ".join(known.mixture for known in rules.known_pairs())
    raise ConfigError(f"rule (published): knows a dense rival of {names} only; name the dense model")


def _sized(one: Candidate) -> str:
    if one.kind == "dense":
        return f"{one.name} ({count(one.total)})"
    return f"{one.name} ({count(one.total)}, {count(one.active)} active)"
