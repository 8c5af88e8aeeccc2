"""Claims: the ledger settled with what experiments found so far, its tables and figures, once a state."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from app import data
from app.claims import charts
from app.figure import Figure
from moe_core.claims import export, spec
from moe_core.claims.ledger import Settled, corrected
from moe_core.claims.ledger import ledger as settle
from moe_core.claims.spec import Correction
from moe_core.report.text import cell

ALL = "all"
GROUPS = {"Topic": "topic", "Type": "type", "Document": "document"}


def settled() -> tuple[Settled, ...]:
    """Every claim with its evidence; shared, so not to be changed."""
    return _settled(data.state())


@st.cache_resource(show_spinner=False, max_entries=4)
def _settled(state: str) -> tuple[Settled, ...]:
    return settle(data.findings())


def by_id() -> dict[str, Settled]:
    """The same by id."""
    return {one.claim.id: one for one in settled()}


def corrections() -> list[tuple[Correction, str, list[Settled]]]:
    """Each correction, what is right in words, and the claims that it corrects."""
    every = settled()
    return [
        (one, corrected(one, every), [row for row in every if row.claim.correction == one.number])
        for one in spec.ledger().correction
    ]


def choices() -> dict[str, tuple[str, ...]]:
    """What the rows can be narrowed by."""
    return export.filters(settled())


def narrowed(wanted: dict[str, str], words: str) -> list[Settled]:
    """The rows that have every wanted value, and every word somewhere in id, claim, condition or evidence."""
    needles = words.casefold().split()
    return [one for one in settled() if _has(one, wanted) and all(word in _text(one) for word in needles)]


def _has(one: Settled, wanted: dict[str, str]) -> bool:
    said: dict[str, tuple[str, ...]] = {"verdict": (one.outcome,), "how": one.how}
    said |= {"document": (one.claim.document,), "topic": (one.claim.topic,)}
    return all(value in (ALL, *said[field]) for field, value in wanted.items())


def _text(one: Settled) -> str:
    parts = [one.claim.id, one.claim.claim, one.claim.condition, one.claim.reason, one.claimed, one.found]
    parts += [f"{found.evidence.measures} {found.source.detail}" for found in one.evidence]
    return " ".join(parts).casefold()


def table(rows: list[Settled]) -> pd.DataFrame:
    """One line a claim, in the order of the file."""
    return pd.DataFrame([export.row(one) for one in rows], columns=COLUMNS)


COLUMNS = [
    *("id", "claim", "verdict", "claimed", "found", "condition", "how", "topic", "type", "document"),
    *("correction", "provenance", "source", "again"),
]


def csv(rows: list[Settled]) -> bytes:
    """The rows as a file for spreadsheets."""
    return table(rows).map(cell).to_csv(index=False).encode()


def as_json(rows: list[Settled]) -> bytes:
    """The rows with all their evidence, as `python -m moe_core claims --json` writes them."""
    return json.dumps(export.ledger(rows, settled()), ensure_ascii=False, indent=1).encode()


def figure(by: str) -> Figure:
    """Verdicts by topic, type or document."""
    return _figure(data.state(), by)


@st.cache_resource(show_spinner=False, max_entries=16)
def _figure(state: str, by: str) -> Figure:
    rows = [(getattr(one.claim, GROUPS[by]), one.outcome) for one in settled()]
    frame = pd.DataFrame(rows, columns=["group", "verdict"])
    counted = frame.groupby(["group", "verdict"], as_index=False).size().rename(columns={"size": "claims"})
    return charts.verdicts(counted, by.lower())
