"""Decoder, cache, recorder and carved models on a pretended device."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from moe_core.nn.calibration import calibrate
from moe_core.nn.carve import carve
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.nn.reference_routers import with_oracle_router, with_random_router
from moe_core.runs.models import cast
from moe_core.runs.record import Decisions, Recorder
from moe_core.specs import GQA, Experts, Router
from tests.gpu.conftest import Pretend
from tests.gpu.fake_device import values
from tests.nn import small

MODELS = {
    "dense": None,
    "softmax": Experts(count=8, top_k=2, width=16, shared=1, shared_gate=True),
    "sigmoid": Experts(count=8, top_k=2, width=16, router=Router(kind="sigmoid", selection_bias=True)),
    "llama4": Experts(count=8, top_k=1, width=16, router=Router(kind="sigmoid_input")),
    "hash": Experts(count=8, top_k=2, width=16, router=Router(kind="hash")),
    "expert_choice": Experts(count=8, top_k=2, width=16, router=Router(kind="expert_choice")),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PROMPT, ANSWER = 12, 3
WINDOWED = GQA(heads=4, kv_heads=2, head_dim=8, window=4, qk_norm=True)


def ids() -> Tensor:
    return torch.randint(0, 256, (2, PROMPT + ANSWER), generator=torch.Generator().manual_seed(1))


def pass_over(model: Decoder, ids_BS: Tensor) -> list[Tensor]:
    """Logits of a prefill, and of every step after it."""
    cache = model.new_cache(2, PROMPT + ANSWER)
    logits = [model(ids_BS[:, :PROMPT], cache)]
    return logits + [model(token_B1, cache) for token_B1 in ids_BS[:, PROMPT:].split(1, dim=1)]


@pytest.mark.parametrize("attention", ["full", "windowed"])
@pytest.mark.parametrize("name", MODELS)
def test_prefill_and_decode_are_the_cpus_and_never_wait(
    pretended: Pretend, name: str, attention: str
) -> None:
    changes = {"attention": WINDOWED} if attention == "windowed" else {}
    model, ids_BS = small.decoder(MODELS[name], **changes), ids()
    with torch.inference_mode():
        expected = pass_over(model, ids_BS)
    with pretended() as device:
        there, given = copy.deepcopy(model).to(device.torch), ids_BS.to(device.torch)
        with device.watched() as waits:
            found = pass_over(there, given)
        assert waits == []
        for here, logits in zip(found, expected, strict=True):
            assert here.device.type == "cuda"
            torch.testing.assert_close(values(here), logits, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_mixture_runs_in_every_dtype(pretended: Pretend, kind: str, dtype: str) -> None:
    model, ids_BS = small.decoder(MODELS["sigmoid"]), ids()
    with torch.inference_mode():
        expected = pass_over(model, ids_BS)
    with pretended(kind) as device:
        there = cast(copy.deepcopy(model).to(device.torch), DTYPES[dtype])
        found = pass_over(there, ids_BS.to(device.torch))
        for here, logits in zip(found, expected, strict=True):
            assert (here.device.type, here.dtype) == (kind, DTYPES[dtype])
            torch.testing.assert_close(values(here).float(), logits, rtol=0, atol=5e-2)


@pytest.mark.parametrize("kernel", ["gather", "grouped", "padded"])
def test_a_layer_waits_as_often_as_its_kernel_says(pretended: Pretend, kernel: str) -> None:
    model, ids_BS = small.decoder(MODELS["softmax"]), ids()
    with pretended() as device:
        there = cast(copy.deepcopy(model).to(device.torch), torch.bfloat16)
        for layer in there.feed_forwards:
            assert isinstance(layer, MoE)
            layer.kernel = kernel
        given = ids_BS.to(device.torch)
        with device.watched() as waits:
            there(given)
    assert len(waits) == (there.arch.layers if kernel == "padded" else 0)


def recorded(model: Decoder, ids_BS: Tensor) -> tuple[Recorder, Decisions]:
    recorder = Recorder([0, 1], 2, ids_BS.shape[1])
    model(ids_BS, observer=recorder)
    recorder.collect()
    return recorder, recorder.decisions()


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_the_recorder_keeps_references_and_copies_once_a_table(pretended: Pretend, kind: str) -> None:
    model, ids_BS = small.decoder(MODELS["softmax"]), ids()
    with torch.inference_mode():
        _, expected = recorded(model, ids_BS)
    with pretended(kind) as device:
        there, given = copy.deepcopy(model).to(device.torch), ids_BS.to(device.torch)
        recorder = Recorder([0, 1], 2, ids_BS.shape[1])
        with device.watched() as waits:
            there(given, observer=recorder)
        assert waits == []
        with device.watched() as waits:
            recorder.collect()
        assert waits.count("copy to cpu") == 3
        assert set(waits) == {"copy to cpu", f"copy to {kind}"}
        found = recorder.decisions()
    assert (found.expert_LTK == expected.expert_LTK).all()
    assert abs(found.weight_LTK - expected.weight_LTK).max() < 1e-6
    assert abs(found.share_LME - expected.share_LME).max() < 1e-6


def test_carving_stays_on_the_host_and_its_result_moves(pretended: Pretend) -> None:
    dense, ids_BS = small.decoder(), ids()
    with torch.inference_mode():
        expected = carve(dense, calibrate(dense, [ids_BS]), 4, 2, 1)(ids_BS)
    with pretended() as device:
        with device.watched() as waits:
            carved = carve(dense, calibrate(dense, [ids_BS]), 4, 2, 1)
        assert waits == []
        assert {parameter.device.type for parameter in carved.parameters()} == {"cpu"}
        there, given = copy.deepcopy(carved).to(device.torch), ids_BS.to(device.torch)
        with device.watched() as waits:
            found = there(given)
        assert waits == []
        torch.testing.assert_close(values(found), expected, rtol=0, atol=2e-5)
        for rerouted in (with_random_router(there), with_oracle_router(there)):
            assert rerouted(given).device.type == "cuda"
