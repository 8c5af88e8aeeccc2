"""A tuning is measured once for a device, read afterwards, and never trusted for anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from moe_core.nn.tuning import NEUTRAL, Timing, Tuning, What
from moe_core.runs import question as questions
from moe_core.runs import tuning
from moe_core.settings import Settings
from moe_core.specs import RunSpec

CPU = torch.device("cpu")


class Probe:
    """Counts how often it is asked."""

    def __init__(self, busy: float = 0.0) -> None:
        self.asked, self.busy = 0, busy

    def __call__(self, device: torch.device) -> Tuning:
        self.asked += 1
        return Tuning(source="probe", busy=self.busy, timings=(timing("bank", "fp32", 1, sorted=1.0),))


def timing(what: What, dtype: str, rows: float, elements: int = 10**6, **seconds: float) -> Timing:
    return Timing(what=what, dtype=dtype, elements=elements, rows=rows, seconds=seconds)


def kept(settings: Settings) -> Path:
    (path,) = settings.devices_dir.iterdir()
    return path


def test_measured_once_and_read_afterwards(settings: Settings):
    probe = Probe()
    assert tuning.known(CPU) == NEUTRAL
    first = tuning.ensure(CPU, probe)
    assert tuning.ensure(CPU, probe) == first == tuning.known(CPU)
    assert probe.asked == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"valid_for": {}}', '"text"', "[" * 100_000])
def test_a_damaged_file_is_measured_again(settings: Settings, damage: str):
    probe = Probe()
    tuning.ensure(CPU, probe)
    kept(settings).write_text(damage)
    assert tuning.known(CPU) == NEUTRAL
    tuning.ensure(CPU, probe)
    assert probe.asked == 2
    assert tuning.known(CPU).source == "probe"


@pytest.mark.parametrize("field", ["device", "threads", "capability", "onednn", "torch", "code"])
def test_a_file_of_something_else_is_measured_again(settings: Settings, field: str):
    probe = Probe()
    tuning.ensure(CPU, probe)
    content = json.loads(kept(settings).read_text())
    content["valid_for"][field] = "another"
    kept(settings).write_text(json.dumps(content))
    assert tuning.known(CPU) == NEUTRAL
    tuning.ensure(CPU, probe)
    assert probe.asked == 2


def test_nonsense_inside_is_measured_again(settings: Settings):
    probe = Probe()
    tuning.ensure(CPU, probe)
    content = json.loads(kept(settings).read_text())
    content["tuning"]["timings"][0]["rows"] = "many"
    kept(settings).write_text(json.dumps(content))
    assert tuning.known(CPU) == NEUTRAL


def test_what_was_found_on_a_busy_machine_is_looked_for_again_until_it_is_quiet(settings: Settings):
    tuning.ensure(CPU, Probe(busy=0.8))
    worse, better, never = Probe(busy=0.9), Probe(busy=0.1), Probe()
    assert tuning.ensure(CPU, worse).busy == 0.8
    assert tuning.ensure(CPU, better).busy == 0.1
    assert tuning.ensure(CPU, never).busy == 0.1
    assert (worse.asked, better.asked, never.asked) == (1, 1, 0)


def test_a_disk_that_cannot_be_written_costs_a_second_and_no_more(settings: Settings):
    settings.devices_dir.write_text("in the way")
    assert tuning.ensure(CPU, Probe()).source == "probe"
    assert tuning.known(CPU) == NEUTRAL


def test_what_has_only_defaults_is_not_kept(settings: Settings):
    assert tuning.ensure(CPU, lambda device: NEUTRAL) == NEUTRAL
    assert not settings.devices_dir.exists()


def zen4() -> Tuning:
    """bf16 twice as fast with many rows, several times slower with few."""
    found = [
        timing(what, dtype, rows, each=seconds)
        for what in ("linear", "bank")
        for dtype, curve in (("fp32", {1: 1.0, 256: 100.0}), ("bf16", {1: 6.0, 256: 50.0}))
        for rows, seconds in curve.items()
    ]
    return Tuning(source="probe", timings=tuple(found))


def test_dtype_auto_is_chosen_for_the_passes_of_the_question():
    prompt = RunSpec(batch=8, seq=256, decode_steps=1)
    answer = RunSpec(batch=1, seq=16, decode_steps=256)
    assert questions.dtype_for(prompt, CPU, zen4()) == torch.bfloat16
    assert questions.dtype_for(answer, CPU, zen4()) == torch.float32
    assert questions.dtype_for(answer.model_copy(update={"dtype": "bf16"}), CPU, zen4()) == torch.bfloat16
    swept = answer.model_copy(update={"lab": "topk_sweep", "batch": 64, "seq": 256})
    assert questions.dtype_for(swept, CPU, zen4()) == torch.bfloat16  # it decodes nothing


def test_dtype_auto_without_a_tuning_is_fp32_on_a_cpu_and_by_capability_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
):
    assert questions.dtype_for(RunSpec(), CPU, NEUTRAL) == torch.float32
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert questions.dtype_for(RunSpec(), torch.device("cuda"), NEUTRAL) == torch.bfloat16


def test_a_question_carries_what_its_kernels_were_chosen_by(settings: Settings):
    bank = tuple(timing("bank", dtype, 1, padded=1.0) for dtype in ("fp32", "bf16"))
    tuning.ensure(CPU, lambda device: Tuning(source="probe", timings=bank))
    question = questions.resolve(RunSpec(device="cpu", batch=1, seq=16))
    assert question.kernels == ("padded", "padded")
    assert question.tuning.source == "probe"
