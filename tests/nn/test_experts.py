"""Every kernel is the loop, in output and gradients, on whatever a router may hand it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moe_core.device import supports_grouped_mm
from moe_core.errors import ConfigError
from moe_core.nn import experts, sorted_experts, sorted_layout
from moe_core.nn.experts import KERNELS, ExpertWeights
from moe_core.nn.routing import Routing

FAST = sorted(set(KERNELS) - {"loop"})
DIFFERENTIABLE = sorted(set(FAST) - {"sorted", "each"})
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float64: 1e-13}


class Case(NamedTuple):
    tokens: int
    experts: int
    top_k: int
    hidden: int
    width: int
    gated: bool
    scale_input: bool
    keep: float  # share of the pairs that a capacity lets through; 1.0 keeps the plain form
    skew: float  # 0 even loads, 5 nearly everything on the first experts
    dtype: torch.dtype
    seed: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(1, 9))
    return Case(
        tokens=draw(st.integers(0, 24)),
        experts=count,
        top_k=draw(st.integers(1, count)),
        hidden=draw(st.sampled_from([1, 5, 8, 32])),
        width=draw(st.sampled_from([1, 3, 16])),
        gated=draw(st.booleans()),
        scale_input=draw(st.booleans()),
        keep=draw(st.sampled_from([1.0, 1.0, 0.6, 0.0])),
        skew=draw(st.sampled_from([0.0, 1.0, 5.0])),
        dtype=draw(st.sampled_from(list(TOLERANCE))),
        seed=draw(st.integers(0, 2**31)),
    )


def build(case: Case) -> tuple[Tensor, Routing, ExpertWeights]:
    g = torch.Generator().manual_seed(case.seed)
    x_TD = torch.randn(case.tokens, case.hidden, generator=g).to(case.dtype)
    tilt_E = -case.skew * torch.arange(case.experts)
    scores_TE = (torch.randn(case.tokens, case.experts, generator=g) + tilt_E).softmax(-1)
    weights_TK, chosen_TK = scores_TE.topk(case.top_k, dim=-1)
    token_ids_N = torch.arange(case.tokens).repeat_interleave(case.top_k)
    routing = Routing(token_ids_N, chosen_TK.flatten(), weights_TK.flatten(), scores_TE, per_token=case.top_k)
    if case.keep < 1.0:
        kept = torch.rand(token_ids_N.numel(), generator=g) < case.keep
        kept_N = kept.nonzero().squeeze(1)
        kept_N = kept_N[torch.randperm(kept_N.numel(), generator=g)]  # expert choice is not token-major
        routing = Routing(
            token_ids_N[kept_N], routing.expert_ids_N[kept_N], routing.weights_N[kept_N], scores_TE
        )
    rows = case.width * (2 if case.gated else 1)
    gate_up = torch.randn(case.experts, rows, case.hidden, generator=g).to(case.dtype) / case.hidden**0.5
    down = torch.randn(case.experts, case.hidden, case.width, generator=g).to(case.dtype) / case.width**0.5
    return x_TD, routing, ExpertWeights(gate_up, down, case.gated, case.scale_input)


def assert_near(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


def gradients(kernel: str, case: Case, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
    """Of input, routing weights and expert weights; from the same values in `dtype` where it is given."""
    x_TD, routing, weights = build(case)
    if dtype is not None:
        routing = routing._replace(weights_N=routing.weights_N.to(dtype))
        weights = weights._replace(gate_up_EGD=weights[0].to(dtype), down_EDF=weights[1].to(dtype))
        x_TD = x_TD.to(dtype)
    leaves = [t.requires_grad_() for t in (x_TD, routing.weights_N, weights.gate_up_EGD, weights.down_EDF)]
    y_TD = KERNELS[kernel](x_TD, routing, weights)
    signs_TD = torch.randn(y_TD.shape, generator=torch.Generator().manual_seed(case.seed)).to(case.dtype)
    return torch.autograd.grad(
        (y_TD.double() * signs_TD).sum(), leaves, materialize_grads=True, allow_unused=True
    )


@pytest.mark.parametrize("kernel", FAST)
@given(case=cases())
@settings(deadline=None, max_examples=60)
def test_output_is_the_loops(kernel: str, case: Case) -> None:
    x_TD, routing, weights = build(case)
    with torch.no_grad():
        assert_near(
            KERNELS[kernel](x_TD, routing, weights), KERNELS["loop"](x_TD, routing, weights), case.dtype
        )


@pytest.mark.parametrize("kernel", DIFFERENTIABLE)
@given(case=cases())
@settings(deadline=None, max_examples=60)
def test_gradients_are_the_loops(kernel: str, case: Case) -> None:
    for found, expected in zip(gradients(kernel, case), gradients("loop", case), strict=True):
        assert_near(found, expected, case.dtype)


@pytest.mark.parametrize("kernel", [*DIFFERENTIABLE, "loop"])
@pytest.mark.parametrize("keep", [1.0, 0.6], ids=["all", "dropped"])
@pytest.mark.parametrize("scale_input", [False, True], ids=["output", "input"])
def test_gradients_are_the_slopes_of_the_output(kernel: str, keep: float, scale_input: bool) -> None:
    """Finite differences in float64, which only a kernel that computes in float64 passes."""
    case = Case(5, 3, 2, 4, 3, True, scale_input, keep, 0.5, torch.float64, 1)
    x_TD, routing, weights = build(case)

    def output(x_TD: Tensor, weights_N: Tensor, gate_up_EGD: Tensor, down_EDF: Tensor) -> Tensor:
        bank = weights._replace(gate_up_EGD=gate_up_EGD, down_EDF=down_EDF)
        y_TD: Tensor = KERNELS[kernel](x_TD, routing._replace(weights_N=weights_N), bank)
        return y_TD

    leaves = (x_TD, routing.weights_N.double(), weights.gate_up_EGD, weights.down_EDF)
    assert torch.autograd.gradcheck(output, [leaf.requires_grad_() for leaf in leaves], fast_mode=True)


@pytest.mark.parametrize("kernel", sorted(set(FAST) - {"auto", *DIFFERENTIABLE}))
@pytest.mark.parametrize("wanted", ["x_TD", "weights_N", "gate_up_EGD", "down_EDF"])
def test_a_kernel_without_gradients_never_loses_one_in_silence(wanted: str, kernel: str) -> None:
    x_TD, routing, weights = build(Case(6, 4, 2, 8, 8, True, False, 1.0, 0.0, torch.float32, 0))
    leaves = {"x_TD": x_TD, **routing._asdict(), **weights._asdict()}
    leaves[wanted].requires_grad_()
    with pytest.raises(ConfigError, match=rf"kernel \({kernel}\): has no gradients; use auto, grouped"):
        KERNELS[kernel](x_TD, routing, weights)
    y_TD = KERNELS["auto"](x_TD, routing, weights)
    assert torch.autograd.grad(y_TD.sum(), leaves[wanted])[0].abs().sum() > 0
    for free in (torch.no_grad, torch.inference_mode):
        with free():
            assert_near(KERNELS[kernel](x_TD, routing, weights), y_TD.detach(), torch.float32)


@pytest.mark.parametrize("kernel", [*DIFFERENTIABLE, "loop"])
@pytest.mark.parametrize("keep", [1.0, 0.99], ids=["all", "dropped"])
def test_gradients_of_many_pairs_are_summed_wide_and_rounded_once(kernel: str, keep: float) -> None:
    """2,048 pairs on few experts, and tokens with many pairs each: a bf16 sum loses what is small beside it.

    Against float64 on the same rounded values; what remains is the rounding of the activations.
    """
    for tokens, count, top_k in ((1024, 2, 2), (64, 32, 32)):
        case = Case(tokens, count, top_k, 16, 16, True, False, keep, 0.0, torch.bfloat16, 3)
        exact = gradients("loop", case, torch.float64)
        for found, expected in zip(gradients(kernel, case), exact, strict=True):
            assert (found.double() - expected).norm() < 0.006 * expected.norm()


# Loads on both sides of every threshold of the sorted kernel, and weights big enough for its blocks.
LOADS = [
    [1, 0, 0, 0, 0, 0, 0, 0],
    [2, 3, 0, 5, 9, 15, 16, 17],
    [4, 4, 4, 4, 4, 4, 4, 4],
    [12, 20, 13, 0, 14, 128, 129, 30],
    [40, 48, 49, 64, 200, 256, 257, 1],
    [0, 0, 0, 0, 0, 0, 0, 2500],
    [2500, 3, 2049, 0, 1, 0, 300, 0],
]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: "-".join(map(str, load)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
def test_the_sorted_kernel_is_the_loop_on_both_sides_of_its_thresholds(
    load: list[int], dtype: torch.dtype, gated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorted_experts, "MIB", 64)  # blocks without megabytes of weights
    g = torch.Generator().manual_seed(1)
    experts_N = torch.arange(8).repeat_interleave(torch.tensor(load))
    tokens_N = torch.randint(0, 50, experts_N.shape, generator=g)
    mixed_N = torch.randperm(experts_N.numel(), generator=g)
    routing = Routing(
        tokens_N[mixed_N], experts_N[mixed_N], torch.rand(mixed_N.shape, generator=g), torch.zeros(50, 8)
    )
    gate_up = torch.randn(8, 64 if gated else 32, 64, generator=g).to(dtype) / 8
    weights = ExpertWeights(gate_up, torch.randn(8, 64, 32, generator=g).to(dtype) / 6, gated)
    x_TD = torch.randn(50, 64, generator=g).to(dtype)
    with torch.no_grad():
        assert_near(KERNELS["sorted"](x_TD, routing, weights), KERNELS["loop"](x_TD, routing, weights), dtype)


@given(load=st.lists(st.integers(0, 5000), min_size=1, max_size=40), bf16=st.booleans(), small=st.booleans())
@settings(deadline=None, max_examples=200)
def test_runs_hold_every_pair_and_bound_the_buffer(load: list[int], bf16: bool, small: bool) -> None:
    dtype = torch.bfloat16 if bf16 else torch.float32
    width = 64 if small else 2048
    weights = ExpertWeights(
        torch.empty(len(load), 2 * width, 256, device="meta", dtype=dtype),
        torch.empty(len(load), 256, width, device="meta", dtype=dtype),
    )
    places = dict.fromkeys(range(len(load)), 0)
    for run in sorted_layout.plan_runs(load, weights, dtype):
        for expert, rows in zip(run.experts, run.rows, strict=True):
            places[expert] += rows
        if len(run.experts) > 1:
            assert run.places * 2 * width * dtype.itemsize <= sorted_layout.HIDDEN_BYTES
        assert max(run.rows) <= sorted_layout.MOST_ROWS
    for expert, rows in enumerate(load):
        assert places[expert] >= rows
    spare = max(sorted_layout.FEW, sorted_layout.START_COST // (256 * width))
    assert sum(places.values()) <= 2 * sum(load) + (spare + 64) * len(load)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_a_kernel_run_twice_gives_the_same_bits(kernel: str) -> None:
    case = Case(200, 8, 3, 64, 32, True, False, 1.0, 1.0, torch.bfloat16, 5)
    with torch.no_grad():
        first, second = (KERNELS[kernel](*build(case)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_a_token_of_no_expert_gets_zero(kernel: str) -> None:
    x_TD, routing, weights = build(Case(3, 2, 1, 8, 8, True, False, 1.0, 0.0, torch.float32, 0))
    only = Routing(*(part[1:2] for part in routing[:3]), routing.scores_TE)
    with torch.no_grad():
        y_TD = KERNELS[kernel](x_TD, only, weights)
    assert y_TD[[0, 2]].abs().max() == 0
    assert y_TD[1].abs().max() > 0


def test_padding_gives_way_when_one_expert_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    x_TD, routing, weights = build(Case(400, 64, 1, 8, 8, True, False, 1.0, 9.0, torch.float32, 0))
    seen = []
    monkeypatch.setattr(experts, "_grouped", lambda *a: seen.append(a) or experts.loop(*a[:3]))
    KERNELS["padded"](x_TD, routing, weights)
    assert len(seen) == 1  # else 64 x 400 places for 400 pairs


class Spans:
    """An observer that notes the components it is told about."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def span(self, component: str):  # type: ignore[no-untyped-def]
        self.seen.append(component)
        return nullcontext()

    def routing(self, layer: int, routing: Routing) -> None:
        raise AssertionError("a kernel announces no routing")


