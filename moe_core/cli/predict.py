"""`predict`: time of one step on a device nobody here has. `accuracy`: how far such predictions are off."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe_core import registry
from moe_core.cli.devices import HELP, named
from moe_core.cli.output import Json, answer, table
from moe_core.errors import ConfigError
from moe_core.hardware import Hardware
from moe_core.perf import fit
from moe_core.perf.memory import Workload, model
from moe_core.perf.precision import BITS, Format, Precision
from moe_core.perf.shard import Parallel
from moe_core.perf.step_time import Step, token_flops, token_state
from moe_core.specs import Architecture
from moe_core.units import quantity, significant

if TYPE_CHECKING:  # it reads the tables: not for --help
    from moe_core.silicon.predict import Prediction

_DTYPE = f"One of {', '.join(BITS)}."
Ways = Annotated[int | None, typer.Option(help="Ways to split; the fewest devices that fit if left out.")]


def predict(
    name: Annotated[str, typer.Option("--model", help="A registered model, any case.")],
    hardware: Annotated[str, typer.Option(help=f"{HELP} Or the name its tables have: h100_sxm.")],
    phase: Annotated[
        str, typer.Option(help="decode: a token a sequence; prefill: whole prompts.")
    ] = "decode",
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 1,
    context: Annotated[int, typer.Option(help="Tokens before this one, or tokens of the prompt.")] = 1024,
    dtype: Annotated[str, typer.Option(help=_DTYPE)] = "bf16",
    kv_dtype: Annotated[str, typer.Option(help=_DTYPE)] = "bf16",
    experts_dtype: Annotated[str | None, typer.Option(help="Another format for the experts alone.")] = None,
    tensor: Ways = None,
    expert: Ways = None,
    framework: Annotated[str, typer.Option(help="vllm, sglang or trtllm.")] = "vllm",
    as_json: Json = False,
) -> None:
    """Seconds of one prefill or decode step, from measured kernels where there are any."""
    from moe_core.silicon import systems
    from moe_core.silicon.predict import predict as prediction

    arch, device = _architecture(name), systems.device(named(hardware))
    step = _step(phase, batch, context)
    precision = Precision(
        default=_format("dtype", dtype),
        experts=_format("experts_dtype", experts_dtype) if experts_dtype else None,
    )
    kv = _format("kv_dtype", kv_dtype)
    parallel = _parallel(arch, device, step, precision, kv, tensor, expert)
    found = prediction(arch, device, step, precision=precision, kv=kv, parallel=parallel, framework=framework)
    asked = {
        **{"model": arch.name, "hardware": device.name, "device": device.title},
        **{"phase": phase, "batch": batch, "context": context},
        **{"dtype": dtype, "framework": framework, "devices": parallel.devices},
        **{"tensor": parallel.tensor, "expert": parallel.expert},
    }
    if phase == "decode":
        asked |= {"token_flops": token_flops(arch, context), "token_state": token_state(context, arch)}
    asked["joules_per_token"] = _joules(device, parallel, found, step)
    answer(asked | _values(found, step), as_json, _lines(asked, found, step))


def accuracy(as_json: Json = False) -> None:
    """Errors of the predictions against everything that was measured; models left out in turn."""
    from moe_core.silicon.workshop import layer_accuracy, served

    report = served.report()
    layers = layer_accuracy.summary().to_dict("records")
    text = [*_score_lines(report), *_layer_lines(layers)]
    answer({"layers": layers, "served": report}, as_json, text)


def _architecture(name: str) -> Architecture:
    record = registry.get(name)
    if record.architecture is None:
        raise ConfigError(f"model ({record.name}): has no closed form, so its kernels are not known")
    return record.architecture


def _step(phase: str, batch: int, context: int) -> Step:
    if phase not in ("prefill", "decode"):
        raise ConfigError(f"phase ({phase}): must be prefill or decode")
    if context < 1:
        raise ConfigError(f"context ({context}): must be at least 1")
    sizes = {"new": context} if phase == "prefill" else {"new": 1, "past": context}
    return Step.parse({"batch": batch, **sizes})


def _format(option: str, value: str) -> Format:
    if value not in BITS:
        raise ConfigError(f"{option} ({value}): must be one of {', '.join(BITS)}")
    return value


def _parallel(
    arch: Architecture,
    device: Hardware,
    step: Step,
    precision: Precision,
    kv: Format,
    tensor: int | None,
    expert: int | None,
) -> Parallel:
    """What was asked for, else the fewest devices that hold it."""
    if tensor is not None or expert is not None:
        return Parallel.parse({"tensor": tensor or 1, "expert": expert or 1})
    setting = fit.Setting(model(arch), precision, kv)
    workload = Workload(batch=step.batch, context=step.past + step.new)
    return fit.devices(setting, workload, device.capacity).parallel


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


def _lines(asked: dict[str, Any], found: Prediction, step: Step) -> list[str]:
    where = f"{asked['devices']} x {asked['device']}"
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
    return [head, *table(rows), "", *table(parts)]


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
