"""Device: decisions by construction on the CPU; for CUDA and Apple devices torch's answers are replaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from moe_core import device as dev
from moe_core.errors import ConfigError

CPU, CUDA, MPS = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`gpu(9, 0)`: torch answers as if it had a CUDA device of that capability."""

    def pretend(*capability: int) -> None:
        properties = SimpleNamespace(total_memory=80 * 2**30, L2_cache_size=50 * 2**20)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA Test 80GB")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (7 * 2**30, 80 * 2**30))
        monkeypatch.setattr(torch.version, "cuda", "13.0")

    return pretend


def test_auto_prefers_cuda_then_apple_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=cuda: there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=mps: there)
        assert dev.pick("auto").type == expected


def test_a_device_that_is_not_here_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^device \(cuda\) is not available: torch \S+ finds none here$"):
        dev.pick("cuda")
    with pytest.raises(ConfigError, match=r"^device \(tpu\) must be one of auto, cuda, mps, cpu$"):
        dev.pick("tpu")


def test_dtype_auto_is_bf16_only_where_it_is_faster_by_definition(gpu: Callable[..., None]) -> None:
    for capability, expected in (((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        gpu(*capability)
        assert dev.resolve_dtype("auto", CUDA) == expected
    assert dev.resolve_dtype("auto", CPU) == torch.float32  # a question measures: see runs/question.py
    assert dev.resolve_dtype("auto", MPS) == torch.float32


def test_a_named_dtype_is_taken_everywhere_and_an_unknown_one_refused() -> None:
    for name, dtype in dev.DTYPES.items():
        assert dev.resolve_dtype(name, CPU) == dtype
        assert dev.dtype_name(dtype) == name
    with pytest.raises(ConfigError, match=r"^dtype \(fp64\) must be one of auto, fp32, bf16$"):
        dev.resolve_dtype("fp64", CPU)


def test_grouped_mm_needs_hopper_or_blackwell_bf16_and_16_byte_rows(gpu: Callable[..., None]) -> None:
    gpu(10, 0)
    assert dev.supports_grouped_mm(CUDA, torch.bfloat16)
    gpu(9, 0)
    assert dev.supports_grouped_mm(CUDA, torch.bfloat16)
    assert not dev.supports_grouped_mm(CUDA, torch.float32)
    assert not dev.supports_grouped_mm(CPU, torch.bfloat16)
    assert dev.grouped_mm_takes(CUDA, torch.bfloat16, 8, 16)
    assert not dev.grouped_mm_takes(CUDA, torch.bfloat16, 8, 12)
    assert dev.grouped_mm_takes(CPU, torch.float32, 4, 12)
    for capability in ((7, 5), (8, 0), (8, 9), (12, 0)):  # elsewhere torch reads the offsets back and loops
        gpu(*capability)
        assert not dev.supports_grouped_mm(CUDA, torch.bfloat16)


def test_what_cuda_says_is_reported(gpu: Callable[..., None]) -> None:
    gpu(9, 0)
    info = dev.describe(CUDA)
    assert (info.kind, info.key, info.capability) == ("cuda", "cuda-nvidia-test-80gb", "9.0")
    assert (info.memory_bytes, info.cuda) == (80 * 2**30, "13.0")
    assert dev.free_memory(CUDA) == 7 * 2**30
    assert dev.cache_bytes(CUDA) == 50 * 2**20


def test_the_cpu_is_described_in_plain_values() -> None:
    info = dev.describe(CPU)
    assert json.loads(json.dumps(info)) == list(info)
    assert info.kind == "cpu"
    assert info.threads == torch.get_num_threads()
    assert info.key.endswith(f"-{info.threads}-threads")
    assert info.key == dev.describe(CPU).key
    assert 0 < dev.free_memory(CPU) <= info.memory_bytes
    assert info.cuda is None
    assert dev.capability(CPU) == (0, 0)


def test_a_container_may_hold_less_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "_CGROUP", tmp_path)
    whole = dev.total_memory(CPU)
    (tmp_path / "memory.max").write_text("max\n")
    assert dev.total_memory(CPU) == whole
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 100000\ninactive_file 300000\n")
    assert dev.total_memory(CPU) == 1_000_000
    assert dev.free_memory(CPU) == 400_000  # file pages out of use can be given back


def caches(folder: Path, *sizes: str) -> None:
    """What Linux says of the caches of a core."""
    for index, size in enumerate(sizes):
        (folder / f"index{index}").mkdir()
        (folder / f"index{index}" / "size").write_text(size + "\n")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((), dev.ASSUMED_CACHE),  # an Arm guest names none
        (("32K", "1024K"), 2**20),
        (("32K", "32K", "512K", "32768K"), 32 * 2**20),
        (("48K", "2048K", "480M"), 480 * 2**20),
        (("48K", "512M"), 512 * 2**20),
        (("32K", "0K"), dev.ASSUMED_CACHE),  # some guests name nonsense
        (("32K", "", "huge", "1G", "64G"), 2**30),
    ],
)
def test_the_last_cache_is_the_largest_plausible_one_and_assumed_where_none_is(
    sizes: tuple[str, ...], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "_CPU_CACHES", tmp_path)
    monkeypatch.setattr(dev.sys, "platform", "linux")
    caches(tmp_path, *sizes)
    assert dev.cache_bytes(CPU) == expected


def test_macos_is_asked_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"hw.l3cachesize": "", "hw.perflevel0.l2cachesize": "16777216\n", "hw.l2cachesize": "4194304\n"}
    monkeypatch.setattr(dev, "_CPU_CACHES", tmp_path)
    monkeypatch.setattr(dev.sys, "platform", "darwin")
    monkeypatch.setattr(
        dev.subprocess, "run", lambda command, **_: SimpleNamespace(stdout=answers[command[-1]])
    )
    assert dev.cache_bytes(CPU) == 16 * 2**20


def test_the_timer_measures_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [5.0]
    monkeypatch.setattr(dev, "perf_counter", lambda: clock[0])
    with dev.Timer(CPU) as timer:
        clock[0] += 0.25
    clock[0] += 1.0
    assert timer.seconds == 0.25


def test_on_cuda_the_timer_records_two_events_and_waits_only_when_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: object) -> None:
            log.append("record")

        def synchronize(self) -> None:
            log.append("wait")

        def elapsed_time(self, end: Event) -> float:
            return 2.5  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    with dev.Timer(CUDA) as timer:
        log.append("work")
    assert log == ["record", "work", "record"]
    assert timer.seconds == 0.0025
    assert log[-1] == "wait"


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux restarts the peak it keeps"
)
def test_peak_memory_sees_what_was_held_only_inside_the_block() -> None:
    with dev.PeakMemory(CPU) as peak:
        block = torch.ones(25_000_000)  # 100 MB, written
        del block
    assert peak.increase >= 80_000_000
    assert peak.bytes >= peak.increase
    with dev.PeakMemory(CPU) as idle:
        pass
    assert idle.increase < 50_000_000
    assert "process" in peak.what


def test_synchronise_calls_the_device_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: called.append("cuda"))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: called.append("mps"))
    for device in (CPU, CUDA, MPS):
        dev.synchronise(device)
    assert called == ["cuda", "mps"]
