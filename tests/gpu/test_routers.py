"""Routers, balance rules and losses on a pretended device: the CPU's decisions, and no hidden wait."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from moe_core.nn import balance
from moe_core.nn.router import ROUTERS, build
from moe_core.nn.routing import Routing
from moe_core.specs import Experts, Router, RouterKind
from tests.gpu.conftest import Pretend
from tests.gpu.fake_device import values

GROUPED = {"softmax", "sigmoid"}  # with groups and a selection bias as well


def spec(kind: RouterKind, capacity: float | None) -> Experts:
    router = Router(kind=kind, capacity_factor=capacity)
    if kind in GROUPED:
        router = Router(
            kind=kind, capacity_factor=capacity, groups=4, top_groups=2, selection_bias=True, renormalise=True
        )
    return Experts(count=16, top_k=1 if kind == "switch" else 4, width=8, router=router)


def inputs() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(24, 32, generator=g), torch.randint(0, 256, (24,), generator=g)


def same(found: Routing, expected: Routing) -> None:
    for here, there in zip(found, expected, strict=True):
        if isinstance(there, Tensor):
            assert here.device.type == "cuda"
            torch.testing.assert_close(values(here), there, rtol=1e-5, atol=1e-6)
        else:
            assert here == there


CASES = [
    (kind, capacity, training)
    for kind in ROUTERS
    for capacity in (None, 1.0)
    for training in (False, True)
    if not (kind == "hash" and capacity) and not (training and kind != "noisy")
]


@pytest.mark.parametrize(("kind", "capacity", "training"), CASES)
def test_a_router_decides_as_on_the_cpu_and_waits_for_a_capacity_only(
    pretended: Pretend, kind: RouterKind, capacity: float | None, training: bool
) -> None:
    router = build(spec(kind, capacity), 32, 3).train(training)
    twin, (x_TD, ids_T) = copy.deepcopy(router), inputs()
    with torch.inference_mode():
        expected = router(x_TD, ids_T)
    with pretended() as device:
        there = twin.to(device.torch)
        given = x_TD.to(device.torch), ids_T.to(device.torch)
        with device.watched() as waits:
            found = there(*given)
        same(found, expected)
    drops = capacity is not None and kind != "expert_choice"
    assert waits == (["nonzero"] if drops else [])


@pytest.mark.parametrize("kind", ROUTERS)
def test_losses_and_the_bias_rule_never_wait(pretended: Pretend, kind: RouterKind) -> None:
    router, (x_TD, ids_T) = build(spec(kind, None), 32, 3).eval(), inputs()
    with torch.inference_mode():
        routing = router(x_TD, ids_T)
        expected = [balance.switch_loss(routing), balance.sequence_loss(routing, 2)]
    with pretended() as device:
        there = copy.deepcopy(router).to(device.torch)
        found = there(x_TD.to(device.torch), ids_T.to(device.torch))
        with device.watched() as waits:
            losses = [balance.switch_loss(found), balance.sequence_loss(found, 2)]
            if found.logits_TE is not None:
                losses.append(balance.router_z_loss(found))
            if kind in GROUPED:
                balance.BiasUpdate()(there, found.load_E())
            shares = found.probabilities_TE(), found.slots_N(), found.dropped_T()
    assert waits == []
    assert all(part.device.type == "cuda" for part in (*losses, *shares))
    torch.testing.assert_close(torch.stack([values(loss) for loss in losses[:2]]), torch.stack(expected))


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_statistics_of_a_load_wait_once_and_are_the_cpus(pretended: Pretend, kind: str) -> None:
    load_E = torch.tensor([5, 0, 3, 8])
    expected = balance.load_statistics(load_E)
    with pretended(kind) as device:
        there = load_E.to(device.torch)
        with device.watched() as waits:
            found = balance.load_statistics(there)
        assert waits == ["copy to cpu"]
        assert found[1:] == expected[1:]
