"""Times: what the predictor says of a resolved scenario, on as many devices as it takes to hold it.

Kernel times are published measurements where a table holds the shape, else modelled; the interval is 80 %.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from moe_core import hardware
from moe_core.errors import ConfigError
from moe_core.perf import fit
from moe_core.perf.shard import Parallel
from moe_core.perf.step_time import Step
from moe_core.report.resolved import Resolved

if TYPE_CHECKING:
    from moe_core.silicon.predict import Prediction

Phase = Literal["decode", "prefill"]


def applies(case: Resolved) -> bool:
    """Whether there is a time: the architecture is known in full and the device has a data sheet."""
    try:
        hardware.get(case.hardware)
    except ConfigError:
        return False
    return case.architecture is not None


@lru_cache(maxsize=256)
def layout(case: Resolved) -> Parallel:
    """The layout asked for if it fits, else the smallest that does. Raises InfeasibleError."""
    if fit.fit(case.setting, case.work, case.capacity, case.parallel).fits:
        return case.parallel
    return fit.devices(case.setting, case.work, case.capacity).parallel


@lru_cache(maxsize=2_048)
def predicted(case: Resolved, phase: Phase, batch: int) -> Prediction:
    """One step: decode writes a token for each sequence at full context, prefill reads every prompt.

    Raises InfeasibleError where no number of devices holds it.
    """
    from moe_core.silicon.predict import predict  # opens the tables

    assert case.architecture is not None, "`applies` says so"
    whole = phase == "prefill"
    step = Step(batch=batch, new=case.context if whole else 1, past=0 if whole else case.context - 1)
    return predict(
        case.architecture,
        hardware.get(case.hardware),
        step,
        precision=case.precision,
        kv=case.kv,
        parallel=layout(case),
        check_memory=batch != case.batch,  # `layout` has checked the scenario's own
    )
