"""Worth: what mixtures are worth beside what they cost, both told as a dense width. No Streamlit here.

Quality is measured: of the shipped mixtures, trained alike, and the dense models beside them
(`moe_core.grid`). Time is the layer's model: of a layer of the scenario's hidden size and nearly its active
width, shared out over as many experts, on its device. Both widths are in multiples of the active one.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from moe_core import grid
from moe_core.grid import Member
from moe_core.perf.device_model import Mixture
from moe_core.scenario.costs import Study, layer_of
from moe_core.scenario.loads import POWER_LAW, form
from moe_core.silicon import dense_equivalent

STEP = 64  # widths of experts are multiples: kernels take others badly, and nobody builds them
COLUMNS = ("name", "experts", "top_k", "shared", "held", "quality", "cost", "low", "high")


def of(study: Study, tokens: int) -> pd.DataFrame:
    """`COLUMNS`, a row a mixture whose dense equal is known: none without trained dense models on both sides.

    quality, cost: dense width that is as good, and that takes as long at `tokens` at once, over the active
    width; low, high: the 80 % interval of cost; held: the width that is stored, over the active one.
    """
    rows = [
        _row(study, member, equal, tokens)
        for member in grid.scores()
        if member.experts and (equal := grid.dense_equivalent(member)) is not None
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(study: Study, member: Member, equal: float, tokens: int) -> dict[str, Any]:
    mixture = like(layer_of(study.mixture.architecture), member)
    load = (POWER_LAW, study.framework, (tokens,))
    (point,) = dense_equivalent.predicted(study.hardware, form(study), mixture, *load).points
    widths = {"cost": point.width, "low": point.low, "high": point.high}
    return {
        **{"name": grid.title(member), "experts": member.experts, "top_k": member.top_k},
        **{"shared": member.shared, "held": member.total / member.active},
        **{"quality": equal / member.active},
        **{name: width / mixture.active_width for name, width in widths.items()},
    }


def like(layer: Mixture, member: Member) -> Mixture:
    """A layer of this hidden size, its active width shared out as a member shares out its own."""
    width = max(1, round(layer.active_width / (member.top_k + member.shared) / STEP)) * STEP
    shared = member.shared * width
    return layer._replace(width=width, experts=member.experts, top_k=member.top_k, shared_width=shared)
