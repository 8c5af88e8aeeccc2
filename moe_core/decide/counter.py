"""Counter-argument: the best that can be said against the verdict, computed for this case. Always shown.

Against a mixture: reuse fragmentation (few tokens for each expert that must be read) and the room its
idle experts take from the cache at long context, the double penalty of arXiv 2603.08960. Against a dense
model: it multiplies all it has for every token, which tells at large batch; where it has no more to
multiply, what the mixture holds beyond it. And the factor that spoke loudest for the other side.
"""

from __future__ import annotations

from typing import NamedTuple

from moe_core.decide import rules
from moe_core.decide.case import Case, case
from moe_core.decide.factors import Factor
from moe_core.decide.knobs import turned
from moe_core.decide.scores import pulls
from moe_core.decide.verdict import Verdict
from moe_core.units import count, quantity, significant

LONG = 131_072.0  # tokens: where the double penalty was shown
LARGE = 1024.0
LOUD = 0.01  # a factor that takes less than this from the margin is no argument


class Counter(NamedTuple):
    """An argument against the verdict, its numbers, and the margin where it is strongest."""

    title: str
    sentence: str
    margin: float


def counters(found: Verdict) -> tuple[Counter, ...]:
    """Arguments against the winner, the strongest first; never empty."""
    made = [_fragmented(found), _headroom(found)] if found.winner == "mixture" else [_unused(found)]
    side = 1 if found.winner == "mixture" else -1
    factor = min((one for one in found.factors if one.weight), key=lambda one: side * one.pull)
    if side * factor.pull < -LOUD:
        made.append(_loudest(found, factor))
    return tuple(sorted(made, key=lambda one: side * one.margin))


def _at(found: Verdict, name: str, value: float) -> Case:
    return case(turned(found.spec, name, value), found.case.recorded, found.pair)


def _support(there: Case) -> float:
    """What the factors say there, from the mixture's side, whether or not it all fits."""
    return (there.pair.leaning or 1) * sum(pulls(there).values())


def _fragmented(found: Verdict) -> Counter:
    """Reuse: at a medium batch nearly every expert is read, each for few tokens."""
    mixture = found.case.both[0]
    bank = mixture.candidate.architecture.experts
    assert bank is not None, "a mixture has experts"
    spread = mixture.layout.replicas  # sequences are dealt out to so many groups
    worst = max((2.0**i * spread for i in range(1, 11)), key=lambda b: _penalty(found, b))
    there = _at(found, "batch", worst) if found.spec.workload.traffic is None else found.case
    step, other = (one.step_at(worst) for one in found.case.both)
    read = step.distinct or float(bank.count)
    each = worst / spread
    where = f"at batch {worst:,.0f}" + (f", {each:,.0f} on each of {spread:g} groups," if spread > 1 else "")
    sentence = (
        f"Reuse fragmentation: {where} a step reads {significant(read)} of "
        f"{bank.count} experts a layer for {significant(each * bank.top_k / read)} tokens each, where a "
        f"dense matrix serves all {each:,.0f}. The step grew "
        f"{significant(step.seconds / mixture.step_at(1).seconds)}× from batch 1, the dense one "
        f"{significant(other.seconds / found.case.both[1].step_at(1).seconds)}×"
    )
    return Counter("Reuse fragmentation", sentence, _support(there))


def _penalty(found: Verdict, batch: float) -> float:
    """Step of the mixture over the dense one's at a batch."""
    mixture, dense = found.case.both
    return mixture.step_at(batch).seconds / dense.step_at(batch).seconds


def _headroom(found: Verdict) -> Counter:
    """KV headroom: resident experts leave less room for long sequences."""
    context = max(LONG, float(found.spec.workload.context))
    there = _at(found, "context", context)
    rooms = [one.sequences for one in there.both]
    mixture = there.both[0].candidate
    idle = mixture.model.parameters.idle / mixture.total
    sentence = (
        f"KV headroom: {significant(100 * idle)} % of its weights sit idle for any one token and "
        f"keep their memory. At {context:,.0f} tokens {rooms[0]:,} sequences fit beside it, "
        f"{rooms[1]:,} beside the dense model"
    )
    return Counter("KV headroom at long context", sentence, _support(there))


def _unused(found: Verdict) -> Counter:
    """What a dense model gives away: compute where it has more to multiply, else capacity."""
    mixture, dense = (one.candidate for one in found.case.both)
    return _compute(found) if dense.active > 1.05 * mixture.active else _capacity(found)


def _capacity(found: Verdict) -> Counter:
    """What the mixture knows beyond it, and what the factors say of work that lives on it."""
    mixture, dense = (one.candidate for one in found.case.both)
    fact = rules.facts()["knowledge-with-total"]
    sentence = (
        f"Capacity: for no more work a token the mixture holds {significant(mixture.total / dense.total)} "
        f"times as many parameters, {count(mixture.total)} against {count(dense.total)}. "
        f"{fact.says} ({fact.holds}; {fact.source})"
    )
    there = found.spec.model_copy(update={"task": "knowledge"})
    margin = _support(case(there, found.case.recorded, found.pair))
    return Counter("Capacity", sentence, margin)


def _compute(found: Verdict) -> Counter:
    """Active compute: what the dense model multiplies at a batch that large."""
    work = found.spec.workload
    batch = max(LARGE, float(work.batch))
    there = found.case if work.traffic is not None else _at(found, "batch", batch)
    steps = [one.step_at(batch) for one in found.case.both]
    active = [one.candidate.active for one in found.case.both]
    prompts = [one.prompt for one in found.case.both]
    sentence = (
        f"Active compute: for every token the dense model multiplies "
        f"{significant(active[1] / active[0])} times as many parameters. At batch {batch:,.0f}, memory "
        f"aside, a step takes it {quantity(steps[1].seconds, 's')}, the mixture "
        f"{quantity(steps[0].seconds, 's')}; reading a prompt costs it "
        f"{significant(prompts[1] / prompts[0])} times the device time"
    )
    return Counter("Active compute at large batch", sentence, _support(there))


def _loudest(found: Verdict, factor: Factor) -> Counter:
    """The factor that pulls most the other way, and the margin if it weighed twice as much."""
    weights = {**found.spec.weights, factor.id: min(2 * factor.weight, 10.0)}
    doubled = found.spec.model_copy(update={"weights": weights})
    margin = _support(case(doubled, found.case.recorded, found.pair))
    return Counter(factor.title, f"{factor.title} speaks against it: {factor.evidence}", margin)
