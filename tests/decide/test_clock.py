"""The clock is the predictor at powers of two, and near it between them."""

from __future__ import annotations

import pytest

from moe_core import hardware, registry
from moe_core.decide.clock import Clock
from moe_core.perf.shard import Parallel
from moe_core.perf.step_time import Step
from moe_core.silicon.predict import predict
from moe_core.specs import Precision


def clock(name: str) -> Clock:
    arch = registry.get(name).architecture
    assert arch is not None
    return Clock(arch, arch.fingerprint(), hardware.get("H100"), Precision(), "bf16", Parallel(), "vllm")


def seconds(made: Clock, step: Step) -> float:
    return predict(made.architecture, made.hardware, step, check_memory=False).seconds


@pytest.mark.parametrize("name", ["Qwen3-30B-A3B", "Qwen3-14B"])
@pytest.mark.parametrize(("batch", "past"), [(1, 512), (8, 4096), (64, 2048)])
def test_powers_of_two_are_the_prediction_itself(name: str, batch: int, past: int) -> None:
    made = clock(name)
    assert made.decode(batch, past).seconds == pytest.approx(
        seconds(made, Step(batch=batch, past=past)), rel=1e-12
    )


@pytest.mark.parametrize("name", ["Qwen3-30B-A3B", "Qwen3-14B", "Mixtral-8x7B"])
@pytest.mark.parametrize(("batch", "past"), [(3, 3000), (11, 6000), (90, 1500)])
def test_between_them_it_is_within_an_eighth(name: str, batch: int, past: int) -> None:
    made = clock(name)
    assert made.decode(batch, past).seconds == pytest.approx(
        seconds(made, Step(batch=batch, past=past)), rel=0.125
    )


@pytest.mark.parametrize("prompt", [700, 3000, 12_000])
def test_prompts_too(prompt: int) -> None:
    made = clock("Qwen3-14B")
    assert made.first(prompt, 0).seconds == pytest.approx(seconds(made, Step(new=prompt)), rel=0.08)
    assert made.prefill(prompt, 0).seconds <= made.first(prompt, 0).seconds * 1.05


def test_a_longer_history_takes_longer_to_read_against() -> None:
    made = clock("Qwen3-14B")
    waits = [made.first(2048, past).seconds for past in (0, 5_000, 50_000)]
    assert waits == sorted(waits)
    assert waits[0] < waits[2]


def test_a_million_tokens_are_drawn_on_from_the_last_nodes() -> None:
    made = clock("Qwen3-14B")
    assert made.first(1_000_000, 0).seconds > 2 * made.first(500_000, 0).seconds
