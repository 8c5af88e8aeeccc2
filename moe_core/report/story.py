"""Story: what a review says, in order, before anything is laid out. Deck, HTML and PDF tell the same one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from moe_core.errors import ConfigError
from moe_core.report import argument, kinds, tables
from moe_core.report.blocks import Block, Grid, Words
from moe_core.report.decided import Decided, of_decided, read
from moe_core.report.formats import digest
from moe_core.report.manifest import Manifest, Origin, make
from moe_core.report.plots import Plot, plots
from moe_core.report.resolved import Resolved
from moe_core.report.text import clean, line
from moe_core.review import Saved

MODELLED = Origin(
    kind="modelled",
    detail="parameters counted from the architecture, memory in closed form (moe_core/perf), "
    "a tenth of each device left to framework and fragmentation",
)
PREDICTED = Origin(
    kind="modelled",
    detail="times from published kernel measurements where a table holds the shape, else from models fitted "
    "to them, with their 80 % interval; on as many devices as it takes (moe_core/silicon)",
)
SOURCES = (MODELLED, PREDICTED)
VERDICT = "verdict"


class Story(NamedTuple):
    """A review, told. `lead` is its verdict in one sentence, empty before there is one."""

    title: str
    question: str
    lead: str
    blocks: tuple[Block, ...]
    manifest: Manifest


def tell(saved: Saved) -> Story:
    """The story of one version of a review. Raises ConfigError for a scenario it cannot read."""
    review, cases, found = saved.review, resolve(saved), read(saved.review.verdict)
    drawn = plots(cases) if cases else []
    blocks: list[Block] = argument.blocks(found) if found else []
    if cases:
        blocks.append(_side_by_side(cases))
    blocks += drawn
    blocks += [] if found else _verdict(review.verdict)
    blocks += [Words(f"Scenario {case.name}", case.note) for case in review.scenarios if case.note]
    blocks += [Words("Notes", review.notes)] if review.notes else []
    blocks += [_log(saved)] if saved.log else []
    return Story(
        line(review.title),
        line(review.question, 1_000),
        sentence(review.verdict),
        tuple(blocks),
        _manifest(saved, cases, found, [block for block in blocks if isinstance(block, Plot)]),
    )


def resolve(saved: Saved) -> dict[str, Resolved]:
    """The scenarios by name. Raises ConfigError naming the one that cannot be read."""
    found = {}
    for case in saved.review.scenarios:
        try:
            found[case.name] = Resolved.of(case.resolved)
        except ConfigError as error:
            raise ConfigError(f"scenario ({line(case.name, 40)}): {error}") from error
    return found


def sentence(verdict: Mapping[str, Any] | None) -> str:
    """The verdict's own sentence, if it has one."""
    said = (verdict or {}).get("sentence", "")
    return line(said, 400) if isinstance(said, str) else ""


def _side_by_side(cases: Mapping[str, Resolved]) -> Grid:
    rows = tables.comparison(cases)
    marked = frozenset(at for at, row in enumerate(rows) if row.differs and len(cases) > 1)
    return Grid(
        "The scenarios side by side",
        ("", *cases),
        tuple((row.name, *row.values) for row in rows),
        marked,
    )


def _verdict(verdict: Mapping[str, Any] | None) -> list[Block]:
    """A verdict that nothing here made: its plain values as a table."""
    if not verdict:
        return []
    rows = [(clean(str(name)), _short(value)) for name, value in verdict.items() if name != "sentence"]
    return [Grid("The verdict in numbers", ("", ""), tuple(rows))] if rows else []


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return clean(text, 600)


def _log(saved: Saved) -> Grid:
    rows = tuple(
        (f"{entry.when:%Y-%m-%d %H:%M}", entry.decision.who, entry.decision.what, entry.decision.why)
        for entry in saved.log
    )
    return Grid("Decision log", ("when (UTC)", "who", "what", "why"), rows)


def _manifest(
    saved: Saved, cases: Mapping[str, Resolved], found: Decided | None, drawn: list[Plot]
) -> Manifest:
    numbers = [number for name, case in cases.items() for number in kinds.of_scenario(name, case)]
    return make(
        "review",
        saved.review.title,
        sources=(*SOURCES, *(argument.origins(found) if found else ())),
        scenarios={name: case.model_dump(mode="json") for name, case in cases.items()},
        decisions={VERDICT: found.asked.model_dump(mode="json")} if found else {},
        numbers=[*numbers, *(of_decided(VERDICT, found) if found else ())],
        rows={plot.name: digest(plot.figure) for plot in drawn},
        review={
            "id": saved.review_id,
            "version": saved.version,
            "saved": saved.created.isoformat(),
            "author": saved.author,
            "verdict": saved.review.verdict,
        },
    )
