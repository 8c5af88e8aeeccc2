"""Subject: the scenario's architecture at its own dimensions, as published or with other experts.

Parameters are counted, not guessed; memory adds cache and activations by the formulas of
`moe_core.perf.memory`. A twentieth of each device is left to framework and fragmentation. No Streamlit here.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from moe_core import registry
from moe_core.errors import InfeasibleError
from moe_core.formats import Format
from moe_core.perf import memory
from moe_core.perf.edit import mixture
from moe_core.perf.fit import HEADROOM, Setting, devices, largest_batch, longest_context, usable
from moe_core.perf.memory import Footprint, Model, Workload
from moe_core.perf.params import ParameterCount
from moe_core.perf.precision import asked, words
from moe_core.registry import Record
from moe_core.scenario.devices import Device
from moe_core.scenario.spec import ARCHITECTURE, Scenario, describe
from moe_core.specs import Architecture, Precision

TWINS = {"active": "dense twin, equal active", "total": "dense twin, equal total"}


class Full(NamedTuple):
    """One architecture under the scenario's work. `label` says whether it is as published."""

    label: str
    parameters: ParameterCount
    footprint: Footprint
    source: str

    @property
    def total(self) -> int:
        return self.footprint.total


class Room(NamedTuple):
    """What one kind of device has for the scenario. Bytes; None: does not fit at all, or on no number.

    usable: of one device. context, batch: the most that fit on one. devices: how many it takes.
    """

    usable: int
    context: int | None
    batch: int | None
    devices: int | None


def architectures() -> tuple[str, ...]:
    """Published mixtures, the default first."""
    names = [record.name for record in registry.records() if record.kind == "moe"]
    return tuple(sorted(names, key=lambda name: (name != ARCHITECTURE, name.lower())))


class Subject(NamedTuple):
    """What the scenario's architecture is: published, or the session's own (`record` None)."""

    name: str
    standing: str
    architecture: Architecture | None
    record: Record | None

    @property
    def source(self) -> str:
        """Where its sizes come from."""
        if self.record is None:
            return "from the configuration given here (closed form)"
        return f"from {self.record.sources[0]} ({self.record.verified.method})"


def subject(scenario: Scenario) -> Subject:
    """The scenario's architecture, before the scenario's own edit."""
    if scenario.own is not None:
        return Subject(scenario.own.name, "as given", scenario.own, None)
    record = registry.get(scenario.architecture)
    return Subject(record.name, "as published", record.architecture, record)


def full(scenario: Scenario) -> Full:
    """The mixture at full size: as published, or with the scenario's experts where it says so."""
    chosen = subject(scenario)
    return _full(label(scenario, chosen), model(scenario, chosen), scenario, chosen)


def room(scenario: Scenario, device: Device) -> Room:
    """How far the scenario goes on `device`."""
    chosen, work = subject(scenario), _work(scenario)
    setting = Setting(model(scenario, chosen), *formats(scenario, chosen))
    capacity = int(device.capacity)
    context = batch = number = None
    with suppress(InfeasibleError):
        number = devices(setting, work, capacity).parallel.devices
    with suppress(InfeasibleError):
        context = longest_context(setting, work, capacity)
    with suppress(InfeasibleError):
        batch = largest_batch(setting, work, capacity)
    return Room(usable(capacity), context, batch, number)


def architecture(scenario: Scenario, chosen: Subject) -> Architecture | None:
    """The architecture with the scenario's experts; None where only a record of sizes exists."""
    found, bank = chosen.architecture, scenario.bank
    if found is None or found.experts is None or bank is None or not scenario.edited:
        return found
    return mixture(found, *bank).model_copy(update={"name": name(scenario, chosen)})


def name(scenario: Scenario, chosen: Subject) -> str:
    """What the mixture is called: `Qwen3-30B-A3B`, or `Qwen3-30B-A3B, 64 experts, top-8`."""
    bank, published = scenario.bank, scenario.published
    if bank is None or published is None or chosen.architecture is None or bank == published:
        return chosen.name
    now, before = describe(*bank).split(", "), describe(*published).split(", ")
    changed = [word for word in now if word not in before] + (["no shared"] if len(now) < len(before) else [])
    return ", ".join([chosen.name, *changed])


def label(scenario: Scenario, chosen: Subject) -> str:
    """Its name, and whether it is as published or as given; edited, its name says how."""
    found = name(scenario, chosen)
    return f"{found} {chosen.standing}" if found == chosen.name else found


def model(scenario: Scenario, chosen: Subject) -> Model:
    """What the memory functions take."""
    found = architecture(scenario, chosen)
    if found is not None:
        return memory.model(found)
    assert chosen.record is not None, "what has no architecture has a record"
    return registry.model(chosen.record)


def formats(scenario: Scenario, chosen: Subject) -> tuple[Precision, Format]:
    """Of weights and cache: what is asked for, else as the model is stored. Raises ConfigError."""
    own = chosen.architecture or chosen.record
    assert own is not None, "what has no architecture has a record"
    return asked(scenario.precision) or own.stored, own.stored_kv


def _work(scenario: Scenario) -> Workload:
    return Workload(batch=scenario.batch, context=scenario.context)


def _full(name: str, sized: Model, scenario: Scenario, chosen: Subject) -> Full:
    precision, kv = formats(scenario, chosen)
    source = (
        f"{sized.name}: counted {chosen.source}; "
        f"weights in {words(precision)}, cache in {kv}, {scenario.batch} sequences of "
        f"{scenario.context:,} tokens; {HEADROOM:.0%} of each device left to framework and fragmentation"
    )
    found = memory.footprint(sized, _work(scenario), precision, kv)
    return Full(name, sized.parameters, found, source)
