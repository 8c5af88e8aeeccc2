"""A predicted step whose coldest experts lie in host memory."""

from __future__ import annotations

from typing import NamedTuple

from moe_core.perf.offload import Offload
from moe_core.silicon.predict import Prediction


class Hosted(NamedTuple):
    """Seconds of the step if the host's experts cross the link, and if the host computes them."""

    moved: float
    computed: float


def hosted(step: Prediction, kept: Offload) -> Hosted:
    """The step as predicted, its experts' part shared out. Nothing overlaps: lower bounds of what is added.

    Moved experts are computed on the device as before; those the host computes leave it idle meanwhile.
    """
    experts = sum(part.seconds for part in step.parts if part.component == "experts")
    rest = step.seconds - experts
    return Hosted(step.seconds + kept.moved, rest + experts * (1 - kept.away) + kept.computed)
