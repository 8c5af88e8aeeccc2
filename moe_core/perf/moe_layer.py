"""Time of the grouped experts of one MoE layer on one rank, from what it must move and multiply.

    seconds = launches + per expert, pair and block + rows moved + (memory^s + compute^s)^(1/s)

    memory   weights of the touched experts over the data sheet's bandwidth, times a loss that depends on
             the tile; less, when cached, what a cache that is never flushed saves
    compute  rows padded to whole tiles over the dense peak, times a loss that depends on the tile
    tile     16 rows at few tokens an expert, then 64, then 128: two smooth switches
    rows     what is gathered, activated and summed for every pair, of all ranks: kernels write a row for
             a pair of another rank too

Memory is never faster than the data sheet (unless cached), compute never faster than the peak: the
losses are added to one. The constants are fitted (`silicon.workshop.fit_layers`) per device, framework,
format and kernel. Ignored: the router, tuned tile sizes of single shapes, the shape of a draw beyond its
means.
"""

from __future__ import annotations

from math import exp, log
from typing import NamedTuple

import numpy as np

from moe_core.perf.expert_load import Load, Values


class LayerCase(NamedTuple):
    """What is timed: T tokens on all ranks together through E experts of width `inter`. Numbers or arrays."""

    tokens: Values
    hidden: Values
    inter: Values
    experts: Values
    top_k: Values
    tp: Values = 1
    ep: Values = 1
    gated: Values = True


class Machine(NamedTuple):
    """Data sheet: bytes a second, FLOP a second in the format multiplied, bytes of the last-level cache."""

    bandwidth: float
    peak: float
    cache: float
    weight_bytes: float  # of one stored weight, scales included


class Constants(NamedTuple):
    """What is fitted. All above zero; losses are added to one."""

    launch_us: float = 20.0
    split_us: float = 5.0  # with expert parallelism
    align_us: float = 10.0  # sorting pairs, saturating
    align_pairs: float = 64.0
    expert_ns: float = 10.0
    pair_ps: float = 5.0
    block16_ps: float = 100.0  # a thread block, also where it finds nothing to do
    block64_ps: float = 100.0
    memory16_loss: float = 0.2
    memory64_loss: float = 0.2
    activated: float = 0.7  # rows of the inner width, passes over memory
    summed: float = 0.7  # rows of the hidden width
    gathered: float = 0.5  # rows of this rank's pairs
    compute16_loss: float = 1.0
    compute64_loss: float = 0.5
    compute128_loss: float = 0.4
    switch: float = 3.0  # tokens an expert at which tiles of 64 begin
    switch_slope: float = 2.0
    switch_top_k: float = 0.5  # power of K in the switch
    switch_ranks: float = 0.5  # power of R in the switch
    switch128: float = 128.0
    switch128_slope: float = 2.0
    cached_share: float = 0.5  # of the cache, at which half the weights are still found there
    cached_gain: float = 1.0
    overlap: float = 1.8  # the power s: 1 adds, infinity takes the maximum
    misaligned: float = 1.5  # inner width not a multiple of 16
    spill: float = 0.2  # compute, when gathered rows outgrow the cache
    spill_at: float = 1.0


class LayerWork(NamedTuple):
    """What a case asks of a machine: seconds at the data sheet's rates, and plain counts."""

    memory: Values
    flops: Values
    compute16: Values
    compute64: Values
    compute128: Values
    activated: Values
    summed: Values
    gathered: Values
    cache_fill: Values
    rows_fill: Values
    experts: Values
    pairs: Values
    blocks16: Values
    blocks64: Values
    misaligned: Values
    split: Values
    log_tokens: Values
    log_ranks: Values
    log_top_k: Values


