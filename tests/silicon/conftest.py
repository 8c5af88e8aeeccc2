"""What several files compute from everything that ships, computed once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import pytest

from moe_core.silicon import endtoend, error_tables, layer_accuracy


class Everything(NamedTuple):
    """The score of every group of layers, every table made of their errors, and what was told meanwhile."""

    summary: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    shares: list[float]


@pytest.fixture(scope="session")
def served() -> tuple[list[endtoend.Case], dict[str, int]]:
    """Every served sample as a case, and how many were left out for which reason."""
    return endtoend.cases()


@pytest.fixture(scope="session")
def everything(served: tuple[list[endtoend.Case], dict[str, int]]) -> Everything:
    """A million errors of layers are computed once for the summary and the tables."""
    shares: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endtoend, "cases", lambda: served)
        patch.setattr(layer_accuracy, "errors", _kept(layer_accuracy.errors))
        summary = layer_accuracy.summary()
        tables = error_tables.compute(lambda share, words: shares.append(share))
    return Everything(summary, tables, shares)


def _kept(of: Any) -> Callable[..., pd.DataFrame]:
    """Like `of`, and what it answered stays until the end."""
    known: dict[tuple[str, ...], pd.DataFrame] = {}

    def ask(*group: str) -> pd.DataFrame:
        if group not in known:
            known[group] = of(*group)
        return known[group]

    ask.cache_clear = of.cache_clear  # type: ignore[attr-defined]
    return ask