@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_kernels_open_the_three_spans(kernel: str) -> None:
    observer = Spans()
    with torch.no_grad():
        KERNELS[kernel](*build(Case(6, 4, 2, 8, 8, True, False, 1.0, 0.0, torch.float32, 0)), observer)
    assert set(observer.seen) == {"dispatch", "experts", "combine"}


def choice(device: str, tokens: int, dtype: torch.dtype, gradients: bool = False, width: int = 3584) -> str:
    """What `auto` takes for a layer of D 1024, E 8, k 2 on a device that need not be here."""
    gate_up = torch.empty(8, 2 * width, 1024, dtype=dtype, device="meta")
    weights = ExpertWeights(gate_up, torch.empty(8, 1024, width, dtype=dtype, device="meta"))
    return experts.choose(torch.device(device), dtype, 2 * tokens, weights, gradients)


def test_auto_follows_device_dtype_shape_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    bf16, fp32 = torch.bfloat16, torch.float32
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert choice("cpu", 4, bf16) == "sorted"
    assert choice("cpu", 4, bf16, gradients=True) == "padded"
    assert choice("cuda", 4, bf16) == "gather"
    assert choice("cuda", 64, bf16) == "grouped"
    assert choice("cuda", 64, bf16, width=3583) == "padded"  # grouped_mm wants 16-byte rows
    assert choice("cuda", 4, bf16, gradients=True) == "grouped"
    assert choice("cuda", 64, fp32) == "padded"
    assert choice("mps", 64, fp32) == "padded"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert choice("cuda", 64, bf16) == "padded"


def test_grouped_mm_is_the_path_of_hopper_and_data_centre_blackwell(monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities = {(7, 5): False, (8, 0): False, (9, 0): True, (10, 0): True, (12, 0): False}
    for capability, there in capabilities.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert supports_grouped_mm(torch.device("cuda"), torch.bfloat16) == there
        assert not supports_grouped_mm(torch.device("cuda"), torch.float32)
