"""Factors: what people see of each question: winner, weight, score, and a sentence with the numbers.

The mixture is named first in every sentence; scores are turned to its side.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache as once
from typing import NamedTuple

from moe_core import registry
from moe_core.decide import rules
from moe_core.decide.case import Case
from moe_core.decide.pair import Kind
from moe_core.decide.rules import Basis, Fact
from moe_core.decide.scores import SCORES, pulls, relevance, states
from moe_core.decide.serving import Serving
from moe_core.provenance import Provenance
from moe_core.units import count, quantity, significant

EVEN = 0.02  # a score nearer to zero has no winner


class Factor(NamedTuple):
    """One factor of a verdict. `score` and `pull` are from the mixture's side: above zero speaks for it.

    pull: its share of the margin. weight: 0 where it is not in play. detail: the conditions of what is
    cited, or the error of what is predicted. claims: ids of data/claims.toml; what became of them is asked
    of `claims.ledger`, with the findings there are by then.
    """

    id: str
    title: str
    question: str
    basis: Basis
    winner: Kind | None
    weight: float
    score: float
    pull: float
    evidence: str
    provenance: Provenance
    detail: str
    documents: str
    claims: tuple[str, ...]
    facts: tuple[Fact, ...]


def factors(case: Case) -> tuple[Factor, ...]:
    """Every factor of a case, in the order of its file."""
    pulled = pulls(case)
    return tuple(_factor(case, name, pulled[name]) for name in rules.factors())


def _factor(case: Case, name: str, pull: float) -> Factor:
    rule, side, playing = rules.factors()[name], case.pair.leaning or 1, relevance(case, name)
    score = side * SCORES[name](case) if playing else 0.0
    winner: Kind | None = None
    if abs(score) >= EVEN:
        winner = "mixture" if score > 0 else "dense"
    provenance, detail = _origin(case, name)
    return Factor(
        *(name, rule.title, rule.question, rule.basis, winner),
        *(case.spec.importance[name] * playing, score, side * pull),
        evidence=EVIDENCE[name](case),
        provenance=provenance,
        detail=detail,
        documents=rule.documents,
        claims=rule.claims,
        facts=tuple(rules.facts()[fact] for fact in rule.facts),
    )


# -- evidence --------------------------------------------------------------------------------------


def _memory(case: Case) -> str:
    held = _two(case, lambda one: quantity(one.need, "B") + _fullest(one))
    return f"{held}; {case.first.device.title} gives {quantity(case.first.usable, 'B')}"


def _fullest(one: Serving) -> str:
    return "" if one.devices == 1 else f" on the fullest of {one.devices}"


def _throughput(case: Case) -> str:
    rates = _two(case, lambda one: f"{significant(one.throughput)} tokens/s")
    rates += " a device, decoding alone"
    target = case.spec.workload.latency_ms
    limit = f"at {_batch(case)}" if target is None else f"within {target:g} ms a token"
    mixture = case.both[0]
    bank, read = mixture.candidate.architecture.experts, mixture.step.distinct
    if bank is None or read is None:
        return f"{rates} {limit}"
    touched = f"{significant(read)} of {bank.count} experts"
    return f"{rates} {limit}; {_at_once(mixture)} a step reads {touched}"


def _at_once(one: Serving) -> str:
    """`at batch 16`; under traffic, the mean of what is in flight."""
    if one.work.traffic is None:
        return f"at batch {one.batch:,.0f}"
    return f"with {significant(one.batch)} sequences in flight"


def _latency(case: Case) -> str:
    work = case.spec.workload
    said = _two(case, lambda one: quantity(one.step.seconds, "s")) + f" a token at {_batch(case)}"
    if work.latency_ms is not None:
        said += f", target {work.latency_ms:g} ms"
    if work.ttft_ms is not None:
        waits = _two(case, lambda one: quantity(one.first.seconds, "s"))
        said += f"; {waits} to the first, target {work.ttft_ms:g} ms"
    return said


def _context(case: Case) -> str:
    rooms = _two(case, lambda one: f"{one.sequences:,}")
    return f"{rooms} sequences of {case.spec.workload.context:,.0f} tokens fit, {_batch(case)} asked"


def _traffic(case: Case) -> str:
    traffic = case.spec.workload.traffic
    if traffic is None:
        return "no traffic was given: the batch is fixed"
    many = _two(case, lambda one: "more than any" if one.fleet is None else f"{one.fleet:,}")
    return f"{many} devices for {traffic:g} requests/s, prompts included, in whole instances"


def _budget(case: Case) -> str:
    if case.first.cost is None or case.second.cost is None:
        return f"no price is known of {case.first.device.title}"
    said = _two(case, lambda one: f"${significant(one.cost or 0)}")
    said += " a million tokens written, prompts included"
    said += f", at ${case.first.device.usd_per_hour:g} a device and hour"
    return said if case.spec.budget is None else f"{said}; the budget is ${case.spec.budget:g}"


def _scale(case: Case) -> str:
    active = _two(case, lambda one: count(one.candidate.active))
    spent = _two(case, lambda one: quantity(one.prompt, "s"))
    return f"{active} active; {spent} of a device to read {case.spec.workload.read:,.0f} tokens"


def _interconnect(case: Case) -> str:
    if max(case.devices) == 1:
        return "one device talks to nobody"
    shares = _two(case, lambda one: f"{significant(100 * one.step.network)} % ({one.words})")
    return f"{shares} of a step is spent between devices"


def _task(case: Case) -> str:
    task, pair = rules.task(case.spec.task), case.pair
    if pair.rule.settles_quality:
        return f"settled: {pair.rule.title} takes both as equally good"
    totals = _two(case, lambda one: count(one.candidate.total))
    actives = _two(case, lambda one: count(one.candidate.active))
    return f"{task.title}, {task.knowledge:.0%} memorised facts: {totals} in total; {actives} active"


def _scratch(case: Case) -> str:
    if not relevance(case, "scratch"):
        return "nobody trains from scratch here"
    costs = _two(case, lambda one: quantity(6 * one.candidate.active, "FLOP"))
    return f"{costs} a training token; against that, instability that a dense model does not have"


def _finetune(case: Case) -> str:
    if not relevance(case, "finetune"):
        return "nobody fine-tunes here"
    held = _two(case, lambda one: quantity(states(one), "B"))
    return f"{held} to update every weight with AdamW; routers drift, a dense model has none"


def _skill(case: Case) -> str:
    if not relevance(case, "skill"):
        return "nobody trains here"
    known = {"none": "never", "some": "now and then", "expert": "often"}[case.spec.team.skill]
    return f"the team has {known} trained a router"


def _two(case: Case, words: Callable[[Serving], str]) -> str:
    """`mixture X, dense Y`."""
    mixture, dense = case.both
    return f"mixture {words(mixture)}, dense {words(dense)}"


def _batch(case: Case) -> str:
    if case.spec.workload.traffic is None:
        return f"batch {case.first.batch:,.0f}"
    return "batch " + " and ".join(f"{one.batch:,.1f}" for one in case.both) + " in flight"


EVIDENCE: dict[str, Callable[[Case], str]] = {
    "memory": _memory,
    "throughput": _throughput,
    "latency": _latency,
    "context": _context,
    "traffic": _traffic,
    "budget": _budget,
    "scale": _scale,
    "interconnect": _interconnect,
    "task": _task,
    "scratch": _scratch,
    "finetune": _finetune,
    "skill": _skill,
}


# -- provenance ------------------------------------------------------------------------------------

_COUNTED = {"memory", "context"}


def _origin(case: Case, name: str) -> tuple[Provenance, str]:
    """Where a factor's numbers come from, and how far they may be off."""
    if name in _COUNTED:
        return (
            "modelled",
            "parameters and cache counted exactly, activations estimated; a twentieth left free",
        )
    if rules.factors()[name].basis == "cited":
        settled = name == "task" and case.pair.rule.settles_quality
        return "published", f"{case.pair.source}. {case.pair.rule.caveat}" if settled else _conditions(name)
    measured = all(one.step.source == "measured elsewhere" for one in case.both)
    band = " and ".join(f"±{100 * one.step.spread:.0f} %" for one in case.both)
    said = f"predicted from measured kernels, 80 % interval {band} (mixture, dense)"
    return ("measured elsewhere" if measured else "modelled"), said + (_small() if name == "scale" else "")


def _conditions(name: str) -> str:
    """What the cited facts say, when they hold, what contradicts them, and how they were read."""
    found = (rules.facts()[fact] for fact in rules.factors()[name].facts)
    return " | ".join(
        f"{fact.says}. Holds: {fact.holds}."
        + (f" Against: {fact.against}." if fact.against else "")
        + f" [{fact.source}; {rules.GRADES[fact.grade]}]"
        for fact in found
    )


@once
def _small() -> str:
    """How the documents' line of 7B active parameters fares among the published mixtures."""
    sparse = [record for record in registry.records() if record.kind == "moe"]
    small = sum(registry.parameters(record).active.incl_embeddings < 7e9 for record in sparse)
    return f"; {small} of {len(sparse)} mixtures on file have fewer than 7 B active, so that is no limit"
