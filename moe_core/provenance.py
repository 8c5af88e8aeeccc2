"""Provenance: where a number comes from. Every number that reaches a user says which of four it is."""

from __future__ import annotations

from typing import Literal

Provenance = Literal["measured here", "measured elsewhere", "published", "modelled"]
