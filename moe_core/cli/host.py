"""Experts in host memory, on the command line: how many must go, and how fast what is left is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from moe_core.errors import ConfigError, InfeasibleError
from moe_core.hardware import Hardware
from moe_core.perf import offload
from moe_core.perf.fit import Setting, usable
from moe_core.perf.memory import Workload, footprint
from moe_core.specs import Experts
from moe_core.units import GIGA, quantity

Share = Annotated[
    str | None,
    typer.Option(help="Share of the experts in host memory, 0 to 1; fit: as many as must go for one device."),
]
Memory = Annotated[float, typer.Option(help="Bandwidth of the host's memory, 10^9 bytes a second.")]
DESKTOP = offload.HOST / GIGA


def popularity(bank: Experts, batch: int) -> tuple[float, ...] | None:
    """How often a test model visits its experts, by rank, on as many as these; None: nothing recorded."""
    from moe_core.cli.hear import hear
    from moe_core.scenario.spec import nearest_run
    from moe_core.silicon.predict import resampled

    known = (bank.count, bank.top_k, bank.shared)
    heard = hear(nearest_run(known, "carved", 256, batch, "auto"), known)
    return resampled(heard.load, bank.count) if heard is not None and heard.load else None


def hosted(
    setting: Setting,
    workload: Workload,
    device: Hardware,
    share: str,
    host_gbs: float,
    load: tuple[float, ...] | None,
    tokens: int | None = None,
) -> tuple[float, offload.Offload]:
    """The share that lies on the host and what a step of `tokens` pays, or of one a sequence.

    Raises ConfigError or InfeasibleError.
    """
    if not 0 < host_gbs <= 1e6:
        raise ConfigError(f"host_gbs ({host_gbs:g}): must be above zero, at most 1,000,000")
    whole = footprint(setting.model, workload, setting.precision, setting.kv)
    room = usable(device.capacity, setting.headroom) - (whole.total - whole.weights_total)
    if share == "fit":
        found = offload.least(setting.model, room, setting.precision)
        if found is None:
            least = quantity(whole.total - whole.weights.get("experts", 0), "B")
            gives = quantity(usable(device.capacity, setting.headroom), "B")
            raise InfeasibleError(f"needs {least} beside its experts, {device.title} has {gives} for it")
    else:
        found = _share(share)
    step = tokens or workload.batch
    asked = (found, device.host, step, setting.precision, load, host_gbs * GIGA)
    kept = offload.offload(setting.model, *asked)
    if kept.device > room:
        needs, has = quantity(kept.device, "B"), quantity(max(room, 0), "B")
        raise InfeasibleError(f"needs {needs} of weights on the device, {device.title} has {has} for them")
    return found, kept


def _share(text: str) -> float:
    try:
        found = float(text)
    except ValueError as error:
        raise ConfigError(f"host_experts ({text[:40]}): must be a number from 0 to 1, or fit") from error
    if not 0 <= found <= 1:
        raise ConfigError(f"host_experts ({text[:40]}): must be a number from 0 to 1, or fit")
    return found


def values(share: float, kept: offload.Offload) -> dict[str, Any]:
    """What stays, what goes, and the least that a step waits."""
    return {"share": share, **kept._asdict()}


def line(share: float, kept: offload.Offload) -> str:
    """`83 % of the experts on the host: 11.2 GB stay, 50.5 GB there; ...`."""
    held = f"{quantity(kept.device, 'B')} of weights stay, {quantity(kept.host, 'B')} there"
    moved, there = quantity(kept.moved, "s"), quantity(kept.computed, "s")
    adds = f"a step adds at least {moved} to move what it touches, or {there} to compute it there"
    return f"{share:.0%} of the experts on the host: {held}; {adds}"
