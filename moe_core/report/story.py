"""Story: what a review says, in order, before anything is laid out. Deck, HTML and PDF tell the same one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from moe_core.errors import ConfigError
from moe_core.report import answer, argument, kinds, tables
from moe_core.report.blocks import Block, Grid, Words
from moe_core.report.candidates import completed
from moe_core.report.decided import Decided, of_decided, read
from moe_core.report.formats import digest
from moe_core.report.manifest import Manifest, make
from moe_core.report.origins import MODELLED as MODELLED
from moe_core.report.origins import PREDICTED as PREDICTED
from moe_core.report.origins import SOURCES as SOURCES
from moe_core.report.plots import Plot, plots
from moe_core.report.resolved import Resolved
from moe_core.report.side import called, spoken
from moe_core.report.text import clean, line, unescaped
from moe_core.review import Review, Saved

VERDICT = "verdict"


class Story(NamedTuple):
    """A review, told.

    lead    its verdict in one sentence, empty before there is one.
    answer  what stands first in every file: the verdict, else what the scenarios themselves say.
    """

    title: str
    question: str
    lead: str
    answer: str
    blocks: tuple[Block, ...]
    manifest: Manifest


def tell(saved: Saved) -> Story:
    """The story of one version of a review. Raises ConfigError for a scenario it cannot read."""
    review, cases, found = saved.review, resolve(saved), read(saved.review.verdict)
    blocks = [*_decided(review, found), *_compared(cases), *_said(saved)]
    lead = _words(sentence(review.verdict))
    return Story(
        _words(line(review.title)),
        _words(line(review.question, 1_000)),
        lead,
        lead or (answer.sentence(cases, named=True) if cases else ""),
        tuple(_plain(block) for block in blocks),
        _manifest(saved, cases, found, [block for block in blocks if isinstance(block, Plot)]),
    )


def resolve(saved: Saved) -> dict[str, Resolved]:
    """The scenarios by name, with both candidates of the verdict among them.

    Raises ConfigError naming the one that cannot be read.
    """
    cases, found = {}, read(saved.review.verdict)
    for case in saved.review.scenarios:
        try:
            cases[case.name] = Resolved.of(case.resolved)
        except ConfigError as error:
            raise ConfigError(f"scenario ({line(case.name, 40)}): {error}") from error
    return called(cases if found is None else completed(cases, found))


def _decided(review: Review, found: Decided | None) -> list[Block]:
    return _verdict(review.verdict) if found is None else argument.blocks(found)


def _compared(cases: Mapping[str, Resolved]) -> list[Block]:
    return [_side_by_side(cases), *plots(cases)] if cases else []


def _said(saved: Saved) -> list[Block]:
    """What people wrote: on each scenario, on all of them, and what they decided."""
    review = saved.review
    notes = [review.notes] if review.notes else []
    notes += [f"{case.name}: {case.note}" for case in review.scenarios if case.note]
    found: list[Block] = [Words("Notes", "\n\n".join(notes))] if notes else []
    return found + ([_log(saved)] if saved.log else [])


def _words(text: str) -> str:
    """As people say it: no link of ours, no escape of Markdown."""
    return spoken(unescaped(text))


def _plain(block: Block) -> Block:
    if isinstance(block, Words):
        return Words(_words(block.heading), _words(block.text))
    if isinstance(block, Grid):
        rows = tuple(tuple(_words(cell) for cell in row) for row in block.rows)
        return block._replace(head=tuple(_words(cell) for cell in block.head), rows=rows)
    return block


def sentence(verdict: Mapping[str, Any] | None) -> str:
    """The verdict's own sentence, if it has one."""
    said = (verdict or {}).get("sentence", "")
    return line(said, 400) if isinstance(said, str) else ""


def _side_by_side(cases: Mapping[str, Resolved]) -> Grid:
    rows = tables.comparison(cases)
    several = len(cases) > 1
    marked = frozenset(at for at, row in enumerate(rows) if row.differs and several)
    return Grid(
        _heading(several, bool(marked)),
        ("", *cases),
        tuple((row.name, *row.values) for row in rows),
        marked,
    )


def _heading(several: bool, differ: bool) -> str:
    if not several:
        return "The scenario"
    return "The scenarios side by side" + ("; shaded rows differ" if differ else "")


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
