"""The mixture layer against a loop over tokens, and against transformers' layers with its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from moe_core.nn.balance import switch_loss
from moe_core.nn.experts import KERNELS
from moe_core.nn.moe import MoE
from moe_core.nn.observe import Null, RoutingLog
from moe_core.nn.router import ROUTERS
from moe_core.nn.routing import Routing
from moe_core.specs import Experts

HIDDEN = 10
KINDS = sorted(ROUTERS)


def moe_of(kind: str, count: int = 6, top_k: int = 2, gated: bool = True, **fields: Any) -> MoE:
    spec = {"count": count, "top_k": 1 if kind == "switch" else min(top_k, count), "width": 5}
    router = {"kind": kind, **fields.pop("router", {})}
    return filled(MoE(Experts.parse({**spec, "router": router, **fields}), HIDDEN, gated))


def filled(moe: MoE, seed: int = 0) -> MoE:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return moe


def inputs(*shape: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, HIDDEN, generator=generator), torch.randint(0, 256, shape, generator=generator)


def one_by_one(moe: MoE, x_TD: Tensor, routing: Routing) -> Tensor:
    """The layer as its definition reads, a token and an expert at a time."""
    outputs = []
    for token, x_D in enumerate(x_TD):
        y_D = torch.zeros(HIDDEN)
        for pair in (routing.token_ids_N == token).nonzero().flatten().tolist():
            expert, weight = int(routing.expert_ids_N[pair]), routing.weights_N[pair]
            if moe.spec.router.kind == "sigmoid_input":
                y_D = y_D + feed(moe.gate_up_EGD[expert], moe.down_EDF[expert], moe.gated, x_D * weight)
            else:
                y_D = y_D + feed(moe.gate_up_EGD[expert], moe.down_EDF[expert], moe.gated, x_D) * weight
        if moe.shared is not None:
            share = 1.0 if moe.shared_gate_1D is None else (moe.shared_gate_1D[0] @ x_D).sigmoid()
            y_D = y_D + share * feed(moe.shared.gate_up_GD, moe.shared.down_DF, moe.gated, x_D)
        outputs.append(y_D)
    return torch.stack(outputs) if outputs else torch.zeros(0, HIDDEN)


def feed(gate_up_GD: Tensor, down_DF: Tensor, gated: bool, x_D: Tensor) -> Tensor:
    up_G = gate_up_GD @ x_D
    half = up_G.numel() // 2
    return down_DF @ (silu(up_G[:half]) * up_G[half:] if gated else silu(up_G))


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 9), st.integers(1, 7), st.integers(1, 7), st.booleans(), st.sampled_from([0, 1, 2]))
@settings(deadline=None, max_examples=15)
def test_equals_a_loop_over_tokens(
    kind: str, tokens: int, count: int, top_k: int, gated: bool, shared: int
) -> None:
    moe = moe_of(kind, count, top_k, gated, shared=shared, shared_gate=shared == 2)
    x_TD, ids_T = inputs(tokens)
    log = RoutingLog()
    y_TD = moe(x_TD, ids_BS=ids_T, observer=log)
    [(_, routing)] = log.seen
    torch.testing.assert_close(y_TD, one_by_one(moe, x_TD, routing), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize(
    ("kind", "router"),
    [(kind, {}) for kind in KINDS] + [("switch", {"capacity_factor": 0.5})],
)
def test_every_kernel_serves_every_router(kernel: str, kind: str, router: dict[str, Any]) -> None:
    moe = moe_of(kind, shared=1, router=router).eval()
    moe.kernel = kernel
    x_TD, ids_T = inputs(11)
    log = RoutingLog()
    y_TD = moe(x_TD, ids_BS=ids_T, observer=log)
    torch.testing.assert_close(y_TD, one_by_one(moe, x_TD, log.seen[0][1]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("hash", "unit")])
def test_gradient_flows_to_router_experts_shared_and_input(kind: str) -> None:
    moe = moe_of(kind, shared=1, shared_gate=True)
    x_TD, ids_T = inputs(30)
    x_TD.requires_grad_()
    moe(x_TD, ids_BS=ids_T).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in moe.parameters())
    assert x_TD.grad is not None
    assert (x_TD.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
def test_gradients_are_the_slopes_of_the_layer(kind: str, gated: bool) -> None:
    """Finite differences in float64, with respect to the input and every parameter."""
    moe = moe_of(kind, 4, 2, gated, shared=1, shared_gate=True).double().eval()
    x_TD, ids_T = inputs(3)
    names, parameters = zip(*moe.named_parameters(), strict=True)

    def output(x_TD: Tensor, *values: Tensor) -> Tensor:
        replaced = dict(zip(names, values, strict=True))
        y_TD: Tensor = torch.func.functional_call(moe, replaced, (x_TD,), {"ids_BS": ids_T})
        return y_TD

    leaves = [x_TD.double(), *(parameter.detach() for parameter in parameters)]
    assert torch.autograd.gradcheck(output, [leaf.requires_grad_() for leaf in leaves], fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_keep_their_shape_and_repeat_exactly(kind: str) -> None:
    moe = moe_of(kind, shared=1).eval()
    x_BSD, ids_BS = inputs(3, 4)
    y_BSD = moe(x_BSD, ids_BS=ids_BS)
    assert y_BSD.shape == x_BSD.shape
    assert torch.equal(y_BSD, moe(x_BSD, ids_BS=ids_BS))
    flat_TD = moe(x_BSD.view(12, HIDDEN), ids_BS=ids_BS.view(12))
    torch.testing.assert_close(y_BSD.view(12, HIDDEN), flat_TD)


def drawn(kind: str, seed: int, device: str = "cpu") -> MoE:
    spec = {"count": 4, "top_k": 1, "width": 5, "shared": 1, "shared_gate": True, "router": {"kind": kind}}
    with torch.device(device):
        return MoE(Experts.parse(spec), HIDDEN, seed=seed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_layer_whatever_else_was_drawn(kind: str) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = drawn(kind, 3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    second, other = drawn(kind, 3).state_dict(), drawn(kind, 4).state_dict()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        assert value.abs().max() < (256 if "table" in name else 0.2), name  # 10 deviations
        fixed = name in ("shared_gate_1D", "router.noise_ED", "router._extra_state")  # these start at zero
        assert torch.equal(value, other[name]) == fixed, name
    streams = [value.flatten()[:40] for value in first.values() if value.is_floating_point() and value.any()]
    assert all(not torch.equal(a, b) for i, a in enumerate(streams) for b in streams[:i])


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_on_the_meta_device_draws_nothing(kind: str) -> None:
    tensors = drawn(kind, 3, "meta").state_dict()
    assert {value.device.type for name, value in tensors.items() if "extra" not in name} == {"meta"}
    assert tensors.keys() == drawn(kind, 3).state_dict().keys()


def test_a_dropped_token_gets_the_shared_expert_alone() -> None:
    moe = moe_of("switch", shared=1, router={"capacity_factor": 0.2})
    x_TD, _ = inputs(20)
    log = RoutingLog()
    y_TD = moe(x_TD, observer=log)
    dropped_T = log.seen[0][1].dropped_T()
    assert moe.shared is not None
    assert 0 < dropped_T.sum() < 20
    torch.testing.assert_close(y_TD[dropped_T], moe.shared(x_TD[dropped_T]))


def test_shared_experts_are_one_ffn_equal_to_their_sum() -> None:
    """Two shared experts of width 5 are the halves of one of width 10."""
    moe = moe_of("softmax", shared=2)
    assert moe.shared is not None
    gate_2FD, up_2FD = moe.shared.gate_up_GD.chunk(2)
    x_TD, _ = inputs(4)
    total_TD = torch.zeros_like(x_TD)
    for rows in (slice(0, 5), slice(5, 10)):
        h_TF = silu(linear(x_TD, gate_2FD[rows])) * linear(x_TD, up_2FD[rows])
        total_TD = total_TD + linear(h_TF, moe.shared.down_DF[:, rows])
    torch.testing.assert_close(moe.shared(x_TD), total_TD)


class Spans(Null):
    """Notes the spans that were opened and refuses nesting."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.open = False

    def span(self, component: str) -> Any:
        outer = self

        class Span:
            def __enter__(self) -> None:
                assert not outer.open, "spans must not nest: their times are added"
                outer.open = True
                outer.names.append(component)

            def __exit__(self, *error: object) -> None:
                outer.open = False

        return Span()


