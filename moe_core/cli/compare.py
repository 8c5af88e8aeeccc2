"""`compare`: up to four scenarios side by side, as the Compare page shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer

from moe_core import hardware as devices
from moe_core import inputs
from moe_core.cli.devices import HELP, named
from moe_core.cli.model import Configs, described
from moe_core.cli.output import Json, answer, table
from moe_core.errors import ConfigError
from moe_core.hardware import Hardware
from moe_core.specs import Architecture

if TYPE_CHECKING:
    from moe_core.report.compare import Cell, Line
    from moe_core.report.side import Side

Scenarios = Annotated[
    list[str] | None,
    typer.Option(
        "--scenario",
        help="A link of the dashboard, its query alone (architecture=Mixtral-8x7B&hardware=H100&batch=8), "
        "a JSON file, or an exported file; up to four times.",
    ),
]
_BYTES = 64_000_000  # of a JSON file


def compare(
    scenario: Scenarios = None,
    config: Configs = None,
    hardware: Annotated[str | None, typer.Option(help=f"In place of each device. {HELP}")] = None,
    as_json: Json = False,
) -> None:
    """Up to four scenarios side by side: what was chosen, what follows, and the answer in one sentence."""
    from moe_core.cli.hear import with_load
    from moe_core.report.answer import sentence
    from moe_core.report.compare import table as rows_of
    from moe_core.report.side import LETTERS, labels, link

    own = [described(path) for path in config or ()]
    sides = [side for one in scenario or () for side in read(one)] + [of_model(arch) for arch, _ in own]
    if hardware is not None:
        sides = [_on(side, devices.get(named(hardware))) for side in sides]
    if not 1 <= len(sides) <= len(LETTERS):
        raise ConfigError(f"scenario ({len(sides)} given): must be one to {len(LETTERS)}")
    cases = {name: with_load(case) for name, case in labels(sides).items()}
    notes = [note for _, said in own for note in said]
    said, rows = sentence(cases), rows_of(cases)
    shared = f"/compare?{urlencode(link(sides))}"
    values = {
        "answer": said,
        "scenarios": [
            {"letter": key[:1], "name": side.name, "resolved": case.model_dump(mode="json")}
            for (key, case), side in zip(cases.items(), sides, strict=True)
        ],
        "rows": [_values(row) for row in rows],
        "link": shared,
        "notes": notes,
    }
    answer(values, as_json, [said, "", *_lines(list(cases), rows), "", *notes, f"link  {shared}"])


def of_model(arch: Architecture, **said: str) -> Side:
    """A model of the user's under the first screen's question."""
    from moe_core.report.side import of, pack

    return of({"architecture": arch.name, "own": pack(arch), **said})


def _on(side: Side, device: Hardware) -> Side:
    """The same scenario on another device."""
    from moe_core.report.side import of_case

    moved = side.case.model_copy(update={"hardware": device.name, "capacity": device.capacity})
    return of_case("", moved, side.parameters)


def read(one: str) -> list[Side]:
    """The scenarios of a link, a JSON file or an exported file. Raises ConfigError."""
    from moe_core.report import side

    if "?" in one or "=" in one:
        return side.read(one)
    path = Path(one)
    if not inputs.exists(path):
        raise ConfigError(f"{inputs.named('scenario', one)}: must be a link, a query or a file that exists")
    return _file(path)


def _file(path: Path) -> list[Side]:
    """A JSON object or a list of them: a link's parameters, or a saved scenario. Else an exported file."""
    if path.suffix.lower() == ".json":
        what = inputs.named("scenario", path)
        values = inputs.parse(inputs.read(path, what, _BYTES), what)
        if not (isinstance(values, dict) and ("schema" in values or "usermeta" in values)):
            return [_object(what, value) for value in (values if isinstance(values, list) else [values])]
    return _exported(path)


def _object(what: str, value: Any) -> Side:
    from moe_core.report.side import default_name, of, of_case
    from moe_core.scenario.resolved import Resolved

    if not isinstance(value, dict):
        raise ConfigError(f"{what}: must hold JSON objects")
    inner = value.get("resolved") or (value if "label" in value else None)
    if isinstance(inner, dict):
        case = Resolved.of(inner)
        return of_case(str(value.get("name") or default_name(case)), case)
    return of({str(key): _plain(part) for key, part in value.items()})


def _plain(value: Any) -> str:
    """A parameter as a link writes it: `true`, `8`."""
    return value if isinstance(value, str) else json.dumps(value)


def _exported(path: Path) -> list[Side]:
    from moe_core.report import embed
    from moe_core.report.side import of_case
    from moe_core.scenario.resolved import Resolved

    return [of_case(name, Resolved.of(values)) for name, values in embed.read(path).scenarios.items()]


def _values(row: Line) -> dict[str, Any]:
    cells = [{**cell._asdict(), "best": at in row.best} for at, cell in enumerate(row.cells)]
    return {"key": row.key, "title": row.title, "unit": row.unit, "differs": row.differs, "cells": cells}


def _lines(names: list[str], rows: list[Line]) -> list[str]:
    """The same for a reader: `≠` marks what differs, `*` what is best."""
    head = ["", "", *names]
    body = [
        ["≠" if row.differs and len(names) > 1 else "", row.title,
         *(_cell(cell, at in row.best) for at, cell in enumerate(row.cells))]
        for row in rows
    ]  # fmt: skip
    return table([head, *body])


def _cell(cell: Cell, best: bool) -> str:
    where = f" ({cell.source})" if cell.source else ""
    return f"{'* ' if best else ''}{cell.text}{where}"
