"""Memory: the scenario as it is served, or in chosen formats and splits: what a device holds.

Everything answers for the fullest device, in bytes. A twentieth of each is left to framework and
fragmentation. No Streamlit here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import pandas as pd

from moe_core import hardware
from moe_core.errors import ConfigError, InfeasibleError
from moe_core.formats import Format
from moe_core.perf import cache, fit, memory, training, twins
from moe_core.perf.edit import KvKind, with_kv
from moe_core.perf.fit import HEADROOM, Setting, usable
from moe_core.perf.memory import Footprint, Model, Workload
from moe_core.perf.offload import offload
from moe_core.perf.precision import MIXES, words
from moe_core.perf.shard import Parallel
from moe_core.perf.training import Optimizer
from moe_core.scenario import start
from moe_core.scenario import subject as fullsize
from moe_core.scenario.answer import Memory, memory_of
from moe_core.scenario.answer import served as served_by
from moe_core.scenario.devices import Device
from moe_core.scenario.resolved import Resolved
from moe_core.scenario.spec import Scenario
from moe_core.scenario.start import Launch
from moe_core.scenario.subject import TWINS
from moe_core.silicon.predict import resampled
from moe_core.specs import GQA, Architecture, Precision

WAYS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = tuple(2**i for i in range(9, 21))
SHARES = tuple(i / 20 for i in range(21))


class Plan(NamedTuple):
    """How weights and cache are stored, and how they are split. `own`: as the scenario is served."""

    precision: Precision = Precision()
    kv: Format = "bf16"
    tensor: int = 1
    expert: int = 1
    own: bool = False

    @property
    def parallel(self) -> Parallel:
        return Parallel(tensor=self.tensor, expert=self.expert)

    @property
    def devices(self) -> int:
        return max(self.tensor, self.expert)


class Case(NamedTuple):
    """One model with a label, the work it is asked to do, and what each device holds of it."""

    label: str
    model: Model
    work: Workload
    plan: Plan
    footprint: Footprint
    held: Memory | None = None

    @property
    def devices(self) -> int:
        """How many hold it: those of the answer, or of a split that was chosen."""
        return self.plan.devices if self.held is None else self.held.devices

    @property
    def sequences(self) -> int:
        """At once: asked for, or in flight under the traffic."""
        return self.work.batch if self.held is None else max(round(self.held.sequences), 1)


def served(asked: Resolved) -> Case:
    """The scenario as it is served: on its devices, in the roomiest layout. Raises InfeasibleError."""
    found = memory_of(asked)
    plan = Plan(asked.precision, asked.kv, found.parallel.tensor, found.parallel.expert, own=True)
    label = asked.label.removesuffix(" as published")
    return Case(label, asked.model, asked.work, plan, found.footprint, found)


def case(scenario: Scenario, plan: Plan) -> Case:
    """The scenario's architecture. Raises InfeasibleError where it cannot be split so."""
    chosen = fullsize.subject(scenario)
    return _case(fullsize.label(scenario, chosen), fullsize.model(scenario, chosen), scenario, plan)


def rivals(scenario: Scenario, plan: Plan) -> list[Case]:
    """The model before the edit, and dense twins on as many devices where they can be split."""
    chosen = fullsize.subject(scenario)
    mixture = fullsize.architecture(scenario, chosen)
    found: list[Case] = []
    if scenario.edited and chosen.architecture is not None:
        found += _maybe(scenario._replace(experts=None, top_k=None, shared=None), plan)
    if mixture is not None and mixture.experts is not None:
        formats = twins.equal_terms(plan.precision)
        alone = plan._replace(precision=formats, tensor=plan.devices, expert=1)
        for twin in twins.twins(mixture):
            if twin.rule in TWINS:
                with suppress(InfeasibleError):
                    sized = memory.model(twin.architecture)
                    found.append(_case(TWINS[twin.rule], sized, scenario, alone))
    return found


def _maybe(scenario: Scenario, plan: Plan) -> list[Case]:
    with suppress(InfeasibleError):
        return [case(scenario, plan)]
    return []


def _case(label: str, model: Model, scenario: Scenario, plan: Plan) -> Case:
    work = Workload(batch=scenario.batch, context=scenario.context)
    held = fit.fit(Setting(model, plan.precision, plan.kv), work, 0, plan.parallel)
    return Case(label, model, work, plan, held.footprint)


