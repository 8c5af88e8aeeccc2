"""What the ranks of these tests do. Run by `moe_core.dist.launch`, in processes of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import distributed

from moe_core.dist.expert_parallel import ExpertParallel
from moe_core.nn.moe import MoE
from moe_core.specs import Experts, Router

HIDDEN = 16
KINDS: Mapping[str, Experts] = {
    "plain": Experts(count=8, top_k=2, width=12),
    "shared, raw": Experts(
        count=8, top_k=3, width=12, shared=1, shared_gate=True, router=Router(renormalise=False)
    ),
    "switch, drops": Experts(count=4, top_k=1, width=12, router=Router(kind="switch", capacity_factor=0.5)),
}
TOKENS = (7, 12)  # of rank 0 and of rank 1: uneven


def layer(kind: str) -> MoE:
    return MoE(KINDS[kind], HIDDEN, seed=3).double()


def tokens(rank: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(count, HIDDEN, generator=generator, dtype=torch.float64)


def steered(whole: MoE, expert: int | None) -> MoE:
    """The same, every token's best expert being `expert`."""
    if expert is not None:
        with torch.no_grad():
            whole.router.weight_ED.zero_()
            whole.router.bias_E.copy_(torch.arange(whole.spec.count, dtype=torch.float64).flip(0))
    return whole


def compared(arguments: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Kind -> the largest differences to the whole layer on one device: output, overlapped, gradients."""
    found = {kind: difference(layer(kind), layer(kind), TOKENS) for kind in KINDS}
    one_sided = Experts(count=8, top_k=2, width=12, router=Router(bias=True))
    pair = [steered(MoE(one_sided, HIDDEN, seed=3).double(), 0) for _ in "ab"]
    return found | {"one rank gets all": difference(*pair, TOKENS)}


def difference(whole: MoE, part: MoE, counts: tuple[int, int]) -> dict[str, float]:
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    inputs = [tokens(one, count).requires_grad_(one == rank) for one, count in enumerate(counts)]
    alone = inputs[rank].detach().clone().requires_grad_()
    parallel = ExpertParallel(part)
    want = [whole(one) for one in inputs]
    got = parallel(alone)
    overlapped = parallel.overlapped(alone)
    (sum(y.square().sum() for y in want)).backward()
    got.square().sum().backward()
    held = slice(rank * parallel.held, (rank + 1) * parallel.held)
    pairs = {
        "output": (want[rank], got),
        "overlapped": (want[rank] if whole.spec.router.capacity_factor is None else overlapped, overlapped),
        "input": (inputs[rank].grad, alone.grad),
        "gate_up": (whole.gate_up_EGD.grad[held], part.gate_up_EGD.grad),
        "down": (whole.down_EDF.grad[held], part.down_EDF.grad),
        "router": (whole.router.weight_ED.grad, added(part.router.weight_ED.grad, ranks)),
    }
    return {name: float((a - b).abs().max()) for name, (a, b) in pairs.items()}


def added(gradient: torch.Tensor, ranks: int) -> torch.Tensor:
    """Over the ranks: each has the router's gradient of its own tokens."""
    total = gradient.clone()
    distributed.all_reduce(total)
    return total


def place(arguments: Mapping[str, Any]) -> list[Any]:
    return [distributed.get_rank(), distributed.get_world_size(), torch.get_num_threads(), dict(arguments)]


def loses_one(arguments: Mapping[str, Any]) -> None:
    """Rank 1 is killed, the others wait for it."""
    if distributed.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()


def raises(arguments: Mapping[str, Any]) -> None:
    raise ValueError("no such layer")


def sleeps(arguments: Mapping[str, Any]) -> None:
    """Writes down who it is, and stays."""
    with open(f"{arguments['folder']}/{distributed.get_rank()}.pid", "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)
