"""A grid of trained models without the models: members with a score, on a shelf of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from moe_core import grid
from moe_core.grid import Member


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty grid; `ship` puts members on it."""
    monkeypatch.setattr(grid, "FOLDER", tmp_path)
    grid.scores.cache_clear()
    yield
    grid.scores.cache_clear()


def ship(member: Member, bits: float) -> None:
    """A member of that score, a little better over long windows."""
    member.path.touch()
    event = {"event": "heldout", "int8": {"256": bits, "1024": bits - 0.1}}
    member.path.with_suffix(".log").write_text(json.dumps(event) + "\n")