def rows(named: Iterable[tuple[str, Footprint]]) -> pd.DataFrame:
    """name, component, bytes, for a stacked bar."""
    return pd.DataFrame(
        [
            {"name": name, "component": component, "bytes": size}
            for name, held in named
            for component, size in held.components().items()
        ]
    )


class Reach(NamedTuple):
    """How far a case goes on one kind of device: as planned if that fits, else on as many as it takes.

    `parallel` None: on no number of them. Context and batch are None where it does not fit as it is served.
    """

    usable: int
    fits: bool
    parallel: Parallel | None
    context: int | None
    batch: int | None


def reach(one: Case, capacity: float) -> Reach:
    """Longest context and largest batch on devices of `capacity` bytes."""
    if one.held is not None:
        held = one.held
        if held.fits:
            return Reach(held.usable, True, held.parallel, held.context, held.batch)
        return Reach(held.usable, False, _enough(one, capacity), None, None)
    room, setting = usable(int(capacity)), _setting(one)
    fits = one.footprint.total <= room
    parallel = one.plan.parallel if fits else _enough(one, capacity)
    if parallel is None:
        return Reach(room, False, None, None, None)
    ask = (setting, one.work, int(capacity), parallel)
    context = made_for(one.model, fit.longest_context(*ask))
    return Reach(room, fits, parallel, context, fit.largest_batch(*ask))


def _enough(one: Case, capacity: float) -> Parallel | None:
    """The split over as few devices as hold it; None where no number does."""
    try:
        return fit.devices(_setting(one), one.work, int(capacity)).parallel
    except InfeasibleError:
        return None


def made_for(model: Model, context: int) -> int:
    """A context that memory would hold, cut to the longest that the model was made for."""
    arch = model.architecture
    return context if arch is None else min(context, arch.max_positions)


def _setting(one: Case) -> Setting:
    return Setting(one.model, one.plan.precision, one.plan.kv)


# -- every device ----------------------------------------------------------------------------------


def on_every(one: Case, devices: Iterable[Device], prices: Mapping[str, float]) -> pd.DataFrame:
    """A row a device: how many it takes and in which layout, how far it goes there, its cost an hour."""
    setting = _setting(one)
    held = _Kept(fit.needs(setting, one.work))
    return pd.DataFrame([_on(setting, one.work, held, device, prices.get(device.name)) for device in devices])


class _Kept:
    """A sequence that is made once, as far as somebody asks for it, and read by many."""

    def __init__(self, source: Iterator[tuple[Parallel, Footprint]]) -> None:
        self.source, self.made = source, list[tuple[Parallel, Footprint]]()

    def __iter__(self) -> Iterator[tuple[Parallel, Footprint]]:
        at = 0
        while True:
            if at == len(self.made):
                one = next(self.source, None)
                if one is None:
                    return
                self.made.append(one)
            yield self.made[at]
            at += 1


def _on(
    setting: Setting,
    work: Workload,
    held: _Kept,
    device: Device,
    price: float | None,
) -> dict[str, Any]:
    capacity = int(device.capacity)
    row: dict[str, Any] = {
        "device": device.name,
        "usable": usable(capacity),
        "need": next(iter(held))[1].total,
    }
    row |= {"devices": None, "layout": "on no number of them", "context": None, "batch": None}
    row |= {"price": price, "cost": None, "source": device.source}
    with suppress(InfeasibleError):
        found = fit.first(setting, held, capacity)
        number = found.parallel.devices
        row |= {"devices": number, "layout": found.parallel.words}
        row["cost"] = None if price is None else price * number
        longest = fit.longest_context(setting, work, capacity, found.parallel)
        row["context"] = made_for(setting.model, longest)
        row["batch"] = fit.largest_batch(setting, work, capacity, found.parallel)
    return row


def listed_prices() -> dict[str, float]:
    """US dollars an hour in the data file; devices without a price are left out."""
    return {one.name: one.usd_per_hour for one in hardware.devices() if one.usd_per_hour > 0}


# -- formats, splits, cache ------------------------------------------------------------------------


def by_format(one: Case) -> pd.DataFrame:
    """The same work in every published mix of formats, as the model is stored, and in the mix chosen."""
    arch = one.model.architecture
    mixes = {"as chosen": one.plan.precision, **({"as stored": arch.stored} if arch else {}), **MIXES}
    named = []
    for name, precision in mixes.items():
        setting = Setting(one.model, precision, one.plan.kv)
        named.append((name, fit.fit(setting, one.work, 0, one.plan.parallel).footprint))
    return rows(named)


