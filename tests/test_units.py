"""Units: how quantities and counts are written."""

from __future__ import annotations

import pytest

from moe_core.report.text import many
from moe_core.units import count, quantity, significant


@pytest.mark.parametrize(
    ("value", "words"),
    [(28, "28"), (1, "1"), (0, "0"), (999, "999"), (28.5, "28.5"), (1_234, "1.23 k"), (46.7e9, "46.7 B")],
)
def test_few_are_counted_and_many_are_rounded(value: float, words: str) -> None:
    assert count(value) == words


def test_quantities_have_three_significant_figures() -> None:
    assert significant(42.5857) == "42.6"
    assert significant(1234.5) == "1,230"
    assert quantity(9.34e10, "B") == "93.4 GB"


def test_one_is_singular() -> None:
    assert many(1, "figures") == "1 figure"
    assert many(0, "experts") == "0 experts"
    assert many(1_024, "tokens") == "1,024 tokens"
