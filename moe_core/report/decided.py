"""Decided: a decision as it is kept. What was asked, resolved, and everything the verdict said.

A review and a manifest hold it; from `Asked` alone the verdict, its margin and its flips are made again.
Margins and scores are from the mixture's side. One row of `DECIDED` a kind of number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from moe_core.decide.case import Recorded
from moe_core.decide.counter import Counter, counters
from moe_core.decide.flips import Flip, flips
from moe_core.decide.headline import answer, headline
from moe_core.decide.pair import Kind
from moe_core.decide.spec import DecideSpec
from moe_core.decide.verdict import Verdict, decide
from moe_core.errors import ConfigError
from moe_core.provenance import Provenance
from moe_core.report.manifest import Number
from moe_core.specs import Spec

Value = int | float | str | None
NEITHER = "neither will do"
Every = Iterator[tuple[dict[str, str], Value]]


class RecordedLoad(Spec):
    """What a run of the test model told: see `moe_core.decide.case.Recorded`.

    Older files also hold its quality, which says nothing of the models that are judged.
    """

    load: tuple[float, ...] | None
    source: str
    here: bool
    bits_dense: float | None = None
    bits_mixture: float | None = None
    carved: bool | None = None


class Asked(Spec):
    """The question. Architectures, pair rule and weights stand in `spec`; the device is a name."""

    spec: DecideSpec
    heard: RecordedLoad | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Asked:
        """From the JSON of a manifest. Raises ConfigError."""
        return cls.parse_json(json.dumps(values))

    @property
    def recorded(self) -> Recorded | None:
        heard = self.heard
        return None if heard is None else Recorded(heard.load, heard.source, heard.here)


class Factor(Spec):
    """One factor as it was weighed."""

    id: str
    title: str
    winner: Kind | None
    weight: float
    score: float
    pull: float
    evidence: str
    provenance: Provenance
    detail: str


class Turn(Spec):
    """One flip: the answer under `low` and over `high`, which lie next to each other."""

    knob: str
    title: str
    unit: str
    at: float
    low: float
    high: float
    below: Kind | None
    above: Kind | None
    now: float
    sentence: str


class Argument(Spec):
    """What speaks against the verdict, and the margin where it is strongest."""

    title: str
    sentence: str
    margin: float


class Decided(Spec):
    """A verdict in words and numbers. `against`: the strongest first. `turns`: the nearest first."""

    sentence: str
    asked: Asked
    winner: Kind | None
    name: str | None
    pair: str
    source: str
    margin: float
    low: float
    high: float
    firm: bool
    reason: str
    factors: tuple[Factor, ...]
    turns: tuple[Turn, ...]
    against: tuple[Argument, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Decided:
        """From the JSON of a review. Raises ConfigError."""
        return cls.parse_json(json.dumps(values))

    @property
    def answer(self) -> str:
        """`mixture`, `dense`, `too close to call` or `neither will do`."""
        return answer(self.winner, self.firm)

    @property
    def weighed(self) -> tuple[Factor, ...]:
        """The factors that are in play, the loudest first."""
        return tuple(sorted((one for one in self.factors if one.weight), key=lambda one: -abs(one.pull)))


def keep(found: Verdict, turns: Sequence[Flip] | None = None) -> Decided:
    """A verdict as it is kept; `turns` where every flip is known already."""
    every, against = flips(found) if turns is None else turns, counters(found)
    return Decided(
        sentence=headline(found, every),
        asked=_asked(found),
        winner=found.winner,
        name=found.name,
        pair=found.pair.sentence,
        source=found.pair.source,
        margin=found.margin,
        low=found.low,
        high=found.high,
        firm=found.firm,
        reason=found.reason,
        factors=tuple(
            Factor(**{name: getattr(one, name) for name in Factor.model_fields}) for one in found.factors
        ),
        turns=tuple(_turn(one) for one in every),
        against=tuple(Argument(**Counter._asdict(one)) for one in against),
    )


def again(values: Mapping[str, Any]) -> Decided:
    """What was asked, decided anew. Raises ConfigError, or InfeasibleError with both sides' numbers."""
    asked = Asked.of(values)
    return keep(decide(asked.spec, asked.recorded))