def by_split(one: Case, most: int = 64) -> pd.DataFrame:
    """The fullest device in every layout of up to `most` devices."""
    seen: dict[str, Footprint] = {}
    for parallel, held in fit.needs(_setting(one), one.work, most):
        if parallel.tensor == 1 or parallel.expert == 1 or parallel.devices > parallel.tensor:
            seen.setdefault(f"{parallel.devices}: {parallel.words}", held)
    return rows(seen.items())


KINDS: dict[KvKind, str] = {
    "mha": "MHA",
    "gqa": "GQA, 8 KV heads",
    "mqa": "MQA",
    "mla": "MLA, latent 512 + 64",
}


def by_context(one: Case) -> pd.DataFrame:
    """Cache and state of one sequence against its length: as it is, and with other kinds of attention."""
    found = [("as it is", one.model.cache)]
    arch = one.model.architecture
    if arch is not None:
        found += [(words, cache.cache(other)) for words, other in _kinds(arch)]
    return pd.DataFrame(
        [
            {"kind": name, "context": n, "bytes": kept.all_bytes(n, one.plan.kv)}
            for name, kept in found
            for n in CONTEXTS
        ]
    )


def _kinds(arch: Architecture) -> list[tuple[str, Architecture]]:
    """The other kinds in every layer, windows and linear layers taken out."""
    plain = arch.model_copy(
        update={"extras": arch.extras.model_copy(update={"delta": None, "full_every": None})}
    )
    if isinstance(arch.attention, GQA):
        plain = plain.model_copy(update={"attention": arch.attention.model_copy(update={"window": None})})
    found = []
    for kind, title in KINDS.items():
        with suppress(ConfigError):  # eight KV heads do not divide every number of heads
            found.append((title, with_kv(plain, kind)))
    return found


# -- offload and training --------------------------------------------------------------------------


def offloaded(one: Case, link: float, load: tuple[float, ...] | None = None) -> pd.DataFrame:
    """What a device holds and what a decode step waits for, against the share of experts on the host.

    load: popularity of the experts, recorded; None is even. Raises ConfigError for a dense model. Offload is
    judged on one device, whatever the split.
    """
    whole = memory.footprint(one.model, one.work, one.plan.precision, one.plan.kv)
    beside = whole.total - whole.weights_total
    found = []
    for share in SHARES:
        kept = offload(one.model, share, link, one.work.batch, one.plan.precision, _spread(one.model, load))
        found.append(
            {"share": share, "device": kept.device + beside, "host": kept.host}
            | {"crossing": kept.crossing, "seconds": kept.moved, "computed": kept.computed}
        )
    return pd.DataFrame(found)


def _spread(model: Model, load: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """A recorded load on as many experts as the model has."""
    return None if load is None or model.routing is None else resampled(load, model.routing[1])


def launch(asked: Resolved, one: Case) -> Launch:
    """What is to be started: the fastest layout of what is asked, or the split that was chosen."""
    if one.plan.own and asked.timed:
        formats = {"precision": one.plan.precision, "kv": one.plan.kv}
        return start.of(served_by(asked.model_copy(update=formats)))
    assert one.model.architecture is not None, "only what is known in full is started"
    same = (one.work.context, one.sequences, one.plan.precision, one.plan.kv)
    return Launch(one.model.architecture, one.plan.parallel, 1, *same)


def host_link(device: Device) -> float | None:
    """Bytes a second between a device and its host's memory; None where the data file has no such device."""
    with suppress(ConfigError):
        return hardware.get(device.name).host
    return None


def trained(one: Case, optimizer: Optimizer, gradients: Format, recompute: bool) -> Footprint:
    """Bytes to train it in bf16 on the work, all of it together: split evenly, the devices share them."""
    return training.training(one.model, one.work, optimizer, gradients, recompute)


def source(one: Case) -> str:
    """The tooltip of everything modelled here."""
    return (
        f"{one.model.name}: {one.model.parameters.method.replace('_', ' ')} parameters; weights in "
        f"{words(one.plan.precision)}, cache in {one.plan.kv}, {one.sequences} sequences of "
        f"{one.work.context:,} tokens; {HEADROOM:.0%} of each device left to framework and fragmentation"
    )
