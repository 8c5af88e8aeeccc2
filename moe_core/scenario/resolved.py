"""Resolved: one model of a scenario with nothing left to look up by name but the device.

The URL's parameters say what a user chose; this says what that meant, the whole architecture included,
so that an imported or edited model can be computed again elsewhere. Reviews and manifests keep it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field, model_validator

from moe_core import hardware, registry
from moe_core.decide import rules
from moe_core.decide.case import Recorded
from moe_core.decide.spec import DecideSpec, Name, RuleName, Team, Work
from moe_core.errors import ConfigError, MoEScopeError
from moe_core.formats import Format
from moe_core.perf import memory
from moe_core.perf.fit import Setting
from moe_core.perf.memory import Model, Workload
from moe_core.perf.precision import STORED
from moe_core.perf.shard import Parallel
from moe_core.scenario import devices, subject
from moe_core.scenario.decision import decision
from moe_core.scenario.spec import AUTO, PRESET, Scenario
from moe_core.specs import LEAST, Architecture, Devices, Precision, RunSpec, Size, Spec, Tokens
from moe_core.units import GIGA

Load = Annotated[tuple[Annotated[float, Field(ge=0, le=1e12)], ...], Field(min_length=1)]
Limit = Annotated[float, Field(ge=LEAST, le=1e9)]


class Aims(Spec):
    """What a verdict rests on beside devices and work.

    rival: as a link says it; `dense` or `rule`: who that is. task: None the preset's.
    weights: factors moved away from the preset's.
    """

    preset: Name = PRESET
    rival: Name = AUTO
    dense: Name | Architecture | None = None
    rule: RuleName | None = None
    budget: Limit | None = None
    task: Name | None = None
    team: Team = Team()
    weights: tuple[tuple[Name, Annotated[float, Field(ge=0, le=1e6)]], ...] = ()


def aims(scenario: Scenario) -> Aims | None:
    """Those of a scenario; None where no verdict can be asked of it."""
    with suppress(MoEScopeError):
        asked = decision(scenario)
        same = {name: getattr(scenario, name) for name in ("preset", "rival", "budget", "task", "weights")}
        return Aims(**same, dense=asked.dense, rule=asked.rule, team=asked.team)
    return None


class Resolved(Spec):
    """One scenario. `record` names a registered model where no closed form covers its architecture.

    capacity: bytes of one device. context: tokens kept of a sequence when it ends, `write` of them written;
    prompt: tokens read for it, None all the others. traffic (requests a second) takes the place of batch.
    devices: asked for, None the model's own fewest; parallel: a layout asked for, one device is none.
    price: US dollars for a device and hour, None takes the data file's. load: shares of the experts by rank,
    as recorded; None is even. run: what the test model is asked, and `heard` who recorded the load;
    origin: who was to (`moe_core.scenario.origin`).
    aims: None in files of older versions, and where no verdict can be asked.
    """

    label: Annotated[str, Field(max_length=400)]
    architecture: Architecture | None = None
    record: str | None = None
    hardware: str
    capacity: Annotated[int, Field(ge=1, le=10**18)]
    batch: Size
    context: Tokens
    write: Tokens = 64
    precision: Precision = Precision()
    kv: Format = "bf16"
    parallel: Parallel = Parallel()
    price: Annotated[float, Field(ge=LEAST, le=1e6)] | None = None
    run: RunSpec | None = None
    prompt: Tokens | None = None
    traffic: Limit | None = None
    latency_ms: Limit | None = None
    ttft_ms: Limit | None = None
    devices: Devices | None = None
    link_gbs: Limit | None = None
    load: Load | None = None
    heard: Annotated[str, Field(max_length=400)] | None = None
    origin: Annotated[str, Field(pattern=r"\A(auto|even|test|[0-9a-f]{16})\z")] = AUTO
    aims: Aims | None = None

    @model_validator(mode="after")
    def _something(self) -> Resolved:
        if self.architecture is None and self.record is None:
            raise ValueError("architecture (None): must be given where no record is named")
        return self

    @classmethod
    def of(cls, values: dict[str, Any]) -> Resolved:
        """From the JSON of a manifest or a review. Raises ConfigError."""
        return cls.parse_json(json.dumps(values))

    @property
    def model(self) -> Model:
        """What the memory functions take."""
        if self.architecture is not None:
            return memory.model(self.architecture)
        assert self.record is not None, "checked above"
        return registry.model(registry.get(self.record))

    @property
    def bank(self) -> tuple[int, int] | None:
        """Routed experts of a layer and top-k; None for a dense model."""
        routing = self.model.routing
        return None if routing is None else (routing[1], routing[0])

    @property
    def setting(self) -> Setting:
        return Setting(self.model, self.precision, self.kv)

    @property
    def work(self) -> Workload:
        return self.work_of(self.batch, self.context)

    def work_of(self, batch: int, context: int) -> Workload:
        """Another amount of the same work."""
        return Workload(batch=batch, context=context)

    @property
    def timed(self) -> bool:
        """Whether there is a time: the architecture is known in full and the device has a data sheet."""
        try:
            hardware.get(self.hardware)
        except ConfigError:
            return False
        return self.architecture is not None

    @property
    def question(self) -> DecideSpec:
        """The question as the engine is asked it. Raises ConfigError."""
        assert self.architecture is not None, "only what has a time is asked"
        listed = hardware.get(self.hardware)
        own = None if listed.capacity == self.capacity else self.capacity / GIGA
        alone = self.parallel.devices == 1
        context = max(self.context, 2)  # one token is there before the first is written
        work = {name: getattr(self, name) for name in ("batch", "traffic", "prompt", "latency_ms", "ttft_ms")}
        return DecideSpec(
            mixture=self.architecture,
            dense=self.architecture,  # nobody asks this one: a question has two sides
            hardware=listed.name,
            devices=self.devices if alone else self.parallel.devices,
            parallel=None if alone else self.parallel,
            precision=STORED if self.precision == self.architecture.stored else self.precision,
            kv=STORED if self.kv == self.architecture.stored_kv else self.kv,
            workload=Work(context=context, output=min(self.write, context - 1), **work),
            price=self.price,
            capacity_gb=own,
            link_gbs=self.link_gbs,
            **self._aimed(),
        )

    def _aimed(self) -> dict[str, Any]:
        """The aims as the engine takes them."""
        aims = self.aims
        if aims is None:
            return {}
        task = aims.task or rules.preset(aims.preset).task
        same = {name: getattr(aims, name) for name in ("preset", "budget", "team")}
        return {**same, "task": task, "weights": dict(aims.weights)}


def resolve(scenario: Scenario, recorded: Recorded | None = None) -> Resolved:
    """The scenario's mixture in full, its work, formats and devices, and the load recorded for it."""
    chosen = subject.subject(scenario)
    arch = subject.architecture(scenario, chosen)
    precision, kv = subject.formats(scenario, chosen)
    same = {name: getattr(scenario, name) for name in _SAME}
    return Resolved(
        **same,
        latency_ms=scenario.targets["latency_ms"],
        ttft_ms=scenario.targets["ttft_ms"],
        label=subject.label(scenario, chosen)[:400],
        architecture=arch,
        record=chosen.record.name if arch is None and chosen.record else None,
        capacity=int(devices.get(scenario.hardware).capacity),
        write=scenario.answer,
        precision=precision,
        kv=kv,
        run=scenario._replace(text=None).run_spec(),
        load=None if recorded is None else recorded.load,
        heard=None if recorded is None else recorded.source[:400],
        origin=scenario.load,
        aims=aims(scenario),
    )


_SAME = (
    *("hardware", "batch", "context", "prompt", "traffic"),
    *("devices", "price", "link_gbs"),
)
