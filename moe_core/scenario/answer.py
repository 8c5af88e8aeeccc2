"""Answer: devices, seconds, dollars, bytes, first token and verdict of a scenario: nobody else says them.

One model under a question is a `Serving`: on the devices asked for, or on its own fewest, laid out as serves
it best. Words have one meaning each:

    time per token    one decoding step at the batch, in the middle of the answer (`Serving.step`)
    first token       one prompt alone (`Serving.first`)
    cost              dollars a million tokens written, prompts read on the same devices (`Serving.cost`)
    decoding alone    the same without the prompts (`decoding`)
    memory            bytes of the fullest device in the roomiest layout (`Serving.need`), and of all of them
"""

from __future__ import annotations

from math import floor

from moe_core.decide.case import Recorded
from moe_core.decide.layout import Layout
from moe_core.decide.limits import Miss, misses
from moe_core.decide.pair import candidate
from moe_core.decide.serving import Serving
from moe_core.decide.spec import DecideSpec
from moe_core.decide.verdict import HARD, Verdict, decide
from moe_core.errors import InfeasibleError
from moe_core.perf import economics, fit, memory
from moe_core.perf.memory import Footprint, Workload
from moe_core.perf.shard import share
from moe_core.scenario.decision import decision
from moe_core.scenario.spec import Scenario
from moe_core.specs import Architecture

Load = tuple[float, ...] | None


def verdict(scenario: Scenario, recorded: Recorded | None = None) -> Verdict:
    """Dense or mixture. Raises ConfigError, or InfeasibleError where neither fits, one sentence each."""
    return decide(decision(scenario), recorded)


def alone(spec: DecideSpec, model: str | Architecture, load: Load = None) -> Serving:
    """One model under somebody's question. Raises ConfigError, or InfeasibleError: it cannot be split."""
    return Serving(candidate(model), spec, load)


def at(one: Serving, batch: float, load: Load = None) -> Serving:
    """The same model at another batch, planned anew: on its own fewest devices unless told otherwise."""
    work = one.work.model_copy(update={"batch": batch, "traffic": None})
    return Serving(one.candidate, one.spec.model_copy(update={"workload": work}), load)


def refusal(one: Serving) -> Miss | None:
    """What is missed without which there is neither a time nor a price."""
    return next((miss for miss in misses(one) if miss.name in HARD), None)


def required(one: Serving) -> Serving:
    """The same, where it has times. Raises InfeasibleError with the number that decided it."""
    missed = refusal(one)
    if missed is not None:
        raise InfeasibleError(f"{one.candidate.name} {missed.words}")
    return one


def decoding(one: Serving) -> float | None:
    """Dollars a million tokens written by devices that do nothing but decode; None without a price."""
    dollars = one.device.usd_per_hour
    return economics.per_million(dollars, one.devices, one.batch / one.step.seconds) if dollars else None


def rate(one: Serving) -> float:
    """Tokens a second that each device writes, decoding alone at this batch."""
    return one.batch / one.step.seconds / one.devices


def roomiest(one: Serving) -> Layout:
    """The layout whose fullest device holds least."""
    return min(one.layouts, key=lambda layout: layout.need(one.batch, one.work.context))


def held(one: Serving) -> Footprint:
    """What the fullest device holds in the roomiest layout; between whole batches a straight line."""
    layout, spec = roomiest(one), one.spec
    many = layout.each(one.batch)
    whole = floor(many)

    def at_batch(batch: int) -> Footprint:
        work = share(Workload(batch=batch, context=max(round(one.work.context), 1)), layout.parallel)
        return memory.footprint(layout.held.model, work, spec.formats, spec.kv)

    low = at_batch(whole)
    return low if many == whole else _between(low, at_batch(whole + 1), many - whole)


def _between(low: Footprint, high: Footprint, share_of_high: float) -> Footprint:
    """Working memory grows with the batch, weights do not."""
    grown = {
        name: round(getattr(low, name) + share_of_high * (getattr(high, name) - getattr(low, name)))
        for name in ("kv_cache", "state", "activations")
    }
    return low._replace(**grown)


def reach(one: Serving) -> tuple[int, int]:
    """Longest context that memory and model allow at this batch, and largest batch at this context.

    On as many devices as it takes now, in the roomiest layout.
    """
    layout, spec = roomiest(one), one.spec
    setting = fit.Setting(one.candidate.model, spec.formats, spec.kv)
    work = Workload(batch=max(round(layout.each(one.batch)), 1), context=max(round(one.work.context), 1))
    capacity = one.device.capacity
    longest = fit.longest_context(setting, work, capacity, layout.parallel)
    largest = fit.largest_batch(setting, work, capacity, layout.parallel)
    return min(longest, one.candidate.longest), round(largest * layout.replicas)
