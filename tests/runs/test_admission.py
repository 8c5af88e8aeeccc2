"""Admission: a run that cannot fit is refused with its numbers, before anything is allocated."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_core import device as devices
from moe_core.errors import CancelledError, InfeasibleError
from moe_core.runs import admission, footprint, models
from moe_core.runs.footprint import Shape
from moe_core.runs.question import resolve
from moe_core.specs import GQA, Architecture, Experts, RunSpec
from moe_core.units import GIB, MIB

CPU = torch.device("cpu")
COMMON = {"hidden": 256, "layers": 8, "vocab": 256, "attention": GQA(heads=8, kv_heads=4, head_dim=32)}
DENSE = Architecture(ffn_width=1024, **COMMON)
MOE = Architecture(experts=Experts(count=16, top_k=4, width=64), **COMMON)


def need(batch: int = 8, seq: int = 256, kernel: str = "sorted") -> admission.Need:
    return admission.need(DENSE, MOE, Shape(batch, seq, seq + 8), "bf16", kernel)


def test_the_refusal_names_what_it_needs_what_fills_it_and_what_there_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "free_memory", lambda device: 100 * MIB)
    with pytest.raises(InfeasibleError, match=r"needs .* GB \(activations .* the device has 105 MB free"):
        admission.admit(need(256, 1024), CPU)


def test_what_fits_is_admitted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "free_memory", lambda device: 2 * GIB)
    admission.admit(need(), CPU)


def test_a_host_that_cannot_hold_the_recording_refuses_too(monkeypatch: pytest.MonkeyPatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(admission, "free_memory", lambda device: 80 * GIB if device == cuda else 1 * MIB)
    with pytest.raises(InfeasibleError, match=r"recording .* this machine has 1\.05 MB free"):
        admission.admit(need(), cuda)


def test_a_kernel_that_copies_weights_for_every_pair_is_charged_for_them():
    expert = 3 * 256 * 64 * 2
    assert need(kernel="gather").device["expert products"] == 8 * 256 * 4 * expert
    assert sum(need(kernel="padded").device.values()) > sum(need(kernel="loop").device.values())


@pytest.mark.parametrize("kernel", ["loop", "grouped", "padded", "gather", "auto"])
@pytest.mark.parametrize(("experts", "top_k", "shared"), [(4, 4, 1), (16, 4, 1), (128, 1, 0)])
def test_what_is_admitted_covers_what_is_measured(kernel: str, experts: int, top_k: int, shared: int):
    shape = {"experts": experts, "top_k": top_k, "shared": shared, "batch": 2, "seq": 64}
    spec = RunSpec.parse({**shape, "kernel": kernel, "dtype": "bf16", "device": "cpu"})
    question = resolve(spec)
    measured = footprint.measure(models.mixture(spec, CPU, question.dtype), question.work())
    wanted = question.need().device
    assert measured["activations"] < wanted["activations"] + wanted["expert products"]


@given(st.integers(1, 128), st.integers(1, 4))
def test_more_work_never_needs_less(batch: int, factor: int):
    small, large = need(batch), need(batch * factor)
    assert all(large.device[name] >= small.device[name] for name in small.device)
    assert large.host["recording"] == factor * small.host["recording"]


def test_copies_overflow_the_cache_within_their_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "cache_bytes", lambda device: 20 * MIB)
    monkeypatch.setattr(admission, "free_memory", lambda device: 80 * GIB)
    assert admission.copies(8 * MIB, CPU) == 6  # 2 x 20 MiB needs 5 and one more
    monkeypatch.setattr(admission, "cache_bytes", lambda device: 1 * GIB)
    assert admission.copies(16 * MIB, CPU) * 16 * MIB == admission.ROTATED
    monkeypatch.setattr(admission, "free_memory", lambda device: 40 * MIB)
    assert admission.copies(16 * MIB, CPU) == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
    ],
)
def test_memory_that_runs_out_all_the_same_is_a_no_and_not_a_crash(error: Exception):
    with (
        pytest.raises(InfeasibleError, match="predicted to need"),
        admission.memory_guarded(need()),
    ):
        raise error


@pytest.mark.parametrize(
    "error", [CancelledError("stop"), RuntimeError("shapes differ"), InfeasibleError("no")]
)
def test_other_errors_pass_through(error: Exception):
    with pytest.raises(type(error)) as caught, admission.memory_guarded(need()):
        raise error
    assert caught.value is error


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(InfeasibleError), admission.memory_guarded(need()):
        torch.empty(2**62, dtype=torch.uint8)


def test_free_memory_is_what_the_device_says():
    assert admission.free_memory is devices.free_memory
