"""`layer`: seconds of one MoE layer's experts, for one case or for a table of cases."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field

from moe_core import inputs
from moe_core.cli.devices import HELP, named
from moe_core.cli.model import Config, Name, sized, timed
from moe_core.cli.output import Json, answer, save
from moe_core.errors import ConfigError
from moe_core.formats import BITS
from moe_core.perf.precision import STORED, asked_cache
from moe_core.specs import Size, Spec
from moe_core.units import quantity

if TYPE_CHECKING:  # it reads the tables: not for --help
    from moe_core.silicon.layer import LayerEstimate

_BYTES = 20_000_000  # of a table of cases
OUT = ("seconds", "lower", "upper", "source")
_DTYPES = {
    **{name: name for name in (*BITS, "mxfp4_a8")},
    **{"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16"},
    **{"int4_wo": "int4", "w4a16_mxfp4": "mxfp4", "w4a8_mxfp4_mxfp8": "mxfp4_a8"},
}
_UNIFORM = "uniform"
_LOADS = (_UNIFORM, "balanced", "power_law_1.01", "power_law_1.2")
_NUMBERS = ("tokens", "hidden", "inter", "experts", "topk", "tp", "ep")
Cases = Annotated[
    Path | None,
    typer.Option(
        help=f"A CSV with the columns hardware, framework, dtype, {', '.join(_NUMBERS)}, distribution."
    ),
]
Out = Annotated[Path | None, typer.Option(help=f"Where to write the cases with {', '.join(OUT)}.")]


class LayerQuestion(Spec):
    """One row: a layer, its machine and its load. Missing tp and ep are 1, a missing load is uniform."""

    hardware: str = Field(min_length=1)
    framework: str = "vllm"
    dtype: str = "bf16"
    tokens: Size
    hidden: Size
    inter: Size
    experts: Size
    topk: Size
    tp: Size = 1
    ep: Size = 1
    distribution: str = "uniform"


def layer(
    hardware: Annotated[str, typer.Option(help=f"{HELP} Or h100_sxm.")] = "H100",
    framework: Annotated[str, typer.Option(help="vllm or sglang.")] = "vllm",
    dtype: Annotated[str, typer.Option(help="Format of the expert weights; as stored, or bf16.")] = STORED,
    tokens: Annotated[int | None, typer.Option(help="Tokens at once, all devices together.")] = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden size of the model.")] = None,
    inter: Annotated[int | None, typer.Option(help="Width of one expert.")] = None,
    experts: Annotated[int | None, typer.Option(help="Routed experts of the layer.")] = None,
    topk: Annotated[int | None, typer.Option("--topk", "--top-k", help="Experts a token is sent to.")] = None,
    tp: Annotated[int, typer.Option(help="Tensor-parallel ways.")] = 1,
    ep: Annotated[int, typer.Option(help="Expert-parallel ways.")] = 1,
    distribution: Annotated[str, typer.Option(help=f"One of {', '.join(_LOADS)}.")] = _UNIFORM,
    model: Name = None,
    config: Config = None,
    cases: Cases = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Time the experts of one MoE layer: measured where a table holds the case, else modelled.

    With --model or --config the layer is that model's; what is said beside it wins.
    """
    if cases is not None:
        return _many(cases, out, as_json)
    own, notes = _of_model(model, config)
    given = {"tokens": tokens, "hidden": hidden, "inter": inter, "experts": experts, "topk": topk}
    sizes = {name: value for name, value in given.items() if value is not None}
    own["dtype"] = own.get("dtype", "bf16") if dtype in (STORED, "auto") else dtype
    names = {"hardware": named(hardware), "framework": framework, "distribution": distribution}
    case = LayerQuestion.parse({**names, **own, **sizes, "tp": tp, "ep": ep})
    found = estimate(case)
    answer({**case.model_dump(), **found._asdict(), "notes": notes}, as_json, [*_lines(found), *notes])


def _of_model(model: str | None, config: Path | None) -> tuple[dict[str, Any], list[str]]:
    """The layer of a model and what to mention; nothing where none is named. Raises ConfigError."""
    if model is None and config is None:
        return {}, []
    found = sized(model, config)
    arch = timed(found)
    if arch.experts is None:
        raise ConfigError(f"model ({found.name}): is dense, so it has no layer of experts")
    bank = arch.experts
    sizes = {"hidden": arch.hidden, "inter": bank.width, "experts": bank.count, "topk": bank.top_k}
    return {**sizes, "dtype": arch.stored.of("experts")}, list(found.notes)


def estimate(case: LayerQuestion) -> LayerEstimate:
    """The answer to one case. Raises ConfigError with field, value and rule."""
    from moe_core.perf.moe_layer import LayerCase
    from moe_core.silicon import layer as layers
    from moe_core.silicon import systems

    dtype, load = case.dtype.strip().lower(), case.distribution.strip().lower() or _UNIFORM
    form = _DTYPES.get(dtype) or asked_cache(dtype, "dtype") or "bf16"  # nothing is stored without a model
    if load not in _LOADS:
        raise ConfigError(f"distribution ({case.distribution}): must be one of {', '.join(_LOADS)}")
    asked = LayerCase(case.tokens, case.hidden, case.inter, case.experts, case.topk, case.tp, case.ep)
    return layers.estimate(
        systems.device(case.hardware),
        form,
        asked,
        framework=case.framework.strip().lower(),
        load=None if load == _UNIFORM else load,
    )


def _many(cases: Path, out: Path | None, as_json: bool) -> None:
    rows = list(_answered(cases))
    if out is not None:
        save(out, _table(rows).encode())
    text = [f"{len(rows)} cases written to {out}"] if out else [_sentence(row) for row in rows]
    answer({"cases": rows if out is None else len(rows), "out": str(out) if out else None}, as_json, text)


def _answered(cases: Path) -> Iterator[dict[str, Any]]:
    what = inputs.named("cases", cases)
    text = inputs.text(inputs.read(cases, what, _BYTES), what)
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), start=2):
            yield {**row, **_row(row, number)}
    except csv.Error as error:
        raise ConfigError(f"{what}: cannot be read as a CSV ({error})") from error


def _row(row: Mapping[str | None, Any], number: int) -> dict[str, Any]:
    """The answer to one line of the file."""
    try:
        found = estimate(LayerQuestion.parse(_values(row)))
    except ConfigError as error:
        raise ConfigError(f"line {number}: {error}") from error
    return {name: getattr(found, name) for name in OUT}


def _values(row: Mapping[str | None, Any]) -> dict[str, Any]:
    """The columns that `LayerQuestion` knows; empty ones take its defaults, others travel along unread."""
    known = {name: row.get(name) for name in LayerQuestion.model_fields}
    given = {name: text.strip() for name, text in known.items() if text is not None and text.strip()}
    return {name: _number(name, text) if name in _NUMBERS else text for name, text in given.items()}


def _number(name: str, text: str) -> int:
    try:
        return int(float(text)) if float(text) == int(float(text)) else int(text)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{name} ({text[:40]}): must be a whole number") from error


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(rows[0]) if rows else [*LayerQuestion.model_fields, *OUT]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _sentence(row: Mapping[str, Any]) -> str:
    middle, low, high = (quantity(row[name], "s") for name in OUT[:3])
    return f"{middle} ({low} to {high}), {row['source']}"


def _lines(found: LayerEstimate) -> list[str]:
    middle, low, high = (quantity(value, "s") for value in found[:3])
    return [
        f"{middle} (80 % between {low} and {high})",
        f"{found.source}: {found.note}",
        f"{found.distinct:.3g} experts touched on the busiest rank, bound by {found.bound}",
    ]
