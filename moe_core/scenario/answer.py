"""Answer: devices, seconds, dollars, bytes, first token and verdict of a scenario: nobody else says them.

One model under a question is a `Serving`: on the devices asked for, or on its own fewest, laid out as serves
it best. Words have one meaning each:

    time per token    one decoding step at the batch, in the middle of the answer (`Serving.step`)
    first token       one prompt alone (`Serving.first`)
    cost              dollars a million tokens written, prompts read on the same devices (`Serving.cost`)
    energy            joules a token written, as cost counts, at the power limit (`Serving.joules`)
    decoding alone    the same without the prompts (`decoding`), as is a device's rate (`rate`)
    memory            bytes of the fullest device in the roomiest layout (`Serving.need`), and of all of them
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from math import ceil, floor
from typing import NamedTuple

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
from moe_core.perf.shard import Parallel, share
from moe_core.perf.step_time import Step
from moe_core.scenario.decision import decision
from moe_core.scenario.resolved import Resolved
from moe_core.scenario.spec import Scenario
from moe_core.silicon.predict import Prediction, predict
from moe_core.specs import Architecture
from moe_core.units import significant

Load = tuple[float, ...] | None


def verdict(scenario: Scenario, recorded: Recorded | None = None) -> Verdict:
    """Dense or mixture. Raises ConfigError, or InfeasibleError where neither fits, one sentence each."""
    return decide(decision(scenario), recorded)


# -- one model under a question --------------------------------------------------------------------


def alone(spec: DecideSpec, model: str | Architecture, load: Load = None) -> Serving:
    """One model under somebody's question. Raises ConfigError, or InfeasibleError: it cannot be split."""
    return Serving(candidate(model), spec, load)


@lru_cache(maxsize=512)
def served(case: Resolved) -> Serving:
    """A resolved scenario's own model; `case.timed` says whether there is one to serve. As `alone`."""
    assert case.architecture is not None, "`timed` says so"
    return alone(case.question, case.architecture, case.load)


def at(one: Serving, batch: float) -> Serving:
    """The same model at another batch, planned anew: on its own fewest devices unless told otherwise."""
    work = one.work.model_copy(update={"batch": batch, "traffic": None})
    return Serving(one.candidate, one.spec.model_copy(update={"workload": work}), one.load)


def refusal(one: Serving) -> Miss | None:
    """What is missed without which there is neither a time nor a price."""
    return next((miss for miss in misses(one) if miss.name in HARD), None)


def required(one: Serving) -> Serving:
    """The same, where it has times. Raises InfeasibleError with the number that decided it."""
    missed = refusal(one)
    if missed is not None:
        raise InfeasibleError(f"{one.candidate.name} {missed.words}")
    return one


# -- seconds and dollars ---------------------------------------------------------------------------


def decoding(one: Serving) -> float | None:
    """Dollars a million tokens written by devices that do nothing but decode; None without a price."""
    dollars = one.device.usd_per_hour
    return economics.per_million(dollars, one.devices, one.batch / one.step.seconds) if dollars else None


def energy(one: Serving) -> str:
    """`at most 1.2 J a token written`, or that nobody gave a figure."""
    if one.joules is None:
        return "no power figure"
    return f"at most {significant(one.joules)} J a token written, at the power limit"


def rate(one: Serving) -> float:
    """Tokens a second that each device writes, decoding alone at this batch."""
    return one.batch / one.step.seconds / one.devices


def step(one: Serving) -> Prediction:
    """What a decoding step consists of, in the layout that is used; seconds those of `Serving.step`."""
    asked = Step(batch=max(round(one.layout.each(one.batch)), 1), new=1, past=round(one.work.past))
    found, reading = _predicted(one, asked), one.step
    stretch = reading.seconds / found.seconds
    return found._replace(
        seconds=reading.seconds,
        lower=reading.lower,
        upper=reading.upper,
        parts=tuple(part._replace(seconds=part.seconds * stretch) for part in found.parts),
    )


def prompts(one: Serving) -> Prediction:
    """Reading the prompts of the whole batch at once, in the layout that is used."""
    each = max(round(one.layout.each(one.batch)), 1)
    return _predicted(one, Step(batch=each, new=max(round(one.work.read), 1), past=round(one.work.cached)))


def _predicted(one: Serving, asked: Step) -> Prediction:
    return predict(
        one.candidate.architecture,
        one.device,
        asked,
        precision=one.formats,
        kv=one.kv,
        parallel=one.layout.parallel,
        framework=one.spec.framework,
        load=one.load,
        check_memory=False,
    )


# -- memory ----------------------------------------------------------------------------------------


