"""A whole bench run, the labs and their refusals on a pretended device, at tiny sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from moe_core.errors import ConfigError
from moe_core.labs import device_probe, layer_sweep, subjects, topk_sweep
from moe_core.nn import calibration, checkpoint
from moe_core.runs import admission, bundle, execute, models, question, timing
from moe_core.runs.context import RunContext
from moe_core.settings import Settings
from moe_core.specs import Architecture, Experts, RunSpec
from tests.gpu.conftest import Pretend
from tests.gpu.fake_device import CAPABILITIES
from tests.nn import small

SPEC = RunSpec(device="cuda", experts=4, top_k=2, shared=1, batch=2, seq=16, decode_steps=1)
CACHED = (models.architecture, models.shipped, models._carved, models._grouped, models.calibrated)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings) -> Iterator[None]:
    """Shipped models of one narrow layer; nothing pretended stays in a cache."""
    trained = small.decoder(Experts(count=4, top_k=2, width=16, shared=1), layers=1)
    for name, model in (("DENSE", small.decoder(layers=1)), ("TRAINED", trained)):
        checkpoint.save(model, tmp_path / name, {})
        monkeypatch.setattr(models, name, tmp_path / name)
    layers = calibration.calibrate(checkpoint.load(tmp_path / "DENSE"), [torch.arange(64).view(2, 32)])
    monkeypatch.setattr(models, "calibrated", lambda: layers)
    monkeypatch.setattr(admission, "ROTATED", 0)
    monkeypatch.setattr(timing, "WARM_UP_S", 0.0)
    for cached in CACHED:
        cached.cache_clear()
    yield
    for cached in CACHED:
        cached.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(("model", "capability"), [("carved", (9, 0)), ("trained", (7, 5))])
def test_a_run_is_made_and_published(
    pretended: Pretend, tiny: None, model: str, capability: tuple[int, int]
) -> None:
    with pretended(capability=capability) as device:
        path = execute.execute(SPEC.model_copy(update={"model": model}), RunContext())
    done = bundle.verify(path).manifest
    expected = "bf16" if capability >= (8, 0) else "fp32"
    assert (done.provenance["device_kind"], done.provenance["dtype"]) == ("cuda", expected)
    assert done.summary["decisions"] == 2 * 16 * 2
    waits = Counter(device.waits)
    assert set(waits) == {"synchronize", "event", "copy to cuda", "copy to cpu"}


@pytest.mark.slow
def test_a_run_on_an_apple_device(pretended: Pretend, tiny: None) -> None:
    spec = SPEC.model_copy(update={"device": "mps"})
    with pretended("mps"):
        done = bundle.verify(execute.execute(spec, RunContext())).manifest
    assert (done.provenance["device_kind"], done.provenance["dtype"]) == ("mps", "fp32")


def test_a_top_k_sweep(pretended: Pretend, tiny: None) -> None:
    with pretended():
        path = topk_sweep.execute(SPEC.model_copy(update={"lab": "topk_sweep"}), RunContext())
    assert bundle.verify(path).manifest.summary["bits_per_byte"].keys() == {
        "dense",
        "moe",
        "random",
        "oracle",
    }


@pytest.mark.parametrize("lab", [execute.execute, topk_sweep.execute, layer_sweep.execute])
def test_sorted_is_refused_before_anything_is_loaded(
    pretended: Pretend, settings: Settings, lab: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "shipped", lambda *_: pytest.fail("loaded"))
    spec = SPEC.model_copy(update={"kernel": "sorted"})
    with pretended(), pytest.raises(ConfigError, match=r"^kernel \(sorted\) computes on a CPU only: device"):
        lab(spec, RunContext())  # type: ignore[operator]


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_the_kernels_of_a_question_by_capability(
    pretended: Pretend, tiny: None, capability: tuple[int, int]
) -> None:
    with pretended(capability=capability):
        asked = question.resolve(SPEC)
    assert asked.kernels == ("gather", "gather")
    assert asked.info.capability == ".".join(map(str, capability))


@pytest.mark.parametrize("capability", [(7, 5), (9, 0)], ids=str)
def test_every_probe_of_the_device_runs(
    pretended: Pretend, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]
) -> None:
    """Of every kind and dtype the first probe, once."""
    monkeypatch.setattr("moe_core.labs.bank.OVERFLOW", 64.0)  # of a cache of one megabyte
    with pretended(capability=capability) as device:
        probing = device_probe.Probing(device.torch)
        first = {(probe.kind, probe.dtype): probe for probe in reversed(probing.probes())}
        for probe in first.values():
            monkeypatch.setattr(device_probe, "_typical", _one_routing)
            timed = device_probe.MAKE[probe.kind](probing, probe)(0)
            timed.call()
        kernels = {device_probe._kernel(probing, probe) for probe in probing.probes() if probe.experts}
    assert {kind for kind, _ in first} == set(device_probe.MAKE)
    assert kernels == ({"gather", "grouped", "padded"} if capability >= (8, 0) else {"gather", "padded"})


def _one_routing(probe: device_probe.Probe, device: torch.device) -> list[device_probe.Routing]:
    sizes = (probe.rows, probe.experts, probe.top_k)
    made = device_probe.random_routing(*sizes, 0, device, each=probe.kind == "each")
    return [made] * device_probe.SEEDS


@pytest.mark.parametrize("lab", ["layer_sweep", "real_layers"])
def test_layers_are_swept(pretended: Pretend, tiny: None, lab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    published = Architecture(
        name="Tiny", hidden=64, layers=2, vocab=256, attention=small.architecture().attention,
        experts=Experts(count=8, top_k=2, width=32, shared=1),
    )  # fmt: skip
    monkeypatch.setattr(layer_sweep, "TOKENS", (1, 16))
    monkeypatch.setattr(layer_sweep, "POINT_S", 0.001)
    monkeypatch.setattr(subjects, "TOKENS", 16)
    monkeypatch.setattr(subjects, "REAL", ("tiny",))
    monkeypatch.setattr(subjects, "_architecture", {"tiny": published}.__getitem__)
    run = layer_sweep.execute if lab == "layer_sweep" else layer_sweep.execute_real
    with pretended():
        path = run(SPEC.model_copy(update={"lab": lab, "time_limit_s": 600.0}), RunContext())
    found = bundle.verify(path).table("layers").to_pandas()
    assert set(found.series) == {"auto", "dense", "grouped", "loop", "same_work"}
