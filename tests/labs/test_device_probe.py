"""The probe of the device, end to end at tiny sizes, and what the real one would time."""

import pytest
import torch

from benchmarks.kernels import SHAPES
from moe_core.errors import CancelledError, InfeasibleError
from moe_core.labs import device_probe
from moe_core.labs.device_probe import Probing
from moe_core.perf import device_model
from moe_core.perf.calibrate import Calibration
from moe_core.perf.device_model import Mixture
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.runs.context import Context
from moe_core.settings import Settings
from moe_core.specs import RunSpec

SPEC = RunSpec(lab="calibrate", device="cpu")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a thousandth of its size."""
    monkeypatch.setattr(device_probe, "BANKS", ((32, 16, 8, 2), (32, 32, 8, 1)))
    monkeypatch.setattr(device_probe, "NETWORKS", ((48, 64), (64, 128)))
    monkeypatch.setattr(device_probe, "PRODUCTS", ((64, 64),))
    monkeypatch.setattr(device_probe, "ROUTERS", ((32, 8),))
    monkeypatch.setattr(device_probe, "ROWS", (1, 4, 16))
    monkeypatch.setattr(device_probe, "MORE_ROWS", ())
    monkeypatch.setattr(device_probe, "READS", (2**14,))
    monkeypatch.setattr(device_probe, "BUDGET_S", 0.1)
    monkeypatch.setattr("moe_core.labs.bank.OVERFLOW", 0.01)


@pytest.fixture
def done(settings: Settings, small: None) -> Bundle:
    return bundle.verify(device_probe.execute(SPEC, Context()))


def test_the_bundle_holds_a_calibration_that_predicts(done: Bundle):
    assert done.tables == ()
    found = Calibration.parse(tupled(done.manifest.summary["calibration"]))
    assert "fp32" in found.rates
    assert found.launch_s > 0
    for dtype in found.rates:
        guess = device_model.mixture(found, dtype, Mixture(48, 24, 8, 2, 24), 8)
        assert guess.seconds >= guess.roof_s > 0
        assert guess.parts["layer"] >= 0


def tupled(value: object) -> object:
    """JSON lists as the tuples a strict model wants."""
    if isinstance(value, dict):
        return {name: tupled(part) for name, part in value.items()}
    return tuple(tupled(part) for part in value) if isinstance(value, list) else value


def test_it_reports_and_stops_when_cancelled(settings: Settings, small: None):
    def cancel() -> None:
        raise CancelledError("cancelled on request")

    with pytest.raises(CancelledError):
        device_probe.execute(SPEC, Context(check=cancel))
    assert bundle.published(settings.runs_dir) == []


def test_what_does_not_fit_is_refused_with_the_numbers(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("moe_core.runs.admission.free_memory", lambda device: 10**8)
    with pytest.raises(InfeasibleError, match=r"needs .*B .* has 100 MB free"):
        device_probe.execute(SPEC, Context())


def test_no_probe_has_the_shape_of_a_layer_of_the_benchmark_grid(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device_probe, "_elements", lambda device: 2**16)
    probes = Probing(torch.device("cpu")).probes()
    grid = {(shape.hidden, shape.width) for shape in SHAPES.values()}
    grid |= {(s.hidden, s.width * n) for s in SHAPES.values() for n in (s.top_k, s.experts)}
    assert len(probes) > 150
    assert not {(probe.hidden, probe.width) for probe in probes if probe.kind in ("ffn", "experts")} & grid
    assert all(probe.flops <= device_probe.MOST_FLOPS["cpu"] for probe in probes)


def test_routings_of_a_probe_hit_as_many_experts_as_is_expected():
    probe = device_probe.Probe("experts", "fp32", 8, 32, 16, 64, 4)
    for routing in device_probe._typical(probe, torch.device("cpu")):
        assert abs(int((routing.load_E() > 0).sum()) - probe.busy) < 1
