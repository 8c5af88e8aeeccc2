"""Costs: the scenario's architecture and its rivals on the scenario's hardware. No Streamlit here.

Every model gets the devices that hold it: as planned, else the fewest that do; rivals as many as the mixture
where that is enough. Times are of `moe_core.silicon.predict`: measured where tables hold the shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import pandas as pd

from app.capacity import Plan
from moe_core import hardware, registry
from moe_core.errors import ConfigError, InfeasibleError
from moe_core.hardware import Hardware
from moe_core.perf import dense_equivalent, economics, fit, memory
from moe_core.perf.device_model import Mixture
from moe_core.perf.memory import Workload
from moe_core.perf.ops import Step
from moe_core.perf.shard import Parallel
from moe_core.scenario import subject as fullsize
from moe_core.scenario.devices import HERE
from moe_core.scenario.spec import Scenario
from moe_core.scenario.subject import TWINS
from moe_core.silicon import layer_tables
from moe_core.silicon.predict import Prediction, predict
from moe_core.specs import Architecture

BATCHES = tuple(2**i for i in range(11))
Phase = Literal["decode", "prefill"]
STEPS = ("name", "model", "batch", "phase", "seconds", "lower", "upper", "bytes", "flops", "bound")


class Subject(NamedTuple):
    """A model and the devices it runs on. `model` is its role on charts: mixture or dense."""

    name: str
    model: str
    architecture: Architecture
    parallel: Parallel

    @property
    def devices(self) -> int:
        return self.parallel.devices


class Study(NamedTuple):
    """What is priced: the mixture, what it is compared with, and the work. `load`: recorded, None is even."""

    mixture: Subject
    rivals: tuple[Subject, ...]
    hardware: Hardware
    plan: Plan
    prompt: int
    past: int  # tokens before the one that is written, half way through the answer
    written: int
    framework: str
    load: tuple[float, ...] | None

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return (self.mixture, *self.rivals)

    @property
    def layer(self) -> Study:
        """What one layer on one device depends on: the same study without rivals, split and work."""
        alone = self.mixture._replace(parallel=Parallel())
        return self._replace(mixture=alone, rivals=(), prompt=1, past=1, written=1)


def study(
    scenario: Scenario, plan: Plan, framework: str, load: tuple[float, ...] | None, beside: str | None = None
) -> Study:
    """What the page is about. Raises ConfigError if it cannot be asked, InfeasibleError if nothing fits.

    `beside`: a published model to compare with as well.
    """
    if scenario.hardware == HERE:
        raise ConfigError(
            f"hardware ({HERE}): must be a listed device to be priced; its own times are on Speed"
        )
    device, chosen = hardware.get(scenario.hardware), fullsize.subject(scenario)
    arch = fullsize.architecture(scenario, chosen)
    if arch is None or arch.experts is None:
        raise ConfigError(
            f"architecture ({chosen.name}): must be a mixture whose layout is known to be priced"
        )
    write, prompt = scenario.answer, scenario.cached + scenario.prompt
    work = Workload(batch=scenario.batch, context=scenario.context)
    label = fullsize.label(scenario, chosen).removesuffix(" as published")
    mixture = Subject(label, "mixture", arch, _layout(arch, plan, work, device))
    rivals = [*_twins(arch, mixture, plan, work, device), *_beside(beside, mixture, plan, work, device)]
    return Study(mixture, tuple(rivals), device, plan, prompt, prompt + write // 2, write, framework, load)


def _layout(arch: Architecture, plan: Plan, work: Workload, device: Hardware) -> Parallel:
    """The plan's split, else the fewest devices that hold it. Raises InfeasibleError with the numbers."""
    setting = fit.Setting(memory.model(arch), plan.precision, plan.kv)
    if plan.devices > 1:
        fit.require(setting, work, device.capacity, plan.parallel)
        return plan.parallel
    return fit.devices(setting, work, device.capacity).parallel


def _twins(
    arch: Architecture, mixture: Subject, plan: Plan, work: Workload, device: Hardware
) -> list[Subject]:
    found = []
    for twin in dense_equivalent.twins(arch):
        if twin.rule in TWINS:
            with suppress(InfeasibleError):
                split = _as_many(twin.architecture, mixture.devices, plan, work, device)
                found.append(Subject(TWINS[twin.rule], "dense", twin.architecture, split))
    return found


def _beside(
    name: str | None, mixture: Subject, plan: Plan, work: Workload, device: Hardware
) -> list[Subject]:
    arch = registry.get(name).architecture if name else None
    if arch is None or name is None:
        return []
    with suppress(InfeasibleError):
        split = _as_many(arch, mixture.devices, plan, work, device)
        return [Subject(name, "dense" if arch.experts is None else "mixture", arch, split)]
    return []


def _as_many(arch: Architecture, many: int, plan: Plan, work: Workload, device: Hardware) -> Parallel:
    """`many` devices, tensors split; the fewest that hold it where those do not."""
    setting = fit.Setting(memory.model(arch), plan.precision, plan.kv)
    split = Parallel(tensor=many)
    with suppress(InfeasibleError):
        fit.require(setting, work, device.capacity, split)
        return split
    return fit.devices(setting, work, device.capacity).parallel


