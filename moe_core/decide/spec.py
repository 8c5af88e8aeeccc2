"""Spec: what is to be decided. A preset and two model names suffice; everything said beside them wins.

Times in milliseconds, sizes of devices in 10^9 bytes, money in US dollars.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from moe_core import hardware
from moe_core.decide import rules
from moe_core.decide.rules import Skill, Weight
from moe_core.errors import ConfigError
from moe_core.formats import Format
from moe_core.hardware import Hardware
from moe_core.perf import precision
from moe_core.perf.precision import STORED
from moe_core.perf.shard import Parallel
from moe_core.specs import LEAST, Architecture, Devices, Precision, Spec, Tokens

RuleName = Literal["active", "total", "sqrt", "epoch", "published", "own"]
Training = Literal["none", "fine-tune", "from scratch"]
Positive = Annotated[float, Field(ge=LEAST, le=1e9, strict=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
DeviceName = Annotated[str, Field(min_length=1, max_length=hardware.LONGEST)]  # or one's own, its line


class Work(Spec):
    """What is served. `context` tokens are kept of each sequence when it ends, `output` of them written.

    `prompt` tokens are read for each request; what is left of the context is history already in the cache.
    None reads everything but the output. `traffic` (requests a second) takes the place of `batch`.
    """

    batch: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    traffic: Positive | None = None
    context: Tokens = 4096
    prompt: Tokens | None = None
    output: Tokens = 256
    latency_ms: Positive | None = None
    ttft_ms: Positive | None = None

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.output >= self.context:
            raise ValueError(f"output ({self.output}) must be less than context ({self.context})")
        if self.prompt is not None and self.prompt + self.output > self.context:
            raise ValueError(
                f"prompt ({self.prompt}) and output ({self.output}) must fit into context ({self.context})"
            )
        return self

    @property
    def read(self) -> float:
        """Tokens read for each request."""
        return max(self.context - self.output, 1) if self.prompt is None else self.prompt

    @property
    def cached(self) -> float:
        """Tokens in the cache before a request is read."""
        return max(self.context - self.output - self.read, 0)

    @property
    def past(self) -> float:
        """Tokens behind the one in the middle of the answer: the mean over all that are written."""
        return max(self.context - self.output / 2, 1)


class Team(Spec):
    """What the team does beside serving, and whether it has trained routers before."""

    training: Training = "none"
    skill: Skill = "some"


class DecideSpec(Spec):
    """One decision. `dense` or `rule` says what the mixture is compared with; both: the rule is only named.

    devices: of `hardware`, for each candidate; None: its own, as few as do.
    parallel: how the mixture is laid over them; None tries every way.
    precision, kv: of weights and cache; `stored` is each model's own, as its makers publish it.
    capacity_gb, price (a device and hour), link_gbs (both directions): in place of the data file's.
    budget: dollars a million output tokens. weights: factors in place of the preset's.
    """

    preset: Name | None = None
    mixture: Name | Architecture
    dense: Name | Architecture | None = None
    rule: RuleName | None = None
    hardware: DeviceName = "H100"
    devices: Devices | None = None
    parallel: Parallel | None = None
    precision: Name | Precision = STORED
    kv: Name = STORED
    framework: Literal["vllm", "sglang"] = "vllm"
    workload: Work = Work()
    budget: Positive | None = None
    price: Positive | None = None
    capacity_gb: Positive | None = None
    link_gbs: Positive | None = None
    team: Team = Team()
    task: Name = "chat"
    weights: dict[str, Weight] = Field(default={})

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.dense is None and self.rule in (None, "own"):
            raise ValueError("dense (None) must be given where rule names no way to find it")
        if self.parallel is not None and self.devices not in (None, self.parallel.devices):
            raise ValueError(
                f"parallel ({self.parallel.devices} devices) must use devices ({self.devices}), all of them"
            )
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From untrusted values, the preset filled in below them. Raises ConfigError: field, value, rule."""
        filled = _filled(dict(values))
        spec = cls.parse_json(json.dumps(filled, default=_plain))
        spec.device, spec.asked, spec.asked_kv  # noqa: B018 -- all raise what a user can mend
        rules.task(spec.task)
        rules.check_weights(spec.weights)
        return spec

    @property
    def equal(self) -> int | None:
        """The number of devices that both candidates have; None where each has its own."""
        return self.devices if self.parallel is None else self.parallel.devices

    @property
    def listed(self) -> Hardware:
        """One device as the data file has it. Raises ConfigError with close matches."""
        return _device(self.hardware)

    @property
    def device(self) -> Hardware:
        """One device, with what the spec says in place of the data file."""
        return _changed(self.hardware, self.capacity_gb, self.price, self.link_gbs)

    @property
    def asked(self) -> Precision | None:
        """The formats of the weights, None as stored. Raises ConfigError for what does not exist."""
        return self.precision if isinstance(self.precision, Precision) else precision.asked(self.precision)

    @property
    def asked_kv(self) -> Format | None:
        """The format of the cache, None as stored. Raises ConfigError."""
        return precision.asked_cache(self.kv)

    def formats(self, model: Architecture) -> Precision:
        """The formats of a model's weights under this question."""
        return self.asked or model.stored

    def cache(self, model: Architecture) -> Format:
        """The format of its cache."""
        return self.asked_kv or model.stored_kv

    @property
    def importance(self) -> dict[str, float]:
        """Every factor's weight: the user's, else the preset's, else its own."""
        chosen = rules.preset(self.preset).weights if self.preset else {}
        own = {name: rule.weight for name, rule in rules.factors().items()}
        return {**own, **chosen, **self.weights}


@lru_cache(maxsize=1024)
def _device(name: str) -> Hardware:
    return hardware.get(name)


@lru_cache(maxsize=1024)
def _changed(name: str, capacity_gb: float | None, price: float | None, link_gbs: float | None) -> Hardware:
    """A device with other figures than the data file's."""
    own: dict[str, Any] = {"capacity_gb": capacity_gb, "usd_per_hour": price, "link_gbs": link_gbs}
    changes = {key: value for key, value in own.items() if value is not None}
    return _device(name).model_copy(update=changes | ({"reported_mib": None} if capacity_gb else {}))


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    """The preset's workload and task below what was said."""
    name = values.get("preset")
    if not isinstance(name, str):
        return values
    found = rules.preset(name)
    said = values.get("workload")
    said = dict(said) if isinstance(said, Mapping) else said
    if said is None or isinstance(said, dict):
        values["workload"] = _below(found.workload, said or {})
    values.setdefault("task", found.task)
    if values.get("parallel") is None:
        values.setdefault("devices", found.devices)
    return {**values, "preset": found.id}


def _below(preset: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """A shorter context than the preset's shortens what would no longer fit into it."""
    merged = {**preset, **said}
    context = merged.get("context")
    if isinstance(context, int) and not isinstance(context, bool):
        for name, share in (("output", 4), ("prompt", 2)):
            if name not in said and isinstance(merged.get(name), int):
                merged[name] = min(merged[name], max(context // share, 1))
    return merged


def _plain(value: object) -> Any:
    if isinstance(value, Spec):
        return value.model_dump(mode="json")
    raise ConfigError(f"spec ({str(value)[:40]}): must hold plain values")
