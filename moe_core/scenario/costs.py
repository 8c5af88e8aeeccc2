"""Costs: the scenario's mixture and what it is compared with, over batch and demand. No Streamlit here.

Every figure is of `moe_core.scenario.answer`: each model on the devices that it takes, planned anew at every
batch. What a step consists of is `moe_core.silicon.predict`, for the layout that is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import pandas as pd

from moe_core import registry
from moe_core.decide.serving import Serving
from moe_core.decide.spec import DecideSpec, Work
from moe_core.errors import ConfigError, InfeasibleError
from moe_core.hardware import Hardware
from moe_core.perf import economics, memory, twins
from moe_core.perf.device_model import Mixture
from moe_core.scenario import answer
from moe_core.scenario.decision import decision
from moe_core.scenario.devices import HERE
from moe_core.scenario.spec import Scenario
from moe_core.scenario.subject import TWINS, architecture, name, subject
from moe_core.silicon import layer
from moe_core.silicon.predict import Prediction
from moe_core.specs import Architecture

BATCHES = tuple(2**i for i in range(11))
Phase = Literal["decode", "prefill"]
STEPS = ("name", "model", "batch", "phase", "seconds", "lower", "upper", "bytes", "flops", "bound")


class Priced(NamedTuple):
    """A model that is priced. `model` is its role on charts: mixture or dense."""

    name: str
    model: str
    architecture: Architecture


class Study(NamedTuple):
    """What is priced: the mixture, what stands beside it, the question. `load`: recorded, None is even."""

    mixture: Priced
    rivals: tuple[Priced, ...]
    spec: DecideSpec
    load: tuple[float, ...] | None

    @property
    def subjects(self) -> tuple[Priced, ...]:
        return (self.mixture, *self.rivals)

    @property
    def hardware(self) -> Hardware:
        return self.spec.device

    @property
    def framework(self) -> str:
        return self.spec.framework

    @property
    def prompt(self) -> int:
        """Tokens read for each request."""
        return round(self.spec.workload.read)

    @property
    def past(self) -> int:
        """Tokens before the one that is written, in the middle of the answer."""
        return round(self.spec.workload.past)

    @property
    def written(self) -> int:
        return self.spec.workload.output

    @property
    def layer(self) -> Study:
        """What one layer on one device depends on: the same study without rivals, devices, money and work."""
        kept = ("mixture", "dense", "rule", "hardware", "precision", "kv", "framework")
        return self._replace(rivals=(), spec=DecideSpec(**{name: getattr(self.spec, name) for name in kept}))


def study(
    scenario: Scenario, framework: str, load: tuple[float, ...] | None, beside: str | None = None
) -> Study:
    """What the page is about. Raises ConfigError if it cannot be asked, InfeasibleError if nothing fits.

    `beside`: a published model to compare with as well.
    """
    if scenario.hardware == HERE:
        raise ConfigError(
            f"hardware ({HERE}): must be a listed device to be priced; its own times are on Speed"
        )
    chosen = subject(scenario)
    arch = architecture(scenario, chosen)
    if arch is None or arch.experts is None:
        raise ConfigError(
            f"architecture ({chosen.name}): must be a mixture whose layout is known to be priced"
        )
    spec = decision(scenario).model_copy(update={"framework": framework})
    mixture = Priced(name(scenario, chosen), "mixture", arch)
    answer.required(answer.alone(spec, arch, load))
    return Study(mixture, (*_twins(arch), *_beside(beside)), spec, load)


def _twins(arch: Architecture) -> list[Priced]:
    return [
        Priced(TWINS[one.rule], "dense", one.architecture) for one in twins.twins(arch) if one.rule in TWINS
    ]


def _beside(named: str | None) -> list[Priced]:
    arch = registry.get(named).architecture if named else None
    if arch is None or named is None:
        return []
    return [Priced(named, "dense" if arch.experts is None else "mixture", arch)]


def weight_bytes(form: str) -> float:
    """Bytes of a stored weight, scales included."""
    return layer.weight_bytes(form)


def layer_of(arch: Architecture) -> Mixture:
    """One MoE layer of the architecture."""
    bank = arch.experts
    assert bank is not None, "a mixture has experts"
    width = bank.shared_total_width
    return Mixture(arch.hidden, bank.width, bank.count, bank.top_k, width, arch.gated)


# -- steps -----------------------------------------------------------------------------------------


def served(of: Study, who: Priced, batch: int | None = None) -> Serving:
    """One model under the study's question, or at another batch, on the devices that it takes."""
    one = answer.alone(of.spec, who.architecture, of.load)
    return one if batch is None else answer.at(one, batch)


def step(of: Study, who: Priced, batch: int, phase: Phase = "decode") -> Prediction:
    """One step of one model on its devices. Raises InfeasibleError where the batch does not fit.

    Decode: the answer's seconds, which the parts share out. Prefill: whole prompts, all at once.
    """
    return _predicted(answer.required(served(of, who, batch)), phase)


def _predicted(one: Serving, phase: Phase) -> Prediction:
    return answer.step(one) if phase == "decode" else answer.prompts(one)


