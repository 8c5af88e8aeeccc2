"""Roofline: the least time that work and traffic allow (Williams, Waterman and Patterson 2009)."""

from __future__ import annotations

from typing import Literal, NamedTuple

Bound = Literal["memory", "compute"]


class Roof(NamedTuple):
    """A device's limits: FLOP a second and bytes a second."""

    flops: float
    bytes: float

    @property
    def ridge(self) -> float:
        """FLOP a byte from which the multipliers are the limit."""
        return self.flops / self.bytes

    def seconds(self, flops: float, moved: float) -> float:
        """The least time: multiplying and reading overlap perfectly, everything else is free."""
        return max(flops / self.flops, moved / self.bytes)

    def reachable(self, intensity: float) -> float:
        """FLOP a second at `intensity` FLOP a byte, at best."""
        return min(self.flops, intensity * self.bytes)

    def bound(self, flops: float, moved: float) -> Bound:
        """Which limit it is."""
        return "compute" if flops / self.flops >= moved / self.bytes else "memory"


def ridge_tokens(roof: Roof, itemsize: float, experts: int = 1, top_k: int = 1) -> float:
    """Tokens from which a layer is compute-bound: 2 T / itemsize FLOP a byte, and E / K times as many in a
    mixture once all its experts are read. Ignores activations.
    """
    return roof.ridge * itemsize / 2 * experts / top_k
