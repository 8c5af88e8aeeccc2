"""Resolved: a scenario with nothing left to look up by name but the device. What its numbers need.

The URL's parameters say what a user chose; this says what that meant, the whole architecture included,
so that an imported or edited model can be computed again elsewhere.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, model_validator

from moe_core import registry
from moe_core.perf import memory
from moe_core.perf.fit import Setting
from moe_core.perf.memory import Model, Workload
from moe_core.perf.precision import Format, Precision
from moe_core.perf.shard import Parallel
from moe_core.specs import Architecture, RunSpec, Size, Spec


class Resolved(Spec):
    """One scenario. `record` names a registered model where no closed form covers its architecture.

    capacity: bytes of one device. write: tokens written for each sequence. price: US dollars for a device
    and hour, None takes the data file's.
    run: what the scale model is asked.
    """

    label: Annotated[str, Field(max_length=400)]
    architecture: Architecture | None = None
    record: str | None = None
    hardware: str
    capacity: Annotated[int, Field(ge=1)]
    batch: Size
    context: Size
    write: Size = 64
    precision: Precision = Precision()
    kv: Format = "bf16"
    parallel: Parallel = Parallel()
    price: Annotated[float, Field(gt=0, le=1e6)] | None = None
    run: RunSpec | None = None

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
    def setting(self) -> Setting:
        return Setting(self.model, self.precision, self.kv)

    @property
    def work(self) -> Workload:
        return self.work_of(self.batch, self.context)

    def work_of(self, batch: int, context: int) -> Workload:
        """Another amount of the same work."""
        return Workload(batch=batch, context=context)
