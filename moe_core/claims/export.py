"""Export: the ledger as plain values, for JSON, tables and files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from moe_core.claims import spec, words
from moe_core.claims.ledger import HOWS, Exhibit, Settled, corrected, counts
from moe_core.claims.verdict import OUTCOMES

AGREED = {True: "agrees", False: "does not agree", None: "open"}


def filters(every: Sequence[Settled]) -> dict[str, tuple[str, ...]]:
    """What a list of claims can be narrowed by: field and its values."""
    topics = {one.claim.topic for one in every}
    return {
        "document": tuple(get_args(spec.Document)),
        "verdict": tuple(OUTCOMES),
        "how": tuple(HOWS.values()),
        "topic": tuple(topic for topic in get_args(spec.Topic) if topic in topics),
    }


def against(found: Exhibit) -> str:
    """What a piece of evidence is held against; nothing where it is only shown."""
    if found.statement is None or found.evidence.role == "beside":
        return ""
    parts = (words.claimed(found.statement), words.tolerance(found.statement))
    return ", ".join(part for part in parts if part)


def row(one: Settled) -> dict[str, Any]:
    """A claim on one line, as tables and CSV have it."""
    claim, main = one.claim, one.main
    return {
        "id": claim.id,
        "document": claim.document,
        "topic": claim.topic,
        "type": claim.type,
        "claim": claim.claim,
        "claimed": one.claimed,
        "found": one.found,
        "how": ", ".join(one.how),
        "verdict": one.outcome,
        "condition": claim.condition,
        "correction": claim.correction,
        "provenance": "" if main is None or main.computed is None else main.source.kind,
        "source": "" if main is None else main.source.detail,
        "again": "" if main is None else main.link.command or main.link.text,
    }


def values(one: Settled) -> dict[str, Any]:
    """A claim with all its evidence."""
    return {**row(one), "evidence": [_piece(found) for found in one.evidence]}


def _piece(found: Exhibit) -> dict[str, Any]:
    computed = found.computed
    return {
        "measures": found.evidence.measures,
        "by": found.evidence.by,
        "role": found.evidence.role,
        "against": against(found),
        "value": None if computed is None else computed.value,
        "low": None if computed is None else computed.low,
        "high": None if computed is None else computed.high,
        "unit": found.unit,
        "agrees": found.agrees if found.evidence.role != "beside" else None,
        "missing": found.missing,
        "provenance": found.source.kind,
        "source": found.source.detail,
        "run": found.source.run,
        "page": found.link.page,
        "query": dict(found.link.query),
        "command": found.link.command,
    }


def ledger(shown: Sequence[Settled], every: Sequence[Settled]) -> dict[str, Any]:
    """Claims with their counts, the corrections that they belong to, and the documents' titles."""
    whole, flagged = spec.ledger(), {one.claim.correction for one in shown}
    return {
        "documents": dict(whole.document),
        "counts": counts(shown),
        "corrections": [
            {"number": one.number, "title": one.title, "says": corrected(one, every)}
            for one in whole.correction
            if one.number in flagged
        ],
        "claims": [values(one) for one in shown],
    }
