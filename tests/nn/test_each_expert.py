"""The `each` kernel: every way, at any rows, is the oracle; a tuning changes the way and not the result."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from moe_core.nn import each_expert
from moe_core.nn.experts import KERNELS, ExpertWeights
from moe_core.nn.routing import Routing
from moe_core.nn.tuning import Timing, Tuning

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WAYS = {"fp32": ["right", "left", "onednn", "onednn_left", "blocked"], "bf16": ["right", "left", "widened"]}


def layer(load: list[int], dtype: torch.dtype, gated: bool = True, hidden: int = 64, width: int = 32):
    """x, routing, weights and an empty tuning for experts with these loads."""
    g = torch.Generator().manual_seed(1)
    experts_N = torch.arange(len(load)).repeat_interleave(torch.tensor(load))
    tokens_N = torch.randint(0, 50, experts_N.shape, generator=g)
    mixed_N = torch.randperm(experts_N.numel(), generator=g)
    routing = Routing(
        tokens_N[mixed_N],
        experts_N[mixed_N],
        torch.rand(mixed_N.shape, generator=g),
        torch.zeros(50, len(load)),
    )
    gate_up = torch.randn(len(load), width * (2 if gated else 1), hidden, generator=g).to(dtype) / 8
    down = torch.randn(len(load), hidden, width, generator=g).to(dtype) / 6
    return torch.randn(50, hidden, generator=g).to(dtype), routing, ExpertWeights(gate_up, down, gated)


def tuned(**by_dtype: str) -> Tuning:
    """A tuning that takes one way whatever the rows."""
    return Tuning(
        timings=tuple(
            Timing(what="expert", dtype=dtype, elements=6144, rows=1, seconds={way: 1.0})
            for dtype, way in by_dtype.items()
        )
    )


def assert_near(found: Tensor, expected: Tensor) -> None:
    scale = max(1.0, float(expected.abs().max()))
    atol = (2e-5 if found.dtype == torch.float32 else 3e-2) * scale
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize(("dtype", "way"), [(dtype, way) for dtype in WAYS for way in WAYS[dtype]])
@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
def test_every_way_is_the_loop(dtype: str, way: str, gated: bool) -> None:
    x_TD, routing, weights = layer([1, 2, 0, 5, 17, 200, each_expert.MOST_ROWS + 3], DTYPES[dtype], gated)
    if way not in each_expert.ways(weights, DTYPES[dtype]):
        assert way.startswith("onednn")  # a build of torch without it
        return
    for scaled in (False, True):
        ours = weights._replace(tuning=tuned(**{dtype: way}), scale_input=scaled)
        assert_near(KERNELS["each"](x_TD, routing, ours), KERNELS["loop"](x_TD, routing, ours))


def test_the_way_a_tuning_names_is_the_one_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def note(x_SD: Tensor, expert: object, buffer_W: Tensor, y_PD: Tensor) -> None:
        taken.append(y_PD.shape[0])

    monkeypatch.setattr(each_expert, "_left", note)
    x_TD, routing, weights = layer([3, 0, 7], torch.float32)
    few = Timing(what="expert", dtype="fp32", elements=6144, rows=4, seconds={"left": 1.0})
    many = few.model_copy(update={"rows": 8, "seconds": {"right": 1.0}})
    KERNELS["each"](x_TD, routing, weights._replace(tuning=Tuning(timings=(few, many))))
    assert taken == [3]


def test_a_way_that_a_shape_has_not_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    x_TD, routing, weights = layer([3, 2], torch.float32, hidden=24, width=20)
    assert "blocked" not in each_expert.ways(weights, torch.float32)
    ours = weights._replace(tuning=tuned(fp32="blocked"))
    assert_near(KERNELS["each"](x_TD, routing, ours), KERNELS["loop"](x_TD, routing, ours))


def test_widened_takes_the_way_that_is_fastest_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    right = each_expert._left
    monkeypatch.setattr(each_expert, "_left", lambda x, *rest: seen.append(x.dtype) or right(x, *rest))
    x_TD, routing, weights = layer([3, 2], torch.bfloat16)
    ours = weights._replace(tuning=tuned(bf16="widened", fp32="left"))
    assert_near(KERNELS["each"](x_TD, routing, ours), KERNELS["loop"](x_TD, routing, weights))
    assert seen == [torch.float32] * 2
