"""`params`, `memory`, `models`, `hardware`: exact facts about architectures and what they need."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from moe_core import hardware as devices
from moe_core import registry
from moe_core.cli import host
from moe_core.cli.devices import HELP, named, own
from moe_core.cli.formats import STORED, Dtype, Experts, KvDtype, chosen
from moe_core.cli.model import Config, Name, sized
from moe_core.cli.output import Json, answer, table
from moe_core.errors import InfeasibleError
from moe_core.hf import sizes
from moe_core.hf.sizes import Sized
from moe_core.perf import fit
from moe_core.perf.memory import Footprint, Workload, footprint
from moe_core.perf.params import ParameterCount
from moe_core.perf.precision import words
from moe_core.perf.shard import Parallel, shard, share
from moe_core.scenario import start
from moe_core.units import count as readable
from moe_core.units import quantity

Method = Annotated[str, typer.Option(help="auto, closed_form, or meta (build it with transformers).")]
Folder = Annotated[
    Path | None, typer.Option("--checkpoint", help="A folder of .safetensors, or a .gguf: true sizes.")
]
Mine = Annotated[Path | None, typer.Option("--hardware", help="A .toml of your own device.")]
Devices = Annotated[str | None, typer.Option("--hardware", help=f"Does it fit? {HELP}")]


def params(
    model: Name = None,
    config: Config = None,
    checkpoint: Folder = None,
    method: Method = "auto",
    as_json: Json = False,
) -> None:
    """Count parameters: total, the three conventions of active, components."""
    if checkpoint is not None:
        return _stored(checkpoint, as_json)
    found = sized(model, config, method)
    counted = found.parameters
    values = {"name": found.name, **sizes.packed(found), "not_in_total": {"mtp": counted.mtp}}
    values["breakdown"] = {**counted.breakdown._asdict(), "mtp": 0}
    answer(values, as_json, _count_lines(found.name, counted, found.notes))


def memory(
    model: Name = None,
    config: Config = None,
    dtype: Dtype = STORED,
    kv_dtype: KvDtype = STORED,
    experts_dtype: Experts = None,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 1,
    context: Annotated[int, typer.Option(help="Tokens of each, prompt and answer.")] = 4096,
    tensor: Annotated[int, typer.Option(help="Tensor-parallel ways.")] = 1,
    expert: Annotated[int, typer.Option(help="Expert-parallel ways.")] = 1,
    pipeline: Annotated[int, typer.Option(help="Pipeline stages.")] = 1,
    hardware: Devices = None,
    as_json: Json = False,
) -> None:
    """Bytes by component to serve a workload; with --hardware, whether it fits and on how many."""
    found = sized(model, config, "auto")
    subject = sizes.model(found)
    workload = Workload.parse({"batch": batch, "context": context})
    precision, kv = chosen(found, dtype, kv_dtype, experts_dtype)
    setting = fit.Setting(subject, precision, kv)
    parallel = Parallel.parse({"tensor": tensor, "expert": expert, "pipeline": pipeline})
    held = shard(subject, parallel, precision)
    need = footprint(held, share(workload, parallel), precision, kv)
    values: dict[str, Any] = {
        **{"name": found.name, "dtype": dtype, "kv_dtype": kv_dtype, "batch": batch, "context": context},
        **{"weights_in": words(precision), "cache_in": kv, "devices": parallel.devices},
        **_need(need),
        "kv_bytes_per_token": held.cache.token_bytes(kv),
        "components": need.components(),
        "method": subject.parameters.method,
        "notes": list(found.notes),
    }
    if hardware is not None:
        device = devices.get(named(hardware))
        values["hardware"] = _fits(setting, workload, parallel, device)
        values["host"] = _host(found, setting, workload, device)
    commands = _starts(found, setting, workload, parallel, values.get("hardware"))
    values["start"] = [one._asdict() for one in commands]
    answer(values, as_json, [*_memory_lines(values, need), *start.lines(commands)])


def _host(
    found: Sized, setting: fit.Setting, workload: Workload, device: devices.Hardware
) -> dict[str, Any] | None:
    """The experts that must go to the host for one device to do; None where none or all are not enough."""
    if setting.model.routing is None:
        return None
    arch = found.architecture
    load = host.popularity(arch.experts, workload.batch) if arch and arch.experts else None
    with suppress(InfeasibleError):
        share, kept = host.hosted(setting, workload, device, "fit", host.DESKTOP, load)
        if share == 0:
            return None
        lines = [f"on one, {host.line(share, kept)}"]
        if arch is not None:
            asked = (arch, Parallel(), 1, workload.context, workload.batch, setting.precision, setting.kv)
            commands = start.starts(start.Launch(*asked, start.away(arch, share)))
            lines += [f"on one, {one}" for one in start.lines(commands) if one.startswith("llama.cpp")]
        return host.values(share, kept) | {"text": lines}
    return None


def _starts(
    found: Sized,
    setting: fit.Setting,
    workload: Workload,
    parallel: Parallel,
    fits: dict[str, Any] | None,
) -> tuple[start.Start, ...]:
    """How it is started in the layout that fits; nothing where its layers are not known or none was asked."""
    if found.architecture is None or fits is None:
        return ()
    ways = parallel if fits["fits"] else Parallel(**{name: fits[name] for name in Parallel.model_fields})
    asked = (found.architecture, ways, 1, workload.context, workload.batch, setting.precision, setting.kv)
    return start.starts(start.Launch(*asked))


def _need(need: Footprint) -> dict[str, int]:
    """Bytes of the fullest device by what they hold."""
    held = {"weights": need.weights_total, "kv_cache": need.kv_cache, "state": need.state}
    return {**held, "activations": need.activations, "total": need.total}


def models(as_json: Json = False) -> None:
    """List the registered models."""
    rows = [_row(record) for record in registry.records()]
    rumours = [record.name for record in registry.rumours()]
    head = ["model", "total", "active", "experts", "top-k", "released", "counted"]
    cells = [
        [
            row["name"],
            readable(row["total"]),
            readable(row["active"]["incl_embeddings"]),
            str(row["experts"] or "-"),
            str(row["top_k"] or "-"),
            row["released"],
            row["method"],
        ]
        for row in rows
    ]
    text = [*table([head, *cells]), "", f"rumoured, not counted: {', '.join(rumours)}"]
    answer({"models": rows, "rumoured": rumours}, as_json, text)


def hardware(mine: Mine = None, as_json: Json = False) -> None:
    """List the devices in data/hardware.toml, and one of your own; its name is how a link says it."""
    found = [*([] if mine is None else [own(mine)]), *devices.devices()]
    rows = [device.model_dump(mode="json") for device in found]
    head = ["device", "memory", "bandwidth", "bf16 dense", "ridge", "power limit", "source"]
    cells = [
        [
            device.name,
            quantity(device.capacity, "B"),
            quantity(device.bandwidth, "B/s"),
            quantity(device.peak("bf16"), "FLOP/s"),
            f"{device.ridge('bf16'):.0f}",
            f"{device.watts:g} W" if device.watts else "-",
            {"P": "maker", "S": "second-hand", "own": "yours"}[device.grade],
        ]
        for device in found
    ]
    answer({"hardware": rows}, as_json, table([head, *cells]))


def _stored(folder: Path, as_json: bool) -> None:
    """What the headers in `folder` say is on disk; packed formats hold several weights in one element."""
    found = sizes.from_checkpoint(folder)
    values = {name: value for name, value in found._asdict().items() if name != "config"}
    values |= {"breakdown": found.breakdown._asdict(), "held": [part._asdict() for part in found.held]}
    rows = [["elements", f"{found.elements:,}"], ["bytes", quantity(found.nbytes, "B")]]
    rows += [[dtype, quantity(size, "B")] for dtype, size in found.by_dtype.items()]
    answer(values, as_json, [f"{folder}: {found.tensors} tensors in {found.files} files", *table(rows)])


def _fits(
    setting: fit.Setting, workload: Workload, parallel: Parallel, device: devices.Hardware
) -> dict[str, Any]:
    """Whether the asked layout fits, on how many it would, and how far it goes there."""
    asked = fit.fit(setting, workload, device.capacity, parallel)
    least = fit.devices(setting, workload, device.capacity)
    return {
        "name": device.name,
        "capacity": device.capacity,
        "usable": asked.usable,
        "fits": asked.fits,
        "spare": asked.spare,
        "devices_needed": least.parallel.devices,
        "tensor": least.parallel.tensor,
        "expert": least.parallel.expert,
        "pipeline": least.parallel.pipeline,
        "longest_context": fit.longest_context(setting, workload, device.capacity, least.parallel),
        "largest_batch": fit.largest_batch(setting, workload, device.capacity, least.parallel),
    }


def _row(record: registry.Record) -> dict[str, Any]:
    routing = record.routing
    return {
        "name": record.name,
        "hf_id": record.hf_id,
        "kind": record.kind,
        "total": record.total,
        "active": record.active,
        "experts": routing.experts if routing else None,
        "top_k": routing.top_k if routing else None,
        "shared": routing.shared if routing else None,
        "released": record.released,
        "attention": record.attention,
        "method": record.method,
        "exact": record.verified.exact,
        "sources": list(record.sources),
    }


def _count_lines(name: str, counted: ParameterCount, notes: tuple[str, ...]) -> list[str]:
    rows = [["total", f"{counted.total:,}"]]
    rows += [
        [f"active, {key.replace('_', ' ')}", f"{value:,}"] for key, value in counted.active._asdict().items()
    ]
    rows += [[part, f"{size:,}"] for part, size in counted.breakdown._asdict().items() if size]
    rows += [["mtp (beside the total)", f"{counted.mtp:,}"]] if counted.mtp else []
    return [f"{name} ({counted.method})", *table(rows), *notes]


def _memory_lines(values: dict[str, Any], need: Footprint) -> list[str]:
    rows = [[part, quantity(size, "B")] for part, size in need.components().items()]
    rows.append(["total", quantity(need.total, "B")])
    lines = [f"{values['name']}, batch {values['batch']} x {values['context']} tokens"]
    lines += [f"weights in {values['weights_in']}; cache in {values['cache_in']}"]
    lines += [*table(rows), f"KV cache: {values['kv_bytes_per_token']:,} bytes a token", *values["notes"]]
    fits = values.get("hardware")
    if fits:
        verdict = "fits" if fits["fits"] else "does not fit"
        where = f"{values['devices']} x {devices.title(fits['name'])}"
        lines.append(f"{verdict} on {where}; needs {fits['devices_needed']}")
        lines.append(f"there: up to {fits['longest_context']:,} tokens, or batch {fits['largest_batch']:,}")
        lines += values["host"]["text"] if values["host"] else []
    return lines
