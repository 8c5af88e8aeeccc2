"""Scores: each question of the framework as a number for one case. A table; words are in `factors`.

A score is of the first candidate over the second, in [-1, 1], continuous in the inputs, and changes its
sign when the two are swapped. `RELEVANCE` is 0 where a factor is not in play.
"""

from __future__ import annotations

from collections.abc import Callable

from moe_core.decide import rules
from moe_core.decide.case import Case
from moe_core.decide.rules import scoring
from moe_core.decide.serving import Serving
from moe_core.perf.memory import Workload
from moe_core.perf.training import training

_Figure = Callable[[Serving], float]


def pulls(case: Case) -> dict[str, float]:
    """What each factor adds to the support of the first candidate: weight x score / sum of weights."""
    importance = case.spec.importance
    weights = {name: importance[name] * relevance(case, name) for name in SCORES}
    total = sum(weights.values()) or 1.0
    return {name: weight * SCORES[name](case) / total if weight else 0.0 for name, weight in weights.items()}


def relevance(case: Case, name: str) -> float:
    """1 where the factor is in play, 0 where it is not, between them where it tells only a part."""
    return float(RELEVANCE[name](case)) if name in RELEVANCE else 1.0


def states(one: Serving) -> float:
    """Bytes to update every weight on one sequence of the case's context, all devices together."""
    work = Workload(batch=1, context=max(round(one.work.context), 1))
    return training(one.candidate.model, work).total


def _more(case: Case, figure: _Figure) -> float:
    """More is better."""
    return scoring().better(figure(case.first), figure(case.second))


def _less(case: Case, figure: _Figure) -> float:
    return scoring().better(figure(case.second), figure(case.first))


def _inside(case: Case, limit: _Figure, need: _Figure) -> float:
    """How much better the first stays inside a limit."""
    first, second = (scoring().satisfied(limit(one), need(one)) for one in (case.first, case.second))
    return first - second


def _latency(case: Case) -> float:
    """The shorter step; where there is a target, also how well each keeps the tighter one."""
    work, shorter = case.spec.workload, _less(case, lambda one: one.step.seconds)
    if work.latency_ms is None and work.ttft_ms is None:
        return shorter
    return (shorter + _kept(case.first) - _kept(case.second)) / 2


def _kept(one: Serving) -> float:
    kept = []
    if one.work.latency_ms is not None:
        kept.append(scoring().satisfied(one.work.latency_ms / 1e3, one.step.seconds))
    if one.work.ttft_ms is not None:
        kept.append(scoring().satisfied(one.work.ttft_ms / 1e3, one.first.seconds))
    return min(kept)


def _memory(case: Case) -> float:
    """Spare memory on equal devices; bytes in all where each candidate has devices of its own."""
    if case.spec.equal is None:
        return _less(case, lambda one: one.everywhere)
    return _inside(case, lambda one: float(one.usable), lambda one: one.need)


def _budget(case: Case) -> float:
    """The cheaper token; where there is a budget, also how well each stays inside it."""
    cheaper, budget = _less(case, _cost), case.spec.budget
    if budget is None:
        return cheaper
    return (cheaper + _inside(case, lambda one: budget, _cost)) / 2


def _cost(one: Serving) -> float:
    assert one.cost is not None, "not in play without a price"
    return one.cost


def _task(case: Case) -> float:
    """Memorised facts go with total parameters, reasoning with active ones, each as strongly as was found."""
    rule, knowledge = scoring(), rules.task(case.spec.task).knowledge
    knows = rule.memorise * _more(case, lambda one: one.candidate.total)
    thinks = rule.reason * _more(case, lambda one: one.candidate.active)
    return knowledge * knows + (1 - knowledge) * thinks


def _scratch(case: Case) -> float:
    """Compute saved, against instability."""
    rule = scoring()
    return rule.saves * _less(case, lambda one: one.candidate.active) - rule.risk * case.pair.leaning


def _finetune(case: Case) -> float:
    """Memory of the optimizer, and router drift."""
    rule = scoring()
    return rule.states * _less(case, states) - rule.drift * case.pair.leaning


SCORES: dict[str, Callable[[Case], float]] = {
    "memory": _memory,
    "throughput": lambda case: _more(case, lambda one: one.throughput),
    "latency": _latency,
    "context": lambda case: _inside(case, lambda one: max(one.room, 1e-6), lambda one: one.batch),
    "traffic": lambda case: _less(case, lambda one: one.fleet or 1e9),
    "budget": _budget,
    "scale": lambda case: _less(case, lambda one: one.prompt),
    "interconnect": lambda case: case.second.step.network - case.first.step.network,
    "task": _task,
    "scratch": _scratch,
    "finetune": _finetune,
    "skill": lambda case: -scoring().skill[case.spec.team.skill] * case.pair.leaning,
}
RELEVANCE: dict[str, Callable[[Case], float]] = {
    "traffic": lambda case: case.spec.workload.traffic is not None,
    "budget": lambda case: case.first.device.usd_per_hour > 0,
    "interconnect": lambda case: max(case.devices) > 1,
    "task": lambda case: not case.pair.rule.settles_quality,
    "scratch": lambda case: case.spec.team.training == "from scratch",
    "finetune": lambda case: case.spec.team.training == "fine-tune",
    "skill": lambda case: case.spec.team.training != "none",
}
