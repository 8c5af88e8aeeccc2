"""Blocks: what a report is made of. Words, tables, and the charts of `plots`; nothing here knows a format."""

from __future__ import annotations

from typing import NamedTuple

from moe_core.report.plots import Plot


class Words(NamedTuple):
    """A heading and paragraphs."""

    heading: str
    text: str


class Grid(NamedTuple):
    """A heading and a table; `marked` rows are where the scenarios differ."""

    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[int] = frozenset()


Block = Words | Grid | Plot
