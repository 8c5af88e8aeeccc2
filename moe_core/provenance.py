"""Provenance: where a number comes from. Every number that reaches a user says which of four it is."""

from __future__ import annotations

from typing import Literal, NamedTuple

Provenance = Literal["measured here", "measured elsewhere", "published", "modelled"]


class Source(NamedTuple):
    """Where a number comes from, the tooltip that says it in full, and the run it was read from.

    busy: what else the machine did meanwhile, in words; empty where that did not matter.
    """

    kind: Provenance
    detail: str
    run: str | None = None
    busy: str = ""