@torch.no_grad()
@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_spans_are_announced_and_never_nest(kernel: str) -> None:
    spans, moe = Spans(), moe_of("softmax", shared=1)
    moe.kernel = kernel
    moe(inputs(5)[0], observer=spans)
    assert spans.names[0] == "router"
    assert spans.names[-1] == "shared"
    assert set(spans.names) <= {"router", "dispatch", "experts", "combine", "shared"}


def test_the_log_carries_layer_and_graph() -> None:
    moe, log = moe_of("softmax"), RoutingLog()
    moe(inputs(7)[0], layer=3, observer=log)
    [(layer, routing)] = log.seen
    assert layer == 3
    switch_loss(routing).backward()
    assert moe.router.weight_ED.grad.abs().sum() > 0


def test_one_expert_is_a_dense_network() -> None:
    moe = moe_of("softmax", count=1, top_k=1)
    x_TD, _ = inputs(6)
    dense_TD = torch.stack([feed(moe.gate_up_EGD[0], moe.down_EDF[0], True, x_D) for x_D in x_TD])
    torch.testing.assert_close(moe(x_TD), dense_TD)


# --- The same numbers as Hugging Face transformers: whole layers


def deepseek_v3() -> tuple[nn.Module, MoE]:
    from transformers.models.deepseek_v3 import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    config = DeepseekV3Config(
        hidden_size=HIDDEN, moe_intermediate_size=5, n_routed_experts=8, n_shared_experts=2,
        num_experts_per_tok=3, n_group=4, topk_group=2, routed_scaling_factor=2.5,
    )  # fmt: skip
    router = {"groups": 4, "top_groups": 2, "selection_bias": True, "scaling": 2.5}
    theirs, ours = DeepseekV3MoE(config), moe_of("sigmoid", 8, 3, shared=2, router=router)
    ours.router.selection_bias_E.normal_(0.0, 0.2)
    theirs.gate.e_score_correction_bias.copy_(ours.router.selection_bias_E)
    theirs.gate.weight.copy_(ours.router.weight_ED)
    copy_shared(theirs.shared_experts, ours)
    return theirs, ours


