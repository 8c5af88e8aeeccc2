"""Time of what devices send each other: a start and a bandwidth (Hockney 1994), per library and rank count.

    t = start + sent / bandwidth,   sent = what each rank sends
    all_reduce 2 (R-1)/R B, all_gather and reduce_scatter (R-1)/R B, alltoall (R-1)/R B

for a buffer of B bytes over R ranks (ring; Thakur et al. 2005). Expert-parallel dispatch sends every
token to the ranks its experts live on; combine brings 16-bit results back.
"""

from __future__ import annotations

from math import log2
from typing import NamedTuple

NODE = 8  # devices joined by the fast link; beyond that the network carries what leaves the node
NETWORK = 50e9  # bytes a second of one 400 Gb/s adapter a device


class Link(NamedTuple):
    """Start-up in seconds and bytes a second, at a measured number of ranks."""

    ranks: int
    start: float
    bandwidth: float


def sent(op: str, ranks: int, nbytes: float) -> float:
    """Bytes each rank sends."""
    return (2.0 if op == "all_reduce" else 1.0) * (ranks - 1) / ranks * nbytes


def collective(op: str, ranks: int, nbytes: float, lines: tuple[Link, ...]) -> float:
    """Seconds inside a node at any rank count: constants of the nearest measured count.

    Between and beyond measured counts the start grows with log2 of the ranks.
    """
    if ranks <= 1:
        return 0.0
    near = min(lines, key=lambda line: abs(log2(line.ranks) - log2(ranks)))
    start = near.start * (log2(ranks) + 1) / (log2(near.ranks) + 1)
    inside = start + sent(op, ranks, nbytes) / near.bandwidth
    if ranks <= NODE:
        return inside
    return inside + sent(op, -(-ranks // NODE), nbytes) / (NETWORK * NODE) + start


def visited(ranks: int, top_k: int) -> float:
    """Ranks a token's experts live on, expected when each choice is even: R (1 - (1 - 1/R)^K)."""
    return ranks * (1 - (1 - 1 / ranks) ** top_k)


def exchange_bytes(
    tokens: float, hidden: int, top_k: int, ranks: int, width: float, once: bool = True
) -> float:
    """Bytes a rank sends for `tokens` of its own: one copy a visited rank (`once`), or one an expert."""
    copies = visited(ranks, top_k) if once else top_k
    return tokens * hidden * width * copies * (ranks - 1) / ranks


def exchange(nbytes: float, ranks: int, line: Link) -> float:
    """Seconds of a dispatch or a combine: a measured line inside the node, the network beyond it."""
    if ranks <= 1:
        return 0.0
    if ranks <= NODE:
        return line.start + nbytes / line.bandwidth
    outside = 1 - NODE / ranks
    return line.start * (1 + log2(ranks / NODE) / 2) + nbytes * outside / NETWORK
