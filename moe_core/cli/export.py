"""`export`: a figure or a page of scenarios, or a saved review, as a file. No web server, no browser.

The command line draws the figures of `moe_core.report.plots`, which every report has. A figure of a page
leaves from the page: what draws it there stays there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from moe_core import hardware as devices
from moe_core import registry
from moe_core.cli.devices import HELP, named
from moe_core.cli.formats import STORED, Dtype
from moe_core.cli.model import Configs, described
from moe_core.cli.output import Json, answer, save
from moe_core.errors import ConfigError
from moe_core.perf.precision import asked
from moe_core.settings import Settings
from moe_core.specs import Architecture

Subject = Annotated[
    str, typer.Argument(help="review, page (every figure), or memory, decode, parameters, growth, distinct.")
]
Target = Annotated[Path, typer.Option("--out", help="The file to write; its ending says the format.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="A registered model; up to four times.")]
ReviewId = Annotated[str | None, typer.Option("--review", help="A saved review, by its identity.")]
Source = Annotated[
    Path | None, typer.Option("--from", help="An earlier export: its scenarios are drawn again.")
]


def export(
    what: Subject,
    out: Target,
    model: Models = None,
    config: Configs = None,
    hardware: Annotated[str, typer.Option(help=HELP)] = "H100",
    batch: Annotated[int | None, typer.Option(help="Sequences at once.")] = None,
    prompt: Annotated[int | None, typer.Option(help="Tokens read for a request.")] = None,
    tokens: Annotated[int | None, typer.Option("--answer", help="Tokens written for it.")] = None,
    dtype: Dtype = STORED,
    review: ReviewId = None,
    version: Annotated[int | None, typer.Option(help="Of the review; the newest otherwise.")] = None,
    source: Source = None,
    dark: Annotated[bool, typer.Option("--dark", help="The dark theme.")] = False,
    as_json: Json = False,
) -> None:
    """Write a chart, a page or a review as PNG, SVG, PDF, HTML, CSV, Parquet, JSON, ZIP or PowerPoint."""
    own = [described(path) for path in config or ()]
    _only_one(model or own, review, source)
    ending, theme = out.suffix.lower().removeprefix("."), "dark" if dark else "light"
    if what == "review":
        data, manifest = _review(review, version, ending)
    else:
        if review is not None:
            cases = _of_review(review, version)
        elif source is not None:
            cases = _of_export(source)
        else:
            work = {"batch": batch, "prompt": prompt, "answer": tokens}
            cases = _of_models(model or [], [arch for arch, _ in own], hardware, work, dtype)
        data, manifest = _drawn(what, ending, cases, theme)
    written = [save(out, data)]
    if ending == "csv":
        written.append(save(out.with_suffix(".manifest.json"), manifest.to_json().encode()))
    said = [*(said for _, said in own), *map(registry.called, model or ())]
    notes = [note for one in said for note in one]
    values = {"written": written, "manifest": json.loads(manifest.to_json()), "notes": notes}
    answer(values, as_json, [*(f"{one['path']}  {one['bytes']:,} bytes" for one in written), *notes])


def _only_one(*sources: object) -> None:
    if sum(bool(one) for one in sources) != 1:
        raise ConfigError("one of --model or --config, --review and --from must be given")


def _review(review_id: str | None, version: int | None, ending: str) -> tuple[bytes, Any]:
    from moe_core.report import deck, html, pdf
    from moe_core.report.story import Story, tell

    if review_id is None:
        raise ConfigError("review (None): --review must name a saved review")
    writers: dict[str, Callable[[Story], bytes]] = {"pptx": deck.deck, "html": html.html, "pdf": pdf.pdf}
    if ending not in writers:
        raise ConfigError(f"out (.{ending}): a review is written as one of .{', .'.join(writers)}")
    story = tell(_saved(review_id, version))
    return writers[ending](story), story.manifest


def _drawn(what: str, ending: str, cases: dict[str, Any], theme: str) -> tuple[bytes, Any]:
    from moe_core.report import archive, kinds
    from moe_core.report.answer import sentence
    from moe_core.report.formats import FORMATS, digest
    from moe_core.report.manifest import make
    from moe_core.report.plots import plots
    from moe_core.report.story import SOURCES

    figures = {plot.name: plot.figure for plot in plots(cases)}
    pages: dict[str, Any] = {"zip": archive.archive, "html": archive.html}
    allowed = pages if what == "page" else FORMATS
    if what != "page" and what not in figures:
        raise ConfigError(f"what ({what[:40]}): must be review, page or one of {', '.join(figures)}")
    if ending not in allowed:
        raise ConfigError(f"out (.{ending}): a {what} is written as one of .{', .'.join(allowed)}")
    shown = figures if what == "page" else {what: figures[what]}
    lead = sentence(cases, named=True) if what == "page" else shown[what].title
    manifest = make(
        "page" if what == "page" else "figure",
        lead,
        sources=SOURCES,
        scenarios={name: case.model_dump(mode="json") for name, case in cases.items()},
        numbers=[number for name, case in cases.items() for number in kinds.of_scenario(name, case)],
        rows={name: digest(figure) for name, figure in shown.items()},
    )
    if what == "page":
        return pages[ending](archive.Page(lead, (), shown), manifest, theme), manifest
    return FORMATS[ending].make(shown[what], manifest, theme), manifest


def _saved(review_id: str, version: int | None) -> Any:
    from moe_core.store import shelf

    return shelf.of_reviews(Settings.load()).get(review_id).saved(version)


def _of_review(review_id: str, version: int | None) -> dict[str, Any]:
    from moe_core.report.story import resolve

    return _some(resolve(_saved(review_id, version)))


def _of_export(path: Path) -> dict[str, Any]:
    from moe_core.report import embed
    from moe_core.scenario.resolved import Resolved

    return _some({name: Resolved.of(values) for name, values in embed.read(path).scenarios.items()})


def _of_models(
    names: list[str], own: list[Architecture], hardware: str, work: dict[str, int | None], dtype: str
) -> dict[str, Any]:
    """Models on a device, with the first screen's work where nothing else is said."""
    from moe_core.cli.compare import of_model
    from moe_core.cli.hear import with_load
    from moe_core.report.side import of

    asked(dtype, "dtype")
    if not 1 <= len(names) + len(own) <= 4:
        raise ConfigError(f"model ({len(names) + len(own)} given): must be one to four")
    said = {name: str(value) for name, value in work.items() if value is not None}
    same = {"hardware": devices.get(named(hardware)).name, "precision": dtype, **said}
    found = {registry.get(name).name: of({"architecture": registry.get(name).name, **same}) for name in names}
    found |= {arch.name: of_model(arch, **same) for arch in own}
    return {name: with_load(side.case) for name, side in found.items()}


def _some(cases: dict[str, Any]) -> dict[str, Any]:
    if not cases:
        raise ConfigError("there is no scenario to draw: add one to the review first")
    return cases
