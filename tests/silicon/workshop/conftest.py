"""What several files compute from everything that ships, computed once."""

from __future__ import annotations

import pytest

from moe_core.silicon.workshop import served as workshop


@pytest.fixture(scope="session")
def served() -> tuple[list[workshop.ServedCase], dict[str, int]]:
    """Every served sample as a case, and how many were left out for which reason."""
    return workshop.cases()
