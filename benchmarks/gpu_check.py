"""Are kernels, routers, gradients and a decoder right on this device? Held against the CPU's oracle in fp32.

Every check gives a `Check`; none stops the others. Used by `benchmarks/gpu.py`.
Legend: T tokens, D model, F ffn, E experts, K top-k, N routed pairs.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from moe_core.device import supports_grouped_mm, waits_forbidden
from moe_core.nn.experts import KERNELS, ExpertWeights
from moe_core.nn.model import Decoder, initialise
from moe_core.nn.router import ROUTERS, build
from moe_core.nn.routing import Routing
from moe_core.runs.models import cast
from moe_core.runs.record import Recorder
from moe_core.specs import GQA, Architecture, Experts, Router

# Largest error, in units of the largest value: rounding of the inputs apart, those of the products.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 6e-3}
ON_DEVICE = ("loop", "auto", "gather", "grouped", "padded")
SIZES = ((1, 4, 2), (7, 9, 3), (64, 16, 4), (300, 8, 2), (2000, 64, 6))  # tokens, experts, top-k


class Check(NamedTuple):
    """One thing held against the oracle. `error` beyond `limit` or a `reason` is a failure."""

    name: str
    error: float = 0.0
    limit: float = 0.0
    reason: str = ""

    @property
    def ok(self) -> bool:
        return not self.reason and self.error <= self.limit


class Case(NamedTuple):
    """What a kernel is given, on the host in fp32."""

    name: str
    x_TD: Tensor
    routing: Routing
    weights: ExpertWeights


def run(device: torch.device, quick: bool) -> dict[str, Any]:
    """Every check, and how many failed."""
    found = [*kernels(device, quick), *gradients(device, quick), *routers(device), *decoder(device)]
    found += waits(device)
    failed = [check for check in found if not check.ok]
    return {
        "checks": len(found),
        "failed": [check._asdict() for check in failed],
        "largest_error": max(check.error / check.limit for check in found if check.limit),
    }


def kernels(device: torch.device, quick: bool) -> Iterator[Check]:
    """Outputs, in every dtype, with and without drops, gates and scaled inputs."""
    for case in cases(quick):
        with torch.inference_mode():
            for dtype in TOLERANCE:
                rounded = _as(case, dtype, torch.device("cpu"))
                exact = _as(rounded, torch.float32, torch.device("cpu"))
                expected = KERNELS["loop"](exact.x_TD, exact.routing, exact.weights)
                there = _as(rounded, dtype, device)
                for kernel in ON_DEVICE:
                    yield _checked(
                        f"{kernel} {case.name} {dtype}",
                        lambda: KERNELS[kernel](there.x_TD, there.routing, there.weights),  # noqa: B023
                        expected,
                        TOLERANCE[dtype],
                    )


def gradients(device: torch.device, quick: bool) -> Iterator[Check]:
    """Gradients to input, routing weights and expert weights."""
    for case in cases(quick):
        expected = _gradients("loop", case, torch.float32, torch.device("cpu"))
        for kernel, dtype in itertools.product(ON_DEVICE, (torch.float32, torch.bfloat16)):
            for place, name in enumerate(("x", "weights", "gate_up", "down")):
                yield _checked(
                    f"gradient of {name}, {kernel} {case.name} {dtype}",
                    lambda: _gradients(kernel, case, dtype, device)[place],  # noqa: B023
                    expected[place],
                    2 * TOLERANCE[dtype],
                )


def routers(device: torch.device) -> Iterator[Check]:
    """Scores, weights and loads of every kind of router."""
    g = torch.Generator().manual_seed(0)
    x_TD, ids_T = torch.randn(256, 64, generator=g), torch.randint(0, 256, (256,), generator=g)
    for kind in ROUTERS:
        spec = Experts(count=16, top_k=1 if kind == "switch" else 4, width=8, router=Router(kind=kind))
        router = build(spec, 64, seed=1).eval()
        there = copy.deepcopy(router).to(device)
        with torch.inference_mode():
            expected = router(x_TD, ids_T)
            for field in ("scores_TE", "weights_N"):
                yield _checked(
                    f"router {kind} {field}",
                    lambda: getattr(there(x_TD.to(device), ids_T.to(device)), field),  # noqa: B023
                    getattr(expected, field),
                    1e-4,
                )


def decoder(device: torch.device) -> Iterator[Check]:
    """Logits of a prefill and of decode steps through the cache, and what a recorder brings back."""
    model, ids_BS = _model(), torch.randint(0, 256, (2, 20), generator=torch.Generator().manual_seed(0))
    there = copy.deepcopy(model).to(device)

    def steps(one: Decoder, ids: Tensor) -> Tensor:
        cache = one.new_cache(2, 20)
        parts = [one(ids[:, :16], cache)] + [one(ids[:, at : at + 1], cache) for at in range(16, 20)]
        return torch.cat(parts, dim=1)

    def recorded(one: Decoder, ids: Tensor) -> Tensor:
        recorder = Recorder([0, 1], 2, 20)
        one(ids, observer=recorder)
        recorder.collect()
        return torch.from_numpy(recorder.decisions().share_LME)

    with torch.inference_mode():
        for name, call in (("decoder with cache", steps), ("recorder", recorded)):
            yield _checked(name, lambda: call(there, ids_BS.to(device)), call(model, ids_BS), 1e-3)  # noqa: B023


def waits(device: torch.device) -> Iterator[Check]:
    """Passes that must never wait for the device: CUDA raises when they do."""
    case = _as(next(cases(quick=True)), torch.bfloat16, device)
    passes = {"gather": lambda: KERNELS["gather"](case.x_TD, case.routing, case.weights)}
    if supports_grouped_mm(device, torch.bfloat16):
        passes["grouped"] = lambda: KERNELS["grouped"](case.x_TD, case.routing, case.weights)
    model, ids_BS = cast(_model().to(device), torch.bfloat16), torch.zeros(1, 4, dtype=torch.int64)
    given_BS, cache = ids_BS.to(device), model.new_cache(1, 64)
    passes["prefill"] = lambda: model(given_BS, cache, Recorder([0], 1, 4))
    passes["decode"] = lambda: model(given_BS[:, :1], cache)
    with torch.inference_mode():
        for name, call in passes.items():
            yield _unwaited(f"{name} never waits", call, device)


def cases(quick: bool) -> Iterator[Case]:
    """Sizes, gates, scaled inputs, drops and skewed loads, each with the others in turn."""
    forms = itertools.cycle(itertools.product((True, False), (False, True), (False, True), (0.0, 4.0)))
    for number, ((tokens, experts, top_k), form) in enumerate(
        zip(itertools.chain(*([SIZES[:2]] if quick else [SIZES] * 4)), forms, strict=False)
    ):
        yield _case(tokens, experts, top_k, *form, seed=number)


def _case(
    tokens: int, experts: int, top_k: int, gated: bool, scaled: bool, drops: bool, skew: float, seed: int
) -> Case:
    hidden, width, g = 64, 32, torch.Generator().manual_seed(seed)
    tilt_E = -skew * torch.arange(experts) / experts
    scores_TE = (torch.randn(tokens, experts, generator=g) + tilt_E).softmax(-1)
    weights_TK, chosen_TK = scores_TE.topk(top_k)
    pairs = [torch.arange(tokens).repeat_interleave(top_k), chosen_TK.flatten(), weights_TK.flatten()]
    if drops:
        kept_N = torch.randperm(tokens * top_k, generator=g)[: max(1, tokens * top_k * 2 // 3)]
        pairs = [part[kept_N] for part in pairs]
    routing = Routing(*pairs, scores_TE, per_token=None if drops else top_k)
    gate_up = torch.randn(experts, width * (2 if gated else 1), hidden, generator=g) / hidden**0.5
    down = torch.randn(experts, hidden, width, generator=g) / width**0.5
    name = f"T{tokens} E{experts} K{top_k} gated {gated} scaled {scaled} drops {drops} skew {skew:g}"
    x_TD = torch.randn(tokens, hidden, generator=g)
    return Case(name, x_TD, routing, ExpertWeights(gate_up, down, gated, scaled))


def _as(case: Case, dtype: torch.dtype, device: torch.device) -> Case:
    """The case in a dtype on a device; routing weights stay fp32."""
    weights = case.weights._replace(
        gate_up_EGD=case.weights.gate_up_EGD.to(device, dtype),
        down_EDF=case.weights.down_EDF.to(device, dtype),
    )
    pairs = [part.to(device) for part in case.routing[:4] if part is not None]
    routing = Routing(*pairs, per_token=case.routing.per_token)
    return case._replace(x_TD=case.x_TD.to(device, dtype), routing=routing, weights=weights)


def _gradients(kernel: str, case: Case, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    there = _as(case, dtype, device)
    leaves = [
        tensor.detach().clone().requires_grad_()
        for tensor in (there.x_TD, there.routing.weights_N, there.weights.gate_up_EGD, there.weights.down_EDF)
    ]
    routing = there.routing._replace(weights_N=leaves[1])
    weights = there.weights._replace(gate_up_EGD=leaves[2], down_EDF=leaves[3])
    y_TD = KERNELS[kernel](leaves[0], routing, weights)
    signs_TD = torch.randn(y_TD.shape, generator=torch.Generator().manual_seed(0)).to(device)
    return torch.autograd.grad((y_TD.float() * signs_TD).sum(), leaves)


def _model() -> Decoder:
    attention = GQA(heads=4, kv_heads=2, head_dim=16)
    experts = Experts(count=8, top_k=2, width=32, shared=1)
    arch = Architecture(
        hidden=64, layers=2, vocab=256, attention=attention, experts=experts, tied=True, max_positions=64
    )
    model = Decoder(arch)
    initialise(model, seed=0)
    return model.eval()


def _checked(name: str, call: Callable[[], Tensor], expected: Tensor, limit: float) -> Check:
    try:
        found = call().float().cpu()
    except Exception as error:  # a check that dies is one that failed, and the others go on
        return Check(name, limit=limit, reason=f"{type(error).__name__}: {str(error).splitlines()[0]}")
    if found.shape != expected.shape or not bool(found.isfinite().all()):
        return Check(name, limit=limit, reason="another shape, or numbers that are not finite")
    scale = float(expected.abs().max()) or 1.0
    return Check(name, float((found - expected).abs().max()) / scale, limit)


def _unwaited(name: str, call: Callable[[], object], device: torch.device) -> Check:
    try:
        call()  # what is made once, such as handles of libraries, may wait
        with waits_forbidden(device):
            call()
    except Exception as error:
        return Check(name, reason=f"{type(error).__name__}: {str(error).splitlines()[0]}")
    return Check(name)
