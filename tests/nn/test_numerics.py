"""A float64 model computes in float64, so that it can be the reference of narrower ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from moe_core.nn import numerics
from moe_core.nn.balance import router_z_loss, sequence_loss, switch_loss
from moe_core.nn.experts import KERNELS
from moe_core.nn.numerics import take, wide, wide_dtype
from moe_core.nn.observe import RoutingLog
from moe_core.nn.reference_routers import with_oracle_router
from moe_core.nn.router import ROUTERS
from moe_core.runs.models import with_kernel
from moe_core.runs.record import Recorder
from moe_core.specs import GQA, Experts, Router
from tests.nn.small import decoder

IDS = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(0))


class NoNarrowing(TorchDispatchMode):
    """Refuses an operation that is given float64 and answers in a narrower dtype."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given, made = (floats(part) for part in ((args, kwargs or {}), result))
        assert torch.float64 not in given or made <= {torch.float64}, f"{func} narrows {given} to {made}"
        return result


def floats(values: Any) -> set[torch.dtype]:
    return {t.dtype for t in tree_leaves(values) if isinstance(t, Tensor) and t.is_floating_point()}


def test_wide_is_at_least_fp32() -> None:
    assert [wide_dtype(d) for d in (torch.float16, torch.bfloat16, torch.float32)] == [torch.float32] * 3
    assert wide_dtype(torch.bfloat16, torch.float64) == torch.float64
    x = torch.ones(2, dtype=torch.float64)
    assert wide(x) is x


@pytest.mark.parametrize("kind", sorted(ROUTERS))
def test_no_router_narrows_a_float64_model(kind: str) -> None:
    bank = Experts(count=4, top_k=1 if kind == "switch" else 2, width=24, shared=1, router=Router(kind=kind))
    attention = GQA(heads=4, kv_heads=2, head_dim=8, qk_norm=True)
    model, log = decoder(bank, attention=attention).double().train(), RoutingLog()
    with NoNarrowing():
        logits_BSV = model(IDS, observer=log)
        loss = sum(switch_loss(routing) + sequence_loss(routing, 2) for _, routing in log.seen)
        if kind != "hash":
            loss = loss + sum(router_z_loss(routing) for _, routing in log.seen)
        (logits_BSV.square().sum() + loss).backward()
    assert logits_BSV.dtype == torch.float64
    assert {routing.weights_N.dtype for _, routing in log.seen} == {torch.float64}


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("capacity", [None, 0.5])
def test_no_kernel_narrows_a_float64_model(kernel: str, capacity: float | None) -> None:
    bank = Experts(count=4, top_k=2, width=24, router=Router(capacity_factor=capacity))
    model = with_kernel(decoder(bank).double(), kernel)
    with torch.no_grad(), NoNarrowing():
        assert model(IDS).dtype == torch.float64


def test_a_float64_model_can_be_recorded_and_has_an_oracle() -> None:
    model = decoder(Experts(count=4, top_k=2, width=24)).double()
    for judged in (model, with_oracle_router(model)):
        recorder = Recorder([0, 1], 2, IDS.shape[1])
        with torch.no_grad():
            judged(IDS, observer=recorder)
        recorder.collect()
        shares_LM = recorder.decisions().share_LME.sum(-1)
        torch.testing.assert_close(torch.from_numpy(shares_LM), torch.ones(2, 2, dtype=torch.float64))


def test_what_is_taken_often_gets_a_gradient_summed_wide() -> None:
    """2,048 equal gradients of 1: a bf16 sum stands still at 256, where 1 is half a step."""
    source_XD = torch.zeros(3, 4, dtype=torch.bfloat16, requires_grad=True)
    ids_N = torch.arange(2).repeat(2048)
    take(source_XD, ids_N).sum().backward()
    assert source_XD.grad is not None
    assert source_XD.grad.dtype == torch.bfloat16
    assert source_XD.grad[:, 0].tolist() == [2048.0, 2048.0, 0.0]


def test_taking_in_parts_is_taking_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    ids_N = torch.randint(0, 5, (40,), generator=generator)
    values_NOI = torch.randn(40, 2, 3, generator=generator).to(torch.bfloat16)
    gradients = []
    for most in (numerics.PART, 7):
        monkeypatch.setattr(numerics, "PART", most)
        source_XOI = torch.zeros(5, 2, 3, dtype=torch.bfloat16, requires_grad=True)
        gradients += torch.autograd.grad((take(source_XOI, ids_N) * values_NOI).sum(), source_XOI)
    assert torch.equal(*gradients)
    assert take(torch.zeros(5, 2), torch.zeros(0, dtype=torch.int64)).shape == (0, 2)
