"""Time of one matrix product from five constants, for shapes that no table holds.

    t = launch + depth K + (memory^p + compute^p)^(1/p)
    memory  = (weights + inputs + outputs) / (data-sheet bandwidth x reached share)
    compute = 2 M' N' K / (data-sheet peak x reached share), M' and N' padded to tiles

`depth` is the time of one step along the inner dimension: a small product is a loop, not a stream.
Ignored: waves of tiles over the processors, split-K, and what a cache keeps from the product before.
"""

from __future__ import annotations

from typing import NamedTuple

ROW_TILE, COLUMN_TILE = 64, 128


class DataSheet(NamedTuple):
    """The data sheet: dense peak in FLOP/s for the format at hand, memory in bytes a second."""

    peak: float
    bandwidth: float


class GemmConstants(NamedTuple):
    """Seconds a launch, seconds a step of the inner dimension, shares of the data sheet, blend exponent."""

    launch: float
    depth: float
    bandwidth: float
    compute: float
    blend: float


def seconds(
    m: float, n: float, k: float, width: float, machine: DataSheet, constants: GemmConstants
) -> float:
    """Seconds of [m, k] x [k, n] with weights of `width` bytes; works on numpy arrays as well."""
    memory = moved(m, n, k, width) / (machine.bandwidth * constants.bandwidth)
    compute = 2 * padded(m, ROW_TILE) * padded(n, COLUMN_TILE) * k / (machine.peak * constants.compute)
    return constants.launch + constants.depth * k + blend(memory, compute, constants.blend)


def moved(m: float, n: float, k: float, width: float) -> float:
    """Bytes: weights once, inputs and outputs in 16 bits."""
    return n * k * width + 2 * m * (n + k)


def padded(size: float, tile: int) -> float:
    """`size` rounded up to whole tiles."""
    return -(-size // tile) * tile


def blend(first: float, second: float, power: float) -> float:
    """Between the sum (power 1) and the larger (power infinite) of two times that overlap in part."""
    total: float = (first**power + second**power) ** (1 / power)
    return total
