"""`calibrate`: measure this device, so that the time of layers it never ran can be predicted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from moe_core.cli.ask import ask, finished
from moe_core.cli.output import Json, answer, one_of
from moe_core.perf.calibrate import Calibration, question
from moe_core.perf.device_model import roof
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.settings import Settings
from moe_core.specs import Device, RunSpec
from moe_core.units import quantity, significant
from moe_core.version import question_id, run_id


def calibrate(
    device: Annotated[str, typer.Option(help=one_of(Device))] = "auto",
    again: Annotated[bool, typer.Option("--again", help="Measure anew, even if the store knows.")] = False,
    as_json: Json = False,
) -> None:
    """Measure this device in a minute: products, small experts, memory, overheads. Close other programs."""
    spec = RunSpec.parse({**dict(question()), "device": device.lower()})
    settings = Settings.load()
    if again:
        _forget(settings, spec)
    job = ask(settings, spec)
    found = bundle.read(settings.runs_dir / finished(job))
    values = summary(found, reused=job.reused)
    answer(values, as_json, lines(values))


def _forget(settings: Settings, spec: RunSpec) -> None:
    """Delete what is known of the device this process would measure."""
    from moe_core.device import describe, pick

    key = describe(pick(spec.device)).key
    bundle.remove(settings.runs_dir, run_id(question_id(spec), key))


def summary(found: Bundle, *, reused: bool) -> dict[str, Any]:
    """What was measured, as plain values. `calibration` is all that the predictor reads."""
    manifest = found.manifest
    raw = manifest.summary["calibration"]
    known = Calibration.parse_json(json.dumps(raw))  # strict: tuples only from JSON
    facts = ("device", "device_kind", "threads", "torch", "moescope", "commit", "date")
    return {
        "run_id": manifest.run_id,
        **{name: manifest.provenance.get(name) for name in facts},
        "duration_s": manifest.duration_s,
        "launch_s": known.launch_s,
        "memory_bytes_per_s": known.bandwidth(),
        "dtypes": {
            name: {
                **roof(known, name)._asdict(),
                "ridge_flops_per_byte": roof(known, name).ridge,
                "layer_s": rates.layer_s,
                "expert_s": rates.experts[0].seconds[0],
            }
            for name, rates in known.rates.items()
        },
        "calibration": raw,
        "bundle": str(found.path),
        "reused": reused,
    }


def lines(values: dict[str, Any]) -> Iterator[str]:
    """The same for a reader."""
    how = (
        "answered from the store"
        if values["reused"]
        else f"measured in {quantity(values['duration_s'], 's')}"
    )
    yield f"device    {values['device']}, {values['threads']} threads ({how})"
    yield f"memory    {quantity(values['memory_bytes_per_s'], 'B/s')} read past the caches"
    yield f"launch    {quantity(values['launch_s'], 's')} an operation"
    for name, rates in values["dtypes"].items():
        yield (
            f"{name:<9} {quantity(rates['flops'], 'FLOP/s')} at best, "
            f"ridge at {significant(rates['ridge_flops_per_byte'])} FLOP a byte, "
            f"{quantity(rates['layer_s'], 's')} a layer, {quantity(rates['expert_s'], 's')} an expert"
        )
    yield f"bundle    {values['bundle']}"
