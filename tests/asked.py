"""What the first screen asks of the test model, and variations of it."""

from __future__ import annotations

from typing import Any

from moe_core.scenario.spec import Scenario
from moe_core.specs import RunSpec

ASKED = Scenario().run_spec()


def asked(**changes: Any) -> RunSpec:
    """The first screen's question with other values."""
    return RunSpec.parse(ASKED.model_dump(mode="json") | changes)


SWEEP = asked(lab="layer_sweep", batch=RunSpec().batch, seq=RunSpec().seq)
