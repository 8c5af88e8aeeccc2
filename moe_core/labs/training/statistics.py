"""Statistics: what several paired seeds say together. Intervals, and tests of "no effect". No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95


class Finding(NamedTuple):
    """One number with its 95 % interval over `seeds` runs; low and high are None for a single one."""

    value: float
    low: float | None = None
    high: float | None = None
    seeds: int = 1
    unit: str = ""


def half_width(spread: float | np.ndarray, count: float | np.ndarray) -> float | np.ndarray:
    """Half of the t interval (Student 1908) of a mean of `count` values with this spread (N - 1)."""
    found: float | np.ndarray = stdtrit(count - 1, 0.5 + LEVEL / 2) * spread / np.sqrt(count)
    return found


def over_seeds(values: Sequence[float], unit: str = "") -> Finding:
    """Mean and t interval of one value a seed. Differences must be paired before."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Finding(mean, None, None, count, unit)
    half = float(half_width(float(np.std(values, ddof=1)), count))
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
    below = stdtr(count - 1, -(mean + margin) / error)
    above = stdtr(count - 1, (mean - margin) / error)
    return float(max(below, above))
