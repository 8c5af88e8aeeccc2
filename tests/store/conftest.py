from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moe_core.settings import Settings
from moe_core.store.db import Store


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """An open, empty store."""
    opened = Store.open(settings)
    yield opened
    opened.close()


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    """A reference directory without references, so that tests see only their own runs."""
    return tmp_path / "no-reference"