def work(case: LayerCase, load: Load, machine: Machine) -> LayerWork:
    """Everything that does not depend on fitted constants."""
    inter = case.inter / case.tp
    up = (1 + case.gated) * inter
    matrix = (up + inter) * case.hidden
    weights = load.distinct * matrix * machine.weight_bytes
    everyone = case.tokens * case.top_k

    def padded(tiles: Values, rows: int) -> Values:
        return 2 * rows * tiles * case.hidden * (_up(up) + _up(inter)) / machine.peak

    def blocks(rows: int) -> Values:
        launched = _least(everyone, everyone / rows + case.experts)
        return launched * (_up(up) + _up(case.hidden)) / 64

    two = 2 / machine.bandwidth  # activations are 16 bits wide
    return LayerWork(
        memory=weights / machine.bandwidth,
        flops=2 * load.pairs * matrix / machine.peak,
        compute16=padded(load.tiles16, 16),
        compute64=padded(load.tiles64, 64),
        compute128=padded(load.tiles128, 128),
        activated=everyone * (up + inter) * two,
        summed=(everyone + 2 * case.tokens) * case.hidden * two,
        gathered=load.pairs * (2 * case.hidden + up + inter) * two,
        cache_fill=weights / machine.cache,
        rows_fill=load.pairs * case.hidden * 2 / machine.cache,
        experts=case.experts,
        pairs=everyone,
        blocks16=blocks(16),
        blocks64=blocks(64),
        misaligned=(inter % 16 != 0) * 1.0,
        split=(case.ep > 1) * 1.0,
        log_tokens=_log(case.tokens / case.experts),
        log_ranks=_log(case.ep),
        log_top_k=_log(case.top_k),
    )


def seconds(of: LayerWork, c: Constants, cached: bool = False) -> Values:
    """Seconds of the layer. `cached`: as in the tables, whose weights stay in the cache between repeats."""
    large, largest = _tiles(of, c)
    slower = 1 + c.misaligned * of.misaligned
    memory = of.memory * (1 + (1 - large) * c.memory16_loss + large * c.memory64_loss) * slower
    if cached:
        found = 1 / (1 + (of.cache_fill / c.cached_share) ** 2)
        memory = memory * (1 - found * c.cached_gain / (1 + c.cached_gain))
    whole = (1 - largest) * of.compute64 * (1 + c.compute64_loss)
    whole = whole + largest * of.compute128 * (1 + c.compute128_loss)
    compute = ((1 - large) * of.compute16 * (1 + c.compute16_loss) + large * whole) * slower
    compute = compute * (1 + c.spill / (1 + (c.spill_at / _most(of.rows_fill, 1e-12)) ** 2))
    return overhead(of, c) + (memory**c.overlap + compute**c.overlap) ** (1 / c.overlap)


def overhead(of: LayerWork, c: Constants) -> Values:
    """Seconds spent on neither expert weights nor products: launches, sorting, empty blocks, rows moved."""
    large, _ = _tiles(of, c)
    launch = c.launch_us + c.split_us * of.split + c.align_us * (1 - _exp(-of.pairs / c.align_pairs))
    blocks = (1 - large) * of.blocks16 * c.block16_ps + large * of.blocks64 * c.block64_ps
    counted = c.expert_ns * 1e-9 * of.experts + 1e-12 * (c.pair_ps * of.pairs + blocks)
    return (
        launch * 1e-6 + counted + c.activated * of.activated + c.summed * of.summed + c.gathered * of.gathered
    )


def roof(of: LayerWork) -> Values:
    """No kernel is faster than this without a cache: weights at the peak bandwidth, products at the peak."""
    return _most(of.memory, of.flops)


def _tiles(of: LayerWork, c: Constants) -> tuple[Values, Values]:
    """Shares of the work in tiles of 64 rows and more, and of those in tiles of 128."""
    at = of.log_tokens + c.switch_ranks * of.log_ranks + c.switch_top_k * of.log_top_k
    return _switch(at, c.switch, c.switch_slope), _switch(at, c.switch128, c.switch128_slope)


def _switch(at: Values, where: float, slope: float) -> Values:
    return 1 / (1 + _exp(-_most(_least(slope * (at - log(where)), 40.0), -40.0)))


def _up(width: Values) -> Values:
    """Columns padded to whole tiles of 64."""
    return -(-width // 64) * 64


# Numbers take a tenth of the time without numpy, and one answer is made of them; fits take arrays.


def _exp(x: Values) -> Values:
    return np.exp(x) if isinstance(x, np.ndarray) else exp(x)


def _log(x: Values) -> Values:
    return np.log(x) if isinstance(x, np.ndarray) else log(x)


def _least(x: Values, y: Values) -> Values:
    return np.minimum(x, y) if isinstance(x, np.ndarray) or isinstance(y, np.ndarray) else min(x, y)


def _most(x: Values, y: Values) -> Values:
    return np.maximum(x, y) if isinstance(x, np.ndarray) or isinstance(y, np.ndarray) else max(x, y)