def roomiest(one: Serving) -> Layout:
    """The layout whose fullest device holds least."""
    return min(one.layouts, key=lambda layout: layout.need(one.batch, one.work.context))


def held(one: Serving) -> Footprint:
    """What the fullest device holds in the roomiest layout; between whole batches a straight line."""
    layout = roomiest(one)
    many = layout.beside(one.batch)
    whole = floor(many)

    def at_batch(batch: int) -> Footprint:
        work = share(Workload(batch=batch, context=max(round(one.work.context), 1)), layout.parallel)
        return memory.footprint(layout.held.model, work, one.formats, one.kv)

    low = at_batch(whole)
    return low if many == whole else _between(low, at_batch(whole + 1), many - whole)


def _between(low: Footprint, high: Footprint, share_of_high: float) -> Footprint:
    """Working memory grows with the batch, weights do not."""
    grown = {
        name: round(getattr(low, name) + share_of_high * (getattr(high, name) - getattr(low, name)))
        for name in ("kv_cache", "state", "activations")
    }
    return low._replace(**grown)


class Memory(NamedTuple):
    """What a resolved scenario holds on the fullest of so many devices, in bytes.

    parallel, replicas: the layout, and groups of it; what is left of the devices is idle. each: sequences of
    one group. usable: of one device.
    context: the longest, of memory and model; batch: the largest. Both on so many devices, 0 where it does
    not fit there. sequences: at once now, asked for or in flight under the traffic.
    """

    devices: int
    parallel: Parallel
    each: int
    replicas: int
    footprint: Footprint
    usable: int
    context: int
    batch: int
    sequences: float

    @property
    def layout(self) -> str:
        """`one device`, `2 × (tensor 8)`, `tensor 8, 1 idle`."""
        said = self.parallel.times(self.replicas)
        idle = self.devices - self.working
        return f"{said}, {idle} idle" if idle else said

    @property
    def working(self) -> int:
        """Devices of the layout."""
        return self.parallel.devices * self.replicas

    @property
    def fits(self) -> bool:
        return self.footprint.total <= self.usable

    @property
    def all(self) -> int:
        """Bytes of all devices that work, each taken as full as the fullest."""
        return self.footprint.total * self.working


@lru_cache(maxsize=1_024)
def memory_of(case: Resolved) -> Memory:
    """Memory of any resolved scenario, also of one that has no times. Raises InfeasibleError."""
    if case.timed:
        one = served(case)
        layout = roomiest(one)
        each = max(ceil(layout.beside(one.batch)), 1)
        longest = max(_longest(case, way, ceil(way.beside(one.batch))) for way in _ways(one))
        far = (min(longest, one.candidate.longest), one.sequences)
        grown = (held(one), fit.usable(case.capacity), *far)
        return Memory(one.devices, layout.parallel, each, layout.replicas, *grown, one.batch)
    return _alone(case, _fewest(case))


def _ways(one: Serving) -> list[Layout]:
    """Its layouts, groups of the same split once."""
    return list({layout.parallel: layout for layout in one.layouts}.values())


def _longest(case: Resolved, layout: Layout, each: int) -> int:
    """The longest context of so many sequences in one group; 0 where it does not fit."""
    work = case.work_of(max(each, 1), case.context)
    try:
        return fit.longest_context(case.setting, work, case.capacity, layout.parallel)
    except InfeasibleError:
        return 0


def _fewest(case: Resolved) -> fit.Fit:
    """The layout asked for, or so many devices, or as few as hold it. Raises InfeasibleError."""
    if case.parallel.devices > 1:
        return fit.fit(case.setting, case.work, case.capacity, case.parallel)
    if case.devices is None:
        return fit.devices(case.setting, case.work, case.capacity)
    found = []
    for number in range(1, min(case.devices, fit.WIDEST) + 1):
        for one in fit.ways(number, case.model.routing is not None):
            with suppress(InfeasibleError):
                found.append(fit.fit(case.setting, case.work, case.capacity, one))
    return min(found, key=lambda one: one.footprint.total)


def _alone(case: Resolved, found: fit.Fit) -> Memory:
    """One group of what has no times: how much it holds, and how far it goes there."""
    ask = (case.setting, case.work, case.capacity, found.parallel)
    longest = case.architecture.max_positions if case.architecture else None
    try:
        context, batch = fit.longest_context(*ask), fit.largest_batch(*ask)
    except InfeasibleError:
        context = batch = 0
    far = (found.footprint, fit.usable(case.capacity), min(context, longest or context), batch)
    return Memory(found.parallel.devices, found.parallel, case.batch, 1, *far, case.batch)
