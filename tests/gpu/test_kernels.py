"""Kernels on a pretended device: the oracle's numbers, and no wait that the docstring does not own up to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from moe_core.errors import ConfigError
from moe_core.nn import experts
from moe_core.nn.experts import KERNELS, ON_CPU_ONLY, ExpertWeights, choose
from moe_core.nn.routing import Routing
from tests.gpu.conftest import Pretend
from tests.gpu.fake_device import CAPABILITIES, NATIVE_GROUPED_MM, values

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = {"fp32": 1e-5, "bf16": 3e-2, "fp16": 4e-3}
TOKENS, EXPERTS, TOP_K, HIDDEN, WIDTH = 24, 8, 2, 32, 16


def case(dtype: str, drops: bool = False) -> tuple[Tensor, Routing, ExpertWeights]:
    """Tokens, routing and weights on the host; `drops` leaves every third pair out."""
    g = torch.Generator().manual_seed(3)
    scores_TE = torch.randn(TOKENS, EXPERTS, generator=g).softmax(-1)
    weights_TK, chosen_TK = scores_TE.topk(TOP_K)
    token_ids_N = torch.arange(TOKENS).repeat_interleave(TOP_K)
    pairs = (token_ids_N, chosen_TK.flatten(), weights_TK.flatten())
    if drops:
        pairs = tuple(part[torch.arange(part.numel()) % 3 > 0] for part in pairs)
    routing = Routing(*pairs, scores_TE, per_token=None if drops else TOP_K)
    gate_up = torch.randn(EXPERTS, 2 * WIDTH, HIDDEN, generator=g) / 6
    down = torch.randn(EXPERTS, HIDDEN, WIDTH, generator=g) / 4
    x_TD = torch.randn(TOKENS, HIDDEN, generator=g)
    as_is = DTYPES[dtype]
    return x_TD.to(as_is), routing, ExpertWeights(gate_up.to(as_is), down.to(as_is))


def moved(
    given: tuple[Tensor, Routing, ExpertWeights], device: torch.device
) -> tuple[Tensor, Routing, ExpertWeights]:
    x_TD, routing, weights = given
    pairs = [part.to(device) for part in routing[:4]]
    on_device = Routing(*pairs, per_token=routing.per_token)
    return (
        x_TD.to(device),
        on_device,
        weights._replace(gate_up_EGD=weights.gate_up_EGD.to(device), down_EDF=weights.down_EDF.to(device)),
    )


def necessary(kernel: str, dtype: str, capability: tuple[int, int]) -> int:
    """How often a kernel may wait: padded once, grouped where there is no grouped product."""
    if kernel == "auto":
        kernel = "gather"  # so few weights are copied
    native = dtype == "bf16" and capability[0] in NATIVE_GROUPED_MM
    return {"gather": 0, "padded": 1, "grouped": 0 if native else 1}[kernel]


@pytest.mark.parametrize("drops", [False, True], ids=["all-pairs", "drops"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_kernels_are_the_oracle_and_wait_only_where_they_say_so(
    pretended: Pretend, capability: tuple[int, int], dtype: str, drops: bool
) -> None:
    given = case(dtype, drops)
    with torch.inference_mode():
        expected = KERNELS["loop"](*given).float()
    with pretended(capability=capability) as device:
        there = moved(given, device.torch)
        for kernel in ("loop", "auto", "gather", "grouped", "padded"):
            with device.watched() as waits:
                y_TD = KERNELS[kernel](*there)
            assert y_TD.device.type == "cuda"
            assert y_TD.dtype == DTYPES[dtype]
            error = float((values(y_TD).float() - expected).abs().max() / expected.abs().max())
            assert error < TOLERANCE[dtype], f"{kernel} differs from the loop by {error}"
            if kernel != "loop":
                assert len(waits) == necessary(kernel, dtype, capability), f"{kernel} waits: {waits}"


@pytest.mark.parametrize("kernel", ["grouped", "padded"])
def test_skewed_loads_cost_one_wait_too(
    pretended: Pretend, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experts, "MOST_PADDING", 0)  # `padded` leaves the work to `grouped`
    with pretended() as device:
        there = moved(case("fp32"), device.torch)
        with device.watched() as waits:
            KERNELS[kernel](*there)
    assert waits == ["tolist"]


@pytest.mark.parametrize("kernel", sorted(ON_CPU_ONLY))
def test_a_kernel_for_cpus_is_refused_with_a_sentence(pretended: Pretend, kernel: str) -> None:
    with pretended() as device:
        there = moved(case("fp32"), device.torch)
        with pytest.raises(
            ConfigError, match=rf"^kernel \({kernel}\) computes on a CPU only: device \(cuda\)"
        ):
            KERNELS[kernel](*there)


# pairs -> kernel; one expert of this shape weighs 12.6 MB in bf16, twice that in fp32.
SMALL, LARGE = 8, 4096
TAKEN = {
    ("bf16", True): ("gather", "grouped"),
    ("bf16", False): ("gather", "padded"),
    ("fp16", True): ("gather", "padded"),
    ("fp16", False): ("gather", "padded"),
    ("fp32", True): ("gather", "padded"),
    ("fp32", False): ("gather", "padded"),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_auto_groups_only_where_the_device_has_the_product(
    pretended: Pretend, capability: tuple[int, int], dtype: str
) -> None:
    with torch.device("meta"):
        bank = torch.empty(8, 2 * 1024, 2048, dtype=DTYPES[dtype]), torch.empty(8, 2048, 1024)
    weights = ExpertWeights(bank[0], bank[1].to(DTYPES[dtype]))
    with pretended(capability=capability) as device:
        chosen = tuple(
            choose(device.torch, DTYPES[dtype], pairs, weights, gradients=False) for pairs in (SMALL, LARGE)
        )
    assert chosen == TAKEN[dtype, capability[0] in NATIVE_GROUPED_MM]


def test_odd_widths_have_no_grouped_product(pretended: Pretend) -> None:
    weights = ExpertWeights(torch.empty(8, 66, 32), torch.empty(8, 32, 33))
    with pretended() as device:
        assert choose(device.torch, torch.bfloat16, 10**7, weights, gradients=False) == "padded"


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("kernel", ["auto", "gather", "grouped", "padded"])
def test_apple_devices_compute_the_same(pretended: Pretend, kernel: str, dtype: str) -> None:
    given = case(dtype)
    with torch.inference_mode():
        expected = KERNELS["loop"](*given).float()
    with pretended("mps") as device:
        y_TD = KERNELS[kernel](*moved(given, device.torch))
    assert y_TD.device.type == "mps"
    torch.testing.assert_close(values(y_TD).float(), expected, rtol=0, atol=TOLERANCE[dtype] * 4)
