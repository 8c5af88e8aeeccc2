"""`predict`: time of one step on a device nobody here has. `accuracy`: how far such predictions are off."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe_core.cli import host
from moe_core.cli.devices import HELP, named
from moe_core.cli.formats import STORED, Dtype, Experts, KvDtype, chosen
from moe_core.cli.model import Config, Name, sized, timed
from moe_core.cli.output import Json, answer, table
from moe_core.errors import ConfigError, short
from moe_core.formats import Format
from moe_core.hardware import Hardware
from moe_core.perf import fit
from moe_core.perf.memory import Workload, model
from moe_core.perf.precision import words
from moe_core.perf.shard import Parallel
from moe_core.perf.step_time import Step, token_flops, token_state
from moe_core.specs import MOST_TOKENS, Architecture, Precision
from moe_core.units import quantity, significant

if TYPE_CHECKING:  # it reads the tables: not for --help
    from moe_core.silicon.predict import Prediction

Phase = Annotated[str, typer.Option(help="decode: a token a sequence; prefill: whole prompts.")]
Ways = Annotated[
    int | None, typer.Option(help="Ways to split; the fewest that fit without pipeline stages if left out.")
]


def predict(
    hardware: Annotated[str, typer.Option(help=f"{HELP} Or the name its tables have: h100_sxm.")],
    name: Name = None,
    config: Config = None,
    phase: Phase = "decode",
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 1,
    context: Annotated[int, typer.Option(help="Tokens before this one, or tokens of the prompt.")] = 1024,
    dtype: Dtype = STORED,
    kv_dtype: KvDtype = STORED,
    experts_dtype: Experts = None,
    tensor: Ways = None,
    expert: Ways = None,
    framework: Annotated[str, typer.Option(help="vllm, sglang or trtllm.")] = "vllm",
    host_experts: host.Share = None,
    host_gbs: host.Memory = host.DESKTOP,
    as_json: Json = False,
) -> None:
    """Seconds of one prefill or decode step, from measured kernels where there are any."""
    from moe_core.silicon import systems
    from moe_core.silicon.predict import predict as prediction

    subject = sized(name, config)
    arch, device = timed(subject), systems.device(named(hardware))
    step, alone = _step(phase, batch, context), host_experts is not None
    precision, kv = chosen(arch, dtype, kv_dtype, experts_dtype)
    parallel = _parallel(arch, device, step, precision, kv, tensor, expert, alone)
    ask = partial(prediction, arch, device, step, framework=framework, check_memory=not alone)
    found = ask(precision=precision, kv=kv, parallel=parallel)
    asked = {
        **{"model": arch.name, "hardware": device.name, "device": device.title, "phase": phase},
        **{"batch": batch, "context": context, "dtype": dtype, "weights": words(precision), "cache": kv},
        **{"framework": framework, **_ways(parallel)},
        **{"notes": list(subject.notes), **_token(arch, device, parallel, found, step)},
    }
    lines = _lines(asked, found, step)
    if host_experts is not None:
        asked["host"], more = _hosted(found, arch, device, step, (precision, kv), (host_experts, host_gbs))
        lines += more
    answer(asked | _values(found, step), as_json, lines)


def _token(
    arch: Architecture, device: Hardware, parallel: Parallel, found: Prediction, step: Step
) -> dict[str, Any]:
    """What one token takes: joules, and of a written one the operations and the state kept of it."""
    values: dict[str, Any] = {"joules_per_token": _joules(device, parallel, found, step)}
    if not step.past:  # a prompt
        return values
    return values | {"token_flops": token_flops(arch, step.past), "token_state": token_state(step.past, arch)}


def _hosted(
    found: Prediction,
    arch: Architecture,
    device: Hardware,
    step: Step,
    formats: tuple[Precision, Format],
    asked: tuple[str, float],
) -> tuple[dict[str, Any], list[str]]:
    """The same step with experts in host memory, by the recorded popularity where there is one."""
    from moe_core.silicon.hosted import hosted

    if arch.experts is None:
        raise ConfigError(f"model ({arch.name}): is dense and has no experts for the host")
    load = host.popularity(arch.experts, step.batch)
    work = Workload(batch=step.batch, context=step.past + step.new)
    share, kept = host.hosted(fit.Setting(model(arch), *formats), work, device, *asked, load, step.tokens)
    times = hosted(found, kept)
    values = {**host.values(share, kept), "popularity": "recorded" if load else "even"}
    values |= {"step_moved": times.moved, "step_computed": times.computed}
    rates = [f"{step.tokens / seconds:,.1f} tokens a second" for seconds in times]
    words = [host.line(share, kept), f"moved: {rates[0]}; computed on the host: {rates[1]}"]
    return values, words


def accuracy(as_json: Json = False) -> None:
    """Errors of the predictions against everything that was measured; models left out in turn."""
    from moe_core.silicon.workshop import layer_accuracy, served

    report = served.report()
    layers = layer_accuracy.summary().to_dict("records")
    text = [*_score_lines(report), *_layer_lines(layers)]
    answer({"layers": layers, "served": report}, as_json, text)


def _step(phase: str, batch: int, context: int) -> Step:
    if phase not in ("prefill", "decode"):
        raise ConfigError(f"phase ({phase}): must be prefill or decode")
    if not 1 <= context < MOST_TOKENS:
        raise ConfigError(f"context ({short(context)}): must be at least 1 and below {MOST_TOKENS:,}")
    sizes = {"new": context} if phase == "prefill" else {"new": 1, "past": context}
    return Step.parse({"batch": batch, **sizes})


def _parallel(
    arch: Architecture,
    device: Hardware,
    step: Step,
    precision: Precision,
    kv: Format,
    tensor: int | None,
    expert: int | None,
    alone: bool,
) -> Parallel:
    """What was asked for, else one if `alone`, else the fewest that hold it as a group without stages."""
    asked = {name: ways for name, ways in (("tensor", tensor), ("expert", expert)) if ways is not None}
    if asked and alone:
        raise ConfigError("host_experts: is for one device, without --tensor and --expert")
    if asked or alone:
        return Parallel.parse(asked)
    setting = fit.Setting(model(arch), precision, kv)
    workload = Workload(batch=step.batch, context=step.past + step.new)
    return fit.devices(setting, workload, device.capacity, staged=False).parallel


def _joules(device: Hardware, parallel: Parallel, found: Prediction, step: Step) -> float | None:
    """Of this step alone, a token, every device at its power limit; None where nobody gave a figure."""
    return device.watts * parallel.devices * found.seconds / step.tokens if device.watts else None


def _values(found: Prediction, step: Step) -> dict[str, Any]:
    values = found._asdict()
    return {
        **values,
        "interval": [found.lower, found.upper],
        "tokens_per_second": step.tokens / found.seconds,
        "parts": [part._asdict() for part in found.parts],
    }


def _ways(parallel: Parallel) -> dict[str, Any]:
    return {"devices": parallel.devices, **parallel.model_dump(), "layout": parallel.words}


def _lines(asked: dict[str, Any], found: Prediction, step: Step) -> list[str]:
    where = f"{asked['devices']} x {asked['device']}"
    where += f" ({asked['layout']})" if asked["devices"] > 1 else ""
    head = f"{asked['model']}, {asked['phase']} of {asked['batch']} x {asked['context']} on {where}"
    low, high = quantity(found.lower, "s"), quantity(found.upper, "s")
    rows = [
        ["time", f"{quantity(found.seconds, 's')} (80 %: {low} to {high})"],
        ["tokens a second", f"{step.tokens / found.seconds:,.0f}"],
        ["energy a token", _energy(asked["joules_per_token"])],
        ["moved a device", quantity(found.bytes, "B")],
        ["multiplied a device", quantity(found.flops, "FLOP")],
        ["bound by", found.bound],
        ["source", found.source],
    ]
    if "token_flops" in asked:
        rows.append(["FLOPs a token", f"{quantity(asked['token_flops'], 'FLOP')}, {asked['token_state']}"])
    if found.distinct_experts is not None:
        rows.append(["experts hit a layer", f"{found.distinct_experts:.1f}"])
    parts = [["part", "time", "bound", "source"]]
    parts += [[part.name, quantity(part.seconds, "s"), part.bound, part.source] for part in found.parts]
    formats = f"weights in {asked['weights']}; cache in {asked['cache']}"
    return [head, formats, *asked["notes"], *table(rows), "", *table(parts)]


def _energy(joules: float | None) -> str:
    if joules is None:
        return "no power figure"
    return f"at most {significant(joules)} J, at the power limit"


def _score_lines(served: dict[str, Any]) -> list[str]:
    head = [
        "served models",
        "rows",
        "TPOT error",
        "median",
        "rank",
        "TTFT error",
        "TPOT error, model left out",
    ]
    rows = [
        [
            *(name, str(row["tpot"]["rows"]), f"{row['tpot']['mape']:.1%}", f"{row['tpot']['median']:.1%}"),
            *(f"{row['tpot']['spearman']:.3f}", f"{row['ttft']['mape']:.1%}"),
            f"{row['tpot_held']['mape']:.1%}",
        ]
        for name, row in served["scores"].items()
    ]
    left = [f"left out: {count} rows, {reason}" for reason, count in served["left_out"].items()]
    return [*table([head, *rows]), *left, ""]


def _layer_lines(layers: Sequence[Mapping[Hashable, Any]]) -> list[str]:
    head = ["MoE layer, architecture left out", "rows", "error", "median", "in its 80 % interval"]
    rows = [
        [
            *(f"{row['system']} {row['framework']} {row['dtype']}", f"{row['rows']:,}"),
            *(f"{row[key]:.1%}" for key in ("mape", "median", "coverage")),
        ]
        for row in layers
    ]
    return table([head, *rows])
