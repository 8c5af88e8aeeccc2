"""Origins: where the computed numbers of every report come from, in a sentence each."""

from __future__ import annotations

from moe_core.report.manifest import Origin

MODELLED = Origin(
    kind="modelled",
    detail="parameters counted from the architecture, memory in closed form (moe_core/perf), "
    "a twentieth of each device left to framework and fragmentation",
)
PREDICTED = Origin(
    kind="modelled",
    detail="times from published kernel measurements where a table holds the shape, else from models fitted "
    "to them, with their 80 % interval; on as many devices as it takes (moe_core/silicon)",
)
SOURCES = (MODELLED, PREDICTED)
