"""Statistics: what several paired seeds say together. Intervals, and tests of "no effect"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Finding(NamedTuple):
    """One number with its 95 % interval over `seeds` runs; low and high are None for a single one."""

    value: float
    low: float | None = None
    high: float | None = None
    seeds: int = 1
    unit: str = ""


def over_seeds(values: Sequence[float], unit: str = "") -> Finding:
    """Mean and t interval (Student 1908) of one value a seed. Differences must be paired before."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Finding(mean, None, None, count, unit)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return Finding(mean, mean - half, mean + half, count, unit)


def paired(first: Sequence[float], second: Sequence[float], unit: str = "") -> Finding:
    """Mean of first - second, seed by seed, with its interval."""
    assert len(first) == len(second), "arms are paired by seed"
    return over_seeds([a - b for a, b in zip(first, second, strict=True)], unit)


def equivalent(differences: Sequence[float], margin: float) -> float:
    """The p of two one-sided t tests (Schuirmann 1987) that the mean lies within +-margin. 1 for one seed.

    Below 0.05: no effect as large as the margin.
    """
    count = len(differences)
    if count < 2:
        return 1.0
    mean, error = float(np.mean(differences)), float(np.std(differences, ddof=1) / np.sqrt(count))
    if error == 0.0:
        return 0.0 if abs(mean) < margin else 1.0
    below = stats.t.sf((mean + margin) / error, count - 1)
    above = stats.t.cdf((mean - margin) / error, count - 1)
    return float(max(below, above))