def listed_price(name: str) -> float | None:
    """US dollars an hour in the data file; None where it has none."""
    with suppress(ConfigError):
        return hardware.get(name).usd_per_hour or None
    return None


def weight_bytes(form: str) -> float:
    """Bytes of a stored weight, scales included."""
    return layer_tables.weight_bytes(form)


def layer_of(arch: Architecture) -> Mixture:
    """One MoE layer of the architecture."""
    bank = arch.experts
    assert bank is not None, "a mixture has experts"
    width = bank.shared_total_width
    return Mixture(arch.hidden, bank.width, bank.count, bank.top_k, width, arch.gated)


# -- steps -----------------------------------------------------------------------------------------


def step(of: Study, who: Subject, batch: int, phase: Phase = "decode") -> Prediction:
    """One step of one model. Raises InfeasibleError where the batch does not fit."""
    asked = Step(batch=batch, new=1, past=of.past) if phase == "decode" else Step(batch=batch, new=of.prompt)
    return predict(
        who.architecture,
        of.hardware,
        asked,
        precision=of.plan.precision,
        kv=of.plan.kv,
        parallel=who.parallel,
        framework=of.framework,
        load=of.load,
    )


def steps(of: Study, phase: Phase, batches: Sequence[int] = BATCHES) -> pd.DataFrame:
    """A row a model and batch that fits: `STEPS`, distinct, source, devices."""
    rows: list[dict[str, Any]] = []
    for who in of.subjects:
        with suppress(InfeasibleError):  # larger batches do not fit either
            for batch in batches:
                rows.append(_row(who, batch, phase, step(of, who, batch, phase)))
    return pd.DataFrame(rows)


def _row(who: Subject, batch: int, phase: Phase, found: Prediction) -> dict[str, Any]:
    known = {name: getattr(found, name) for name in STEPS[4:]}
    return {
        **{"name": who.name, "model": who.model, "batch": batch, "phase": phase},
        **known,
        **{"distinct": found.distinct_experts, "source": found.source, "devices": who.devices},
    }


def parts(of: Study, phase: Phase, batches: Iterable[int]) -> pd.DataFrame:
    """batch, part, component, seconds, bytes, flops, bound, source of the mixture's steps."""
    rows = []
    for batch in batches:
        with suppress(InfeasibleError):
            found = step(of, of.mixture, batch, phase)
            rows += [{"batch": batch, **part._asdict()} for part in found.parts]
    return pd.DataFrame(rows).rename(columns={"name": "part"})


def rates(frame: pd.DataFrame, price: float) -> pd.DataFrame:
    """`steps` with tokens a second of one device, and dollars for a million tokens with their interval."""
    each = frame["batch"] / frame["seconds"] / frame["devices"]
    dollars = price / economics.HOUR * 1e6
    return frame.assign(
        rate=each,
        dollars=dollars / each,
        dollars_low=dollars * frame["devices"] * frame["lower"] / frame["batch"],
        dollars_high=dollars * frame["devices"] * frame["upper"] / frame["batch"],
    )


def over_demand(frame: pd.DataFrame, price: float) -> pd.DataFrame:
    """name, model, demand (tokens a second), copies, utilisation, dollars: whole copies at their best."""
    best = frame.assign(rate=frame["batch"] / frame["seconds"])
    best = best.loc[best.groupby("name", sort=False)["rate"].idxmax()]
    most = float(best["rate"].max())
    demands = [most * 4 * 2 ** (-i / 4) for i in range(56, -1, -1)]
    rows = []
    for one in best.to_dict("records"):
        for demand in demands:
            served = economics.serve(demand, float(one["rate"]), price, int(one["devices"]))
            rows.append(
                (one["name"], one["model"], demand, served.copies, served.utilisation, served.per_million)
            )
    return pd.DataFrame(rows, columns=["name", "model", "demand", "copies", "utilisation", "dollars"])


def cache_bytes(of: Study, batches: Sequence[int] = BATCHES) -> pd.DataFrame:
    """batch, part, bytes that a decode step of the mixture reads on all devices: weights touched, cache."""
    kept = memory.model(of.mixture.architecture).cache
    rows = []
    for batch in batches:
        with suppress(InfeasibleError):
            found = step(of, of.mixture, batch)
            held = batch * kept.sequence_bytes(of.past, of.plan.kv) / of.mixture.devices
            cache = min(held, float(found.bytes))
            rows += [(batch, "KV cache and state", cache), (batch, "weights", found.bytes - cache)]
    return pd.DataFrame(rows, columns=["batch", "part", "bytes"])


def crossings(of: Study, rival: Subject, phase: Phase = "decode") -> list[tuple[int, str]]:
    """Batches at which mixture and rival change places, and who is the faster from there on."""
    most = min((_most(of, one, phase) for one in (of.mixture, rival)), default=0)
    points = [batch for batch in BATCHES if batch <= most]

    def difference(batch: int) -> float:
        return step(of, of.mixture, batch, phase).seconds - step(of, rival, batch, phase).seconds

    found = economics.crossings(difference, points) if len(points) > 1 else []
    return [(batch, of.mixture.name if difference(batch) < 0 else rival.name) for batch in found]


def _most(of: Study, who: Subject, phase: Phase) -> int:
    most = 0
    with suppress(InfeasibleError):
        for batch in BATCHES:
            step(of, who, batch, phase)
            most = batch
    return most
