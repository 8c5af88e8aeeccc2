"""`import-trace`: what a served model's routers chose becomes a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from moe_core.cli.output import Json, answer
from moe_core.errors import ConfigError, short

if TYPE_CHECKING:
    from moe_core.hf.traces import Known, Trace
    from moe_core.runs.bundle import Bundle
    from moe_core.runs.traced import Told

_MOST_LAYERS = 10_000
_LONGEST = 120  # characters of a domain's name


def import_trace(
    path: Annotated[Path, typer.Argument(help="A file or folder; the README says which shapes.")],
    model: Annotated[str | None, typer.Option(help="Whose choices they are; of `models`, or a name.")] = None,
    title: Annotated[str | None, typer.Option(help="What to call it; its file name else.")] = None,
    domain: Annotated[str | None, typer.Option(help="The domain of all of it, such as code.")] = None,
    source: Annotated[str, typer.Option(help="Where it is from, and under which licence.")] = "",
    layers: Annotated[str | None, typer.Option(help="Decoder layers with experts: 1-26, or 1,3,5.")] = None,
    decoder: Annotated[int | None, typer.Option(min=1, help="Decoder layers, dense ones too.")] = None,
    experts: Annotated[int | None, typer.Option(min=1, help="Routed experts of a layer.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Experts a token.")] = None,
    zero_experts: Annotated[int, typer.Option(min=0, help="Ids beyond them that compute nothing.")] = 0,
    shared: Annotated[int | None, typer.Option(min=0, help="Experts that every token uses.")] = None,
    zero: Annotated[
        Literal["expert", "missing"] | None,
        typer.Option(help="What 0 is where a token takes one expert: an expert, or nothing recorded."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take in a trace of vLLM, SGLang, Megatron or FLAME-MoE, or a table of choices, as a run."""
    given: dict[str, Any] = {
        "layers": _layers(layers),
        "decoder": decoder,
        "experts": experts,
        "top_k": top_k,
    }
    given |= {"domain": _domain(domain), "zero": zero}
    words = {"title": title or path.name, "experts": experts, "shared": shared, "source": source or None}
    trace, found = _taken(path, *_what_is_known(model, given, words, zero_experts))
    summary = found.manifest.summary
    answer(
        {"run_id": found.manifest.run_id, "bundle": str(found.path), **summary},
        as_json,
        [
            f"{trace.kind}: {'; '.join(trace.notes)}",
            f"{summary['decisions']:,} decisions of {summary['tokens']:,} tokens in {summary['sequences']:,} "
            f"sequences, {len(summary['layers'])} layers; domains: {', '.join(summary['domains'])}",
            f"run {found.manifest.run_id}: {found.path}",
        ],
    )


def _taken(path: Path, known: Known, told: Told) -> tuple[Trace, Bundle]:
    from moe_core.hf import traces
    from moe_core.runs import bundle, traced
    from moe_core.settings import Settings

    trace = traces.read(path, known)
    return trace, bundle.read(traced.take_in(trace, told, Settings.load().prepare().runs_dir))


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _what_is_known(
    model: str | None, given: dict[str, Any], words: dict[str, Any], zero: int
) -> tuple[Known, Told]:
    """Of a published model its layers and experts, of another nothing; what was given goes before."""
    from moe_core.hf.traces import Known
    from moe_core.runs.traced import Told

    known, told = _published(model) if model is not None else ({}, {"model": "not told"})
    known |= _said(given)
    if zero and "experts" in known:
        known["experts"] += zero
    return Known(**known), Told.parse(told | _said(words) | {"zero": zero})


def _published(model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from moe_core import registry

    try:
        record = registry.get(model)
    except ConfigError:
        return {}, {"model": model}
    bank, arch = record.routing, record.architecture
    if bank is None:
        raise ConfigError(f"model ({model}): is dense")
    known: dict[str, Any] = {"experts": bank.experts, "top_k": bank.top_k}
    if arch is not None:
        known |= {"layers": arch.moe_layers, "decoder": arch.layers}
    told = {"model": record.name, "experts": bank.experts, "shared": bank.shared, "architecture": arch}
    return known, told


def _domain(text: str | None) -> str | None:
    """A name that a table holds: UTF-8, and short."""
    if text is not None and (not 0 < len(text) <= _LONGEST or text != text.encode(errors="ignore").decode()):
        raise ConfigError(f"domain ({short(text)}): must be 1 to {_LONGEST} characters of UTF-8")
    return text


def _layers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < _MOST_LAYERS:
            raise ConfigError(f"layers ({text[:40]}): must be numbers and spans, such as 1-26 or 1,3,5")
        found += range(first, last + 1)
    return tuple(sorted(set(found)))