def qwen2() -> tuple[nn.Module, MoE]:
    from transformers.models.qwen2_moe import Qwen2MoeConfig
    from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock

    config = Qwen2MoeConfig(
        hidden_size=HIDDEN, moe_intermediate_size=5, num_experts=8, num_experts_per_tok=3,
        shared_expert_intermediate_size=20, norm_topk_prob=False,
    )  # fmt: skip
    fields = {"shared": 1, "shared_width": 20, "shared_gate": True, "router": {"renormalise": False}}
    theirs, ours = Qwen2MoeSparseMoeBlock(config), moe_of("softmax", 8, 3, **fields)
    theirs.gate.weight.copy_(ours.router.weight_ED)
    assert ours.shared_gate_1D is not None
    theirs.shared_expert_gate.weight.copy_(ours.shared_gate_1D)
    copy_shared(theirs.shared_expert, ours)
    return theirs, ours


def llama4() -> tuple[nn.Module, MoE]:
    from transformers.models.llama4 import Llama4TextConfig
    from transformers.models.llama4.modeling_llama4 import Llama4TextMoe

    config = Llama4TextConfig(
        hidden_size=HIDDEN, intermediate_size=5, num_local_experts=8, num_experts_per_tok=2
    )
    theirs, ours = Llama4TextMoe(config), moe_of("sigmoid_input", 8, 2, shared=1)
    theirs.router.weight.copy_(ours.router.weight_ED)
    copy_shared(theirs.shared_expert, ours)
    theirs.experts.gate_up_proj.copy_(ours.gate_up_EGD.transpose(1, 2))
    theirs.experts.down_proj.copy_(ours.down_EDF.transpose(1, 2))
    return theirs, ours


def copy_shared(theirs: nn.Module, ours: MoE) -> None:
    assert ours.shared is not None
    gate, up = ours.shared.gate_up_GD.chunk(2)
    for projection, weight in (("gate_proj", gate), ("up_proj", up), ("down_proj", ours.shared.down_DF)):
        theirs.get_submodule(projection).weight.copy_(weight)  # type: ignore[operator, union-attr]


@pytest.mark.parametrize("family", [deepseek_v3, qwen2, llama4])
@torch.no_grad()
def test_layers_equal_those_of_transformers(family: Any) -> None:
    theirs, ours = family()
    if family is not llama4:  # whose matrices are transposed
        theirs.experts.gate_up_proj.copy_(ours.gate_up_EGD)
        theirs.experts.down_proj.copy_(ours.down_EDF)
    x_BSD, _ = inputs(2, 16)
    expected = theirs(x_BSD)
    if isinstance(expected, tuple):
        expected = expected[0]
    torch.testing.assert_close(ours(x_BSD), expected.view_as(x_BSD), rtol=1e-4, atol=1e-4)