def read(verdict: Mapping[str, Any] | None) -> Decided | None:
    """The decision in a review; None where it has another verdict or none."""
    try:
        return None if verdict is None else Decided.of(verdict)
    except ConfigError:
        return None


def _asked(found: Verdict) -> Asked:
    """With nothing left to look up by name but the device."""
    pair, heard = found.pair, found.case.recorded
    whole = {
        "mixture": pair.of("mixture").architecture,
        "dense": pair.of("dense").architecture,
        "rule": pair.rule.id,
        "precision": found.spec.asked or found.spec.precision,
        "weights": found.spec.importance,
    }
    spec = found.spec.model_copy(update=whole)
    return Asked(spec=spec, heard=None if heard is None else RecordedLoad(**heard._asdict()))


def _turn(flip: Flip) -> Turn:
    same = {name: getattr(flip, name) for name in ("at", "low", "high", "below", "above", "now", "sentence")}
    return Turn(knob=flip.knob.id, title=flip.knob.title, unit=flip.knob.unit, **same)


# -- the numbers of a manifest ---------------------------------------------------------------------


class Row(NamedTuple):
    """One kind of number: its title and unit, all there are in a decision, and how far a root may be off."""

    title: str
    unit: str
    every: Callable[[Decided], Every]
    slack: float = 1e-9  # relative: a sum taken in another order


def _one(of: Callable[[Decided], Value]) -> Callable[[Decided], Every]:
    return lambda found: iter([({}, of(found))])


def _factors(of: Callable[[Factor], Value]) -> Callable[[Decided], Every]:
    return lambda found: (({"factor": one.id}, of(one)) for one in found.factors)


def _turns(of: Callable[[Turn], Value]) -> Callable[[Decided], Every]:
    """Flips are told apart by their knob and their place on it, from below."""

    def every(found: Decided) -> Every:
        seen: dict[str, int] = {}
        for one in sorted(found.turns, key=lambda turn: turn.low):
            seen[one.knob] = seen.get(one.knob, 0) + 1
            yield {"knob": one.knob, "place": str(seen[one.knob])}, of(one)

    return every


DECIDED: dict[str, Row] = {
    "decide.winner": Row("Verdict", "", _one(lambda found: found.winner)),
    "decide.margin": Row("Margin", "of the mixture", _one(lambda found: found.margin)),
    "decide.margin.low": Row("Margin, low end", "of the mixture", _one(lambda found: found.low)),
    "decide.margin.high": Row("Margin, high end", "of the mixture", _one(lambda found: found.high)),
    "decide.score": Row("Score", "of the mixture", _factors(lambda one: one.score)),
    "decide.weight": Row("Weight", "", _factors(lambda one: one.weight)),
    "decide.pull": Row("Share of the margin", "of the mixture", _factors(lambda one: one.pull)),
    "decide.flips": Row("Flips", "flips", _one(lambda found: len(found.turns))),
    "decide.flip": Row("Flip", "", _turns(lambda one: one.at), 1e-6),  # of a root: moe_core.decide.flips
    "decide.beyond": Row(
        "Answers around it", "", _turns(lambda one: f"{one.below or NEITHER} to {one.above or NEITHER}")
    ),
    "decide.against": Row("Strongest counter-argument", "", _one(lambda found: found.against[0].title)),
}


def number_of(how: str, found: Decided, arguments: Mapping[str, str]) -> Value:
    """One number of a decision; None where it has none such, as a flip that is no more."""
    return next((value for named, value in DECIDED[how].every(found) if named == dict(arguments)), None)


def of_decided(name: str, found: Decided) -> list[Number]:
    """Every number of one decision, as `name` in its manifest; a factor's have its provenance."""
    known = {one.id: one.provenance for one in found.factors}
    return [
        Number(
            name=" ".join((row.title, *arguments.values())),
            value=value,
            unit=row.unit,
            source=known.get(arguments.get("factor", ""), "modelled"),
            how=how,
            of=name,
            arguments=arguments,
        )
        for how, row in DECIDED.items()
        for arguments, value in row.every(found)
    ]
