"""Which measured system stands for a device."""

from __future__ import annotations

import pytest

from moe_core import hardware
from moe_core.perf.step_time import Step
from moe_core.registry import get
from moe_core.silicon import systems
from moe_core.silicon.predict import predict


@pytest.mark.parametrize("device", hardware.devices(), ids=lambda device: device.name)
def test_every_listed_device_has_one(device: hardware.Hardware) -> None:
    assert systems.of(device).name in systems.SYSTEMS


@pytest.mark.parametrize("name", ["H100", "B200", "L40S", "A100 80GB"])
def test_ones_own_has_the_nearest_and_a_wider_interval(name: str) -> None:
    listed = hardware.get(name)
    peaks = " ".join(f"{form}={value:g}" for form, value in listed.peak_tflops.items())
    own = hardware.get(
        f"Mine: memory={listed.capacity_gb:g} bandwidth={listed.bandwidth_gbs:g} host=64 {peaks}"
    )
    assert systems.of(own) == (systems.of(listed).name, False)
    arch = get("OLMoE-1B-7B").architecture
    assert arch is not None
    theirs, mine = (predict(arch, one, Step(batch=8, new=1, past=1024)) for one in (listed, own))
    assert mine.upper / mine.lower > theirs.upper / theirs.lower
    assert mine.seconds == pytest.approx(theirs.seconds, rel=0.5)
