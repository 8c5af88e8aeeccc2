"""The probe of the device, end to end at tiny sizes, and what the real one would time."""

import pytest
import torch

from benchmarks.kernels import SHAPES
from moe_core.device import DTYPES
from moe_core.errors import CancelledError, InfeasibleError
from moe_core.labs import device_probe, probes
from moe_core.labs.bank import Pool
from moe_core.labs.device_probe import Probe, Probing
from moe_core.nn.tuning import Timing, Tuning
from moe_core.perf import device_model
from moe_core.perf.calibrate import Calibration
from moe_core.perf.device_model import Mixture
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.runs.context import RunContext
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.units import GIB, MIB

CPU = torch.device("cpu")
SPEC = RunSpec(lab="calibrate", device="cpu")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a thousandth of its size."""
    monkeypatch.setattr(probes, "BANKS", ((32, 16, 8, 2), (32, 32, 8, 1)))
    monkeypatch.setattr(probes, "NETWORKS", ((48, 64), (64, 128)))
    monkeypatch.setattr(probes, "PRODUCTS", ((64, 64),))
    monkeypatch.setattr(probes, "ROUTERS", ((32, 8),))
    monkeypatch.setattr(probes, "ROWS", (1, 4, 16))
    monkeypatch.setattr(probes, "MORE_ROWS", ())
    monkeypatch.setattr(probes, "READS", (2**14,))
    monkeypatch.setattr(device_probe, "BUDGET_S", 0.1)
    monkeypatch.setattr(device_probe, "BUSY_S", 0.1)
    monkeypatch.setattr(probes, "PAIRS_ROWS", (64,))
    monkeypatch.setattr("moe_core.labs.bank.OVERFLOW", 0.01)


@pytest.fixture
def done(settings: Settings, small: None) -> Bundle:
    return bundle.verify(device_probe.execute(SPEC, RunContext()))


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
        device_probe.execute(SPEC, RunContext(check=cancel))
    assert bundle.published(settings.runs_dir) == []


def test_what_does_not_fit_is_refused_with_the_numbers(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("moe_core.runs.admission.free_memory", lambda device: 10**8)
    with pytest.raises(InfeasibleError, match=r"needs .*B .* has 100 MB free"):
        device_probe.execute(SPEC, RunContext())


def test_no_probe_has_the_shape_of_a_layer_of_the_benchmark_grid(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device_probe, "_elements", lambda device: 2**16)
    found = Probing(torch.device("cpu")).probes()
    grid = {(shape.hidden, shape.width) for shape in SHAPES.values()}
    grid |= {(s.hidden, s.width * n) for s in SHAPES.values() for n in (s.top_k, s.experts)}
    assert len(found) > 150
    assert not {(probe.hidden, probe.width) for probe in found if probe.kind in ("ffn", "experts")} & grid


BF16_SLOWER = {"amx": 0.2, "native": 1.0, "emulated": 30.0}


class Machine:
    """A processor that takes the time its probes have work for, by a clock of its own. Computes nothing."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, cache: int, memory: int, flops: float, bf16: str
    ) -> None:
        self.now, self.flops, self.slower = 0.0, flops, BF16_SLOWER[bf16]
        self.longest = 0.0
        monkeypatch.setattr("moe_core.labs.bank.cache_bytes", lambda device: cache)
        for room in ("bank", "probes"):
            monkeypatch.setattr(f"moe_core.labs.{room}.free_memory", lambda device: memory)
        monkeypatch.setattr(device_probe.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(device_probe.Pool, "filled", classmethod(self._pool))
        monkeypatch.setattr(Probing, "_time", lambda probing, probe, warm: self.time(probing, probe, warm))

    @staticmethod
    def _pool(kind: type[Pool], elements: int, dtype: torch.dtype, device: torch.device) -> Pool:
        """Memory that is promised and never touched."""
        return kind(torch.empty(elements, dtype=dtype, device="meta"))

    def time(self, probing: Probing, probe: Probe, warm: bool) -> list[float]:
        """Takes from the pool what the probe takes, and the time."""
        if probe.weights:
            probing.pool(DTYPES[probe.dtype]).take(probe.weights)
        slower = self.slower if probe.dtype == "bf16" else 1.0
        seconds = 2e-5 + slower * probe.work / self.flops + (probe.rows / 1e10 if probe.kind == "read" else 0)
        calls = 1 if not warm else 2 if seconds > device_probe.LONG_S else 1 + device_probe.SEEDS
        self.now += calls * seconds
        self.longest = max(self.longest, seconds)
        return [seconds]


@pytest.mark.parametrize("bf16", list(BF16_SLOWER))
@pytest.mark.parametrize("flops", [5e9, 1e11, 5e12], ids=["slow", "two cores", "64 cores"])
@pytest.mark.parametrize(
    ("cache", "memory"),
    [(1 * MIB, 2 * GIB), (32 * MIB, 20 * GIB), (512 * MIB, 512 * GIB)],
    ids=["1M", "32M", "512M"],
)
def test_probes_fit_their_pool_and_the_budget_on_any_machine(
    monkeypatch: pytest.MonkeyPatch, cache: int, memory: int, flops: float, bf16: str
):
    machine = Machine(monkeypatch, cache, memory, flops, bf16)
    probing = Probing(CPU)
    pool = probing.pool(torch.float32).nbytes
    assert pool <= max(memory / 3, 2.5 * cache)
    samples, passes = probing.run(RunContext(), 40.0)
    assert machine.now <= 40.0 + device_probe.LONG_S
    assert passes >= 1
    ladders = {probe.ladder for probe in probing.probes()}
    assert {probe.ladder for probe in samples} >= {ladder for ladder in ladders if ladder.kind != "read"}
    found = probing.assemble(samples)
    for dtype in ("fp32", "bf16"):
        assert device_model.mixture(found, dtype, Mixture(1024, 512, 16, 2), 64).seconds > 0
        assert device_model.dense(found, dtype, 1024, 4096, 4096).seconds > 0


def test_more_time_is_more_rows_and_never_a_longer_call_than_allowed(monkeypatch: pytest.MonkeyPatch):
    counts = []
    for budget in (8.0, 40.0, 1000.0):
        machine = Machine(monkeypatch, 32 * MIB, 20 * GIB, 1e11, "emulated")
        samples, _ = Probing(CPU).run(RunContext(), budget)
        counts.append(len(samples))
        assert machine.longest <= device_probe.LONGEST_S
    assert counts == sorted(counts)
    assert counts[0] < counts[1]


def test_what_is_left_out_is_the_end_of_its_ladder(monkeypatch: pytest.MonkeyPatch):
    Machine(monkeypatch, 32 * MIB, 20 * GIB, 1e11, "emulated")
    probing = Probing(CPU)
    samples, _ = probing.run(RunContext(), 10.0)
    for ladder in {probe.ladder for probe in samples}:
        timed = {probe.rows for probe in samples if probe.ladder == ladder}
        left_out = {probe.rows for probe in probing.probes() if probe.ladder == ladder} - timed
        assert not left_out or min(left_out) > max(timed)


def test_a_dtype_known_to_be_emulated_gets_fewer_rows():
    slow = [
        Timing(what="linear", dtype=name, elements=9, rows=256, seconds={"linear": seconds})
        for name, seconds in (("fp32", 1.0), ("bf16", 20.0))
    ]
    found = probes.planned(CPU, Tuning(timings=tuple(slow)))
    assert max(probe.rows for probe in found if probe.dtype == "bf16") == probes.EMULATED_ROWS
    assert max(probe.rows for probe in found if probe.dtype == "fp32") == max(probes.MORE_ROWS)
    assert {probe.ladder for probe in found} == {probe.ladder for probe in probes.planned(CPU)}


def test_every_pool_holds_the_largest_probe_whatever_the_banks(small: None):
    probing = Probing(CPU)
    for probe in probing.probes():
        if probe.weights:
            probing.pool(DTYPES[probe.dtype]).take(probe.weights)
    assert max(probe.weights for probe in probing.probes()) > 3 * 32 * 32 * 8  # not the largest bank, here


def test_routings_of_a_probe_hit_as_many_experts_as_is_expected():
    probe = device_probe.Probe("experts", "fp32", 8, 32, 16, 64, 4)
    for routing in device_probe._typical(probe, torch.device("cpu")):
        assert abs(int((routing.load_E() > 0).sum()) - probe.busy) < 1
