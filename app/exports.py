"""Exports: what a chart or a page becomes as a file, and the manifest that goes along. No Streamlit here.

The formats themselves are `moe_core.report.formats`; this file knows what the page knew: scenario,
run, provenance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Literal, NamedTuple

from app.figure import Figure
from moe_core.errors import MoEScopeError
from moe_core.provenance import Provenance
from moe_core.report import archive, kinds
from moe_core.report.archive import Page
from moe_core.report.decided import Decided, of_decided
from moe_core.report.formats import FORMATS, digest
from moe_core.report.manifest import Manifest, Origin, Ran, make, ran
from moe_core.runs.bundle import Bundle
from moe_core.scenario.resolved import Resolved

SCENARIO, VERDICT = "scenario", "verdict"
PAGES = {"html": "HTML, one file", "zip": "ZIP, every format"}


class Context(NamedTuple):
    """What a figure was drawn of: the scenario, where its numbers come from, the runs it shows.

    `cases` take the place of the sidebar's scenario where a figure shows others, by name. `decided`: the
    verdict of the page.
    """

    scenario: Callable[[], Resolved] | None
    sources: tuple[tuple[Provenance, str], ...]
    bundles: tuple[Bundle, ...] = ()
    cases: Mapping[str, Resolved] | None = None
    decided: Decided | None = None


def file(ending: str, figures: Mapping[str, Figure], context: Context, theme: str) -> bytes:
    """One figure in one format of `FORMATS`."""
    (figure,) = figures.values()
    return FORMATS[ending].make(figure, manifest(figure.title, figures, context), theme)


def page(ending: str, found: Page, context: Context, theme: str) -> bytes:
    """A page in one form of `PAGES`."""
    made = manifest(found.lead, found.figures, context, "page")
    return {"html": archive.html, "zip": archive.archive}[ending](found, made, theme)


def manifest(
    title: str, figures: Mapping[str, Figure], context: Context, what: Literal["figure", "page"] = "figure"
) -> Manifest:
    """Everything needed to make the numbers behind these figures again."""
    cases = _scenario(context.scenario) if context.cases is None else context.cases
    numbers = [number for name, case in cases.items() for number in kinds.of_scenario(name, case)]
    for found in context.bundles:
        numbers += kinds.of_run(found)
    decisions = {}
    if context.decided is not None:
        numbers += of_decided(VERDICT, context.decided)
        decisions[VERDICT] = context.decided.asked.model_dump(mode="json")
    return make(
        what,
        title,
        sources=(Origin(kind=kind, detail=detail) for kind, detail in context.sources),
        scenarios={name: case.model_dump(mode="json") for name, case in cases.items()},
        decisions=decisions,
        runs=_runs(context.bundles),
        numbers=numbers,
        rows={name: digest(figure) for name, figure in figures.items()},
    )


def _scenario(scenario: Callable[[], Resolved] | None) -> dict[str, Resolved]:
    """The scenario of the sidebar; nothing where it cannot be resolved, which the page has said."""
    if scenario is not None:
        with suppress(MoEScopeError):
            return {SCENARIO: scenario()}
    return {}


def _runs(bundles: Iterable[Bundle]) -> list[Ran]:
    return [ran(found.manifest) for found in bundles]
