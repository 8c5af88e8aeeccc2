"""Case: a spec with its pair, both candidates serving it, and what was recorded of them."""

from __future__ import annotations

from typing import NamedTuple

from moe_core.decide.pair import Pair, pair
from moe_core.decide.serving import Serving
from moe_core.decide.spec import DecideSpec


class Recorded(NamedTuple):
    """What a run of the test model adds: the relative load on the experts, and where it was recorded.

    Its quality is no argument: it is a small model on other text than the models that are judged.
    """

    load: tuple[float, ...] | None
    source: str
    here: bool = True  # on this device


class Case(NamedTuple):
    """Everything the factors look at. Scores are of the first candidate over the second."""

    spec: DecideSpec
    pair: Pair
    first: Serving
    second: Serving
    recorded: Recorded | None

    @property
    def devices(self) -> tuple[int, int]:
        """Devices of the mixture, then of the dense model."""
        mixture, dense = self.both
        return mixture.devices, dense.devices

    @property
    def both(self) -> tuple[Serving, Serving]:
        """The mixture, then the dense model: the order in which people are told."""
        return (self.first, self.second) if self.pair.leaning >= 0 else (self.second, self.first)

    def stretched(self, bias: float) -> Case:
        """The same with the mixture's times stretched by that logarithm: what an error would change."""
        load = self.recorded.load if self.recorded else None
        first, second = (
            Serving(one.candidate, self.spec, load, bias) if one.candidate.kind == "mixture" else one
            for one in (self.first, self.second)
        )
        return self._replace(first=first, second=second)


def case(spec: DecideSpec, recorded: Recorded | None = None, of: Pair | None = None) -> Case:
    """Look everything up."""
    chosen = of or pair(spec)
    load = recorded.load if recorded else None
    first, second = (Serving(one, spec, load) for one in (chosen.first, chosen.second))
    return Case(spec, chosen, first, second, recorded)