def steps(of: Study, phase: Phase, batches: Sequence[int] = BATCHES) -> pd.DataFrame:
    """A row a model and batch that fits: `STEPS`, distinct, source, devices, rate (decoding alone)."""
    rows: list[dict[str, Any]] = []
    for who in of.subjects:
        with suppress(InfeasibleError):  # larger batches do not fit either
            for batch in batches:
                rows.append(_row(of, who, batch, phase))
    return pd.DataFrame(rows)


def _row(of: Study, who: Priced, batch: int, phase: Phase) -> dict[str, Any]:
    one = answer.required(served(of, who, batch))
    found = _predicted(one, phase)
    known = {name: getattr(found, name) for name in STEPS[4:]}
    return {
        **{"name": who.name, "model": who.model, "batch": batch, "phase": phase},
        **known,
        **{"distinct": found.distinct_experts, "source": found.source},
        **{"devices": one.devices, "rate": answer.rate(one)},
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
    """Decoding `steps` with dollars for a million tokens, decoding alone, and their interval."""
    dollars = price / economics.HOUR * 1e6
    return frame.assign(
        dollars=dollars / frame["rate"],
        dollars_low=dollars * frame["devices"] * frame["lower"] / frame["batch"],
        dollars_high=dollars * frame["devices"] * frame["upper"] / frame["batch"],
    )


def over_demand(frame: pd.DataFrame, price: float) -> pd.DataFrame:
    """name, model, demand (tokens a second), copies, utilisation, dollars: whole copies at their best.

    A copy is the model on its devices at the batch whose tokens cost least.
    """
    best = frame.assign(rate=frame["batch"] / frame["seconds"], each=frame["seconds"] * frame["devices"])
    best = best.assign(each=best["each"] / best["batch"])
    best = best.loc[best.groupby("name", sort=False)["each"].idxmin()]
    most = float(best["rate"].max())
    demands = [most * 4 * 2 ** (-i / 4) for i in range(56, -1, -1)]
    rows = []
    for one in best.to_dict("records"):
        for demand in demands:
            found = economics.serve(demand, float(one["rate"]), price, int(one["devices"]))
            rows.append(
                (one["name"], one["model"], demand, found.copies, found.utilisation, found.per_million)
            )
    return pd.DataFrame(rows, columns=["name", "model", "demand", "copies", "utilisation", "dollars"])


def cache_bytes(of: Study, batches: Sequence[int] = BATCHES) -> pd.DataFrame:
    """batch, part, bytes that a decode step of the mixture reads on the busiest device: weights, cache."""
    kept = memory.model(of.mixture.architecture).cache
    rows = []
    for batch in batches:
        with suppress(InfeasibleError):
            found = step(of, of.mixture, batch)
            devices = served(of, of.mixture, batch).devices
            held = batch * kept.sequence_bytes(of.past, of.spec.cache(of.mixture.architecture)) / devices
            cache = min(held, float(found.bytes))
            rows += [(batch, "KV cache and state", cache), (batch, "weights", found.bytes - cache)]
    return pd.DataFrame(rows, columns=["batch", "part", "bytes"])


def crossings(of: Study, rival: Priced, phase: Phase = "decode") -> list[tuple[int, str]]:
    """Batches at which mixture and rival change places, and who is the faster from there on."""
    most = min((_most(of, one, phase) for one in (of.mixture, rival)), default=0)
    points = [batch for batch in BATCHES if batch <= most]

    def difference(batch: int) -> float:
        return step(of, of.mixture, batch, phase).seconds - step(of, rival, batch, phase).seconds

    found = economics.crossings(difference, points) if len(points) > 1 else []
    return [(batch, of.mixture.name if difference(batch) < 0 else rival.name) for batch in found]


LONG = 8192  # tokens of a long prompt


class Slowness(NamedTuple):
    """Times of the mixture over those of a dense model of its active size, on as many devices.

    batch: of the step. distinct: experts of one layer that its tokens wake. one, prompt: the ratio at batch 1
    and for the first token of a long prompt.
    """

    batch: float
    ratio: float
    distinct: float
    one: float
    prompt: float


def slowness(of: Study) -> Slowness | None:
    """Does a token cost what its active parameters would? None where no dense model is so small."""
    try:
        active = twins.twin(of.mixture.architecture, "active").architecture
    except InfeasibleError:
        return None
    asked = served(of, of.mixture)
    work = of.spec.workload.model_copy(update={"batch": 1, "traffic": None})
    context = min(LONG + work.output, of.mixture.architecture.max_positions)
    long = work.model_copy(update={"context": context, "prompt": context - work.output})

    def ratio(work: Work, read: Callable[[Serving], float]) -> float:
        spec = of.spec.model_copy(update={"workload": work, "devices": asked.devices})
        both = (answer.alone(spec, arch, of.load) for arch in (of.mixture.architecture, active))
        mixture, dense = (read(one) for one in both)
        return mixture / dense

    token: Callable[[Serving], float] = lambda one: one.step.seconds  # noqa: E731
    return Slowness(
        batch=asked.batch,
        ratio=ratio(work.model_copy(update={"batch": asked.batch}), token),
        distinct=asked.step.distinct or 0.0,
        one=ratio(work, token),
        prompt=ratio(long, lambda one: one.first.seconds),
    )


def _most(of: Study, who: Priced, phase: Phase) -> int:
    most = 0
    with suppress(InfeasibleError):
        for batch in BATCHES:
            step(of, who, batch, phase)
            most = batch
    return most
