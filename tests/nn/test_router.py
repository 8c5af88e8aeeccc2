"""Routers: invariants of every kind, then what sets each kind apart."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from moe_core.errors import ConfigError
from moe_core.hf.config import architecture
from moe_core.nn.balance import BiasUpdate
from moe_core.nn.router import NOT_READ, ROUTERS, ExpertChoice, HashRouter, NoisyTopK, TokenChoice, build
from moe_core.nn.routing import Routing
from moe_core.nn.selection import capacity
from moe_core.specs import Experts, Router, RouterKind

HIDDEN = 12
KINDS = sorted(ROUTERS)
SUM_TO_ONE = ["hash", "noisy", "sigmoid", "softmax", "softmax_selected", "sqrt_softplus"]
LEARNED = [k for k in KINDS if k not in ("hash", "unit")]


def experts_of(kind: str, count: int, top_k: int, **fields: Any) -> Experts:
    top_k = 1 if kind == "switch" else min(top_k, count)
    return Experts.parse({"count": count, "top_k": top_k, "width": 4, "router": {"kind": kind, **fields}})


def router_of(kind: str, count: int, top_k: int, seed: int = 0, **fields: Any) -> Any:
    router = build(experts_of(kind, count, top_k, **fields), HIDDEN)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in router.parameters():
            parameter.normal_(0.0, 0.4, generator=generator)
    return router


def inputs(tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed + 1)
    x_TD = torch.randn(tokens, HIDDEN, generator=generator)
    return x_TD, torch.randint(0, 256, (tokens,), generator=generator)


def pairs(routing: Routing) -> list[tuple[int, int]]:
    return list(zip(routing.token_ids_N.tolist(), routing.expert_ids_N.tolist(), strict=True))


def by_token(routing: Routing) -> Tensor:
    """[T, E] weights, 0 where not routed."""
    weights_TE = torch.zeros_like(routing.scores_TE)
    return weights_TE.index_put((routing.token_ids_N, routing.expert_ids_N), routing.weights_N)


kinds = st.sampled_from(KINDS)
tokens_ = st.integers(0, 17)
counts_ = st.integers(1, 9)
seeds = st.integers(0, 10**6)
common = settings(deadline=None, max_examples=80)


def test_every_kind_of_the_specs_has_a_router() -> None:
    assert set(ROUTERS) == set(get_args(RouterKind))


@given(kinds, tokens_, counts_, st.integers(1, 9), seeds, st.none() | st.sampled_from([0.25, 1.0, 1.5, 9.0]))
@common
def test_every_routing_is_well_formed(
    kind: str, tokens: int, count: int, top_k: int, seed: int, factor: float | None
) -> None:
    assume(kind != "hash" or factor is None)
    router = router_of(kind, count, top_k, seed, capacity_factor=factor)
    routing: Routing = router(*inputs(tokens, seed))
    assert (routing.tokens, routing.experts) == (tokens, count)
    assert routing.token_ids_N.dtype == routing.expert_ids_N.dtype == torch.int64
    assert routing.weights_N.dtype == routing.scores_TE.dtype == torch.float32
    assert len(set(pairs(routing))) == len(pairs(routing)) == routing.weights_N.numel()
    assert all(0 <= t < tokens and 0 <= e < count for t, e in pairs(routing))
    assert (routing.weights_N >= 0).all()
    if kind == "expert_choice":
        assert routing.load_E().tolist() == [capacity(tokens, router.spec)] * count
    else:
        assert routing.token_ids_N.numel() + routing.dropped_pairs() == tokens * router.spec.top_k
        assert routing.token_ids_N.tolist() == sorted(routing.token_ids_N.tolist())
    if factor is not None and kind != "hash":
        assert tokens == 0 or routing.load_E().max() <= capacity(tokens, router.spec)


@given(st.sampled_from(SUM_TO_ONE), st.integers(1, 17), counts_, st.integers(1, 9), seeds)
@common
def test_renormalised_weights_sum_to_one(kind: str, tokens: int, count: int, top_k: int, seed: int) -> None:
    routing: Routing = router_of(kind, count, top_k, seed)(*inputs(tokens, seed))
    torch.testing.assert_close(by_token(routing).sum(1), torch.ones(tokens))
    assert routing.per_token == min(top_k, count)


@given(kinds.filter(lambda k: k != "hash"), st.integers(1, 17), counts_, st.integers(1, 9), seeds)
@common
def test_permuting_tokens_permutes_routing(kind: str, tokens: int, count: int, top_k: int, seed: int) -> None:
    router = router_of(kind, count, top_k, seed).eval()
    x_TD, _ = inputs(tokens, seed)
    order_T = torch.randperm(tokens, generator=torch.Generator().manual_seed(seed))
    straight, permuted = router(x_TD), router(x_TD[order_T])
    torch.testing.assert_close(by_token(permuted), by_token(straight)[order_T])


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_routing(kind: str) -> None:
    first, second = (router_of(kind, 8, 2, seed=3) for _ in range(2))
    for _ in range(2):  # noise included: pass i of one equals pass i of the other
        a, b = first(*inputs(20)), second(*inputs(20))
        assert pairs(a) == pairs(b)
        assert torch.equal(a.weights_N, b.weights_N)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_what_is_learned(kind: str) -> None:
    router = router_of(kind, 8, 2)
    routing: Routing = router(*inputs(20))
    if kind not in LEARNED:
        assert not routing.weights_N.requires_grad
        return
    routing.weights_N.square().sum().backward()
    assert router.weight_ED.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["softmax", "softmax_selected"])
def test_one_selected_expert_after_the_mask_teaches_the_router_nothing(kind: str) -> None:
    router = router_of(kind, 8, 1, mask_first=kind == "softmax")
    routing: Routing = router(*inputs(20))
    assert routing.weights_N.tolist() == [1.0] * 20
    routing.weights_N.square().sum().backward()
    assert router.weight_ED.grad.abs().sum() == 0.0


@given(st.integers(1, 17), counts_, st.integers(1, 9), seeds)
@common
def test_mask_before_softmax_is_softmax_topk_renormalised(
    tokens: int, count: int, top_k: int, seed: int
) -> None:
    x_TD, _ = inputs(tokens, seed)
    after, before, selected = (
        router_of(kind, count, top_k, seed, **fields)(x_TD)
        for kind, fields in (("softmax", {}), ("softmax", {"mask_first": True}), ("softmax_selected", {}))
    )
    assert pairs(before) == pairs(after) == pairs(selected)
    torch.testing.assert_close(before.weights_N, after.weights_N)
    assert torch.equal(before.weights_N, selected.weights_N)


def test_raw_softmax_weights_are_the_probabilities() -> None:
    routing: Routing = router_of("softmax", 8, 3, renormalise=False)(inputs(9)[0])
    expected_N = routing.scores_TE[routing.token_ids_N, routing.expert_ids_N]
    assert torch.equal(routing.weights_N, expected_N)
    assert (by_token(routing).sum(1) < 1).all()
    torch.testing.assert_close(routing.scores_TE.sum(1), torch.ones(9))


def test_scaling_multiplies_and_bias_shifts() -> None:
    x_TD, _ = inputs(9)
    plain, scaled = router_of("sigmoid", 8, 3), router_of("sigmoid", 8, 3, scaling=2.5)
    torch.testing.assert_close(scaled(x_TD).weights_N, 2.5 * plain(x_TD).weights_N)
    biased = build(experts_of("softmax_selected", 4, 1, bias=True), HIDDEN)
    with torch.no_grad():
        biased.bias_E[2] = 100.0
    assert biased(x_TD).expert_ids_N.tolist() == [2] * 9


# --- DeepSeek-V3: selection bias and groups


@given(st.integers(1, 12), st.sampled_from([(8, 2, 1), (8, 4, 2), (12, 3, 2), (4, 4, 2)]), seeds)
@common
def test_group_limit_is_respected_and_equals_a_plain_loop(
    tokens: int, shape: tuple[int, int, int], seed: int
) -> None:
    count, groups, top_groups = shape
    router = router_of(
        "sigmoid", count, 2, seed, groups=groups, top_groups=top_groups, selection_bias=True, scaling=2.5
    )
    router.selection_bias_E.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(seed))
    routing: Routing = router(inputs(tokens, seed)[0])
    size = count // groups
    for token, scores_E in enumerate(routing.scores_TE.tolist()):
        ranked = [s + b for s, b in zip(scores_E, router.selection_bias_E.tolist(), strict=True)]
        worth = [sum(sorted(ranked[g * size : (g + 1) * size])[-2:]) for g in range(groups)]
        allowed = sorted(range(groups), key=lambda g: worth[g])[-top_groups:]
        best = sorted((e for e in range(count) if e // size in allowed), key=lambda e: -ranked[e])[:2]
        chosen = [e for t, e in pairs(routing) if t == token]
        assert chosen == best
        assert len({e // size for e in chosen}) <= top_groups
        total = sum(scores_E[e] for e in chosen)
        weights = routing.weights_N[routing.token_ids_N == token].tolist()
        assert weights == pytest.approx([2.5 * scores_E[e] / total for e in chosen], rel=1e-5)


def test_softmax_groups_are_ranked_by_their_best_expert() -> None:
    """DeepSeek-V2 ranks by the maximum, V3 by the sum of two: a lone star decides."""
    star_against_pair = torch.tensor([[3.0, -9.0, 2.0, 2.0]])
    for kind, expected in (("softmax", 0), ("sigmoid", 2)):
        router = router_of(kind, 4, 1, groups=2, top_groups=1)
        with torch.no_grad():
            router.weight_ED.zero_()[:, 0] = star_against_pair[0]
        x_TD = torch.zeros(1, HIDDEN).index_fill(1, torch.tensor([0]), 1.0)
        assert router(x_TD).expert_ids_N.tolist() == [expected]


@pytest.mark.parametrize("kind", ["sigmoid", "sqrt_softplus", "softmax"])
def test_selection_bias_moves_selection_but_not_weights(kind: str) -> None:
    router = router_of(kind, 8, 2, selection_bias=True, renormalise=False)
    x_TD, _ = inputs(30)
    free: Routing = router(x_TD)
    router.selection_bias_E[5] = 100.0
    steered: Routing = router(x_TD)
    assert free.load_E()[5] < 30
    assert steered.load_E()[5] == 30
    assert torch.equal(steered.scores_TE, free.scores_TE)
    expected_N = steered.scores_TE[steered.token_ids_N, steered.expert_ids_N]
    assert torch.equal(steered.weights_N, expected_N)


def test_selection_bias_is_a_saved_buffer_without_gradient() -> None:
    router = router_of("sigmoid", 8, 2, selection_bias=True)
    assert "selection_bias_E" in router.state_dict()
    assert "selection_bias_E" not in dict(router.named_parameters())
    router.selection_bias_E.requires_grad_()
    routing: Routing = router(inputs(20)[0])
    gradient = torch.autograd.grad(routing.weights_N.sum(), router.selection_bias_E, allow_unused=True)
    assert gradient == (None,)


@pytest.mark.parametrize(
    "convert",
    [nn.Module.bfloat16, nn.Module.half, nn.Module.double, lambda m: m.to(torch.bfloat16)],
    ids=["bfloat16", "half", "double", "to"],
)
def test_selection_bias_stays_fp32_in_a_model_of_any_dtype(convert: Any) -> None:
    router = router_of("sigmoid", 8, 2, selection_bias=True)
    router.selection_bias_E.fill_(1.0)
    model = convert(nn.Sequential(router))
    update = BiasUpdate(1e-3)
    for _ in range(100):
        update(router, torch.tensor([2, 0] * 4))
    assert {p.dtype for p in model.parameters()} != {torch.float32}
    assert router.selection_bias_E.dtype == torch.float32
    torch.testing.assert_close(router.selection_bias_E, torch.tensor([0.9, 1.1] * 4))


def test_selection_bias_moves_between_devices() -> None:
    router = router_of("sigmoid", 8, 2, selection_bias=True)
    assert router.to("meta", torch.bfloat16).selection_bias_E.device.type == "meta"
    assert router.selection_bias_E.dtype == torch.float32
    assert router.to_empty(device="cpu").selection_bias_E.device.type == "cpu"


def test_sqrt_softplus_scores() -> None:
    routing: Routing = router_of("sqrt_softplus", 8, 2)(inputs(5)[0])
    assert routing.logits_TE is not None
    torch.testing.assert_close(routing.scores_TE, (1 + routing.logits_TE.exp()).log().sqrt())


# --- Llama-4, carved


def test_sigmoid_input_weights_are_sigmoids_of_the_best_logits() -> None:
    routing: Routing = router_of("sigmoid_input", 8, 1)(inputs(9)[0])
    assert routing.logits_TE is not None
    torch.testing.assert_close(routing.weights_N, routing.logits_TE.max(1).values.sigmoid())


def test_unit_takes_the_best_scores_and_weighs_them_all_one() -> None:
    router = router_of("unit", 8, 3, bias=True)
    routing: Routing = router(inputs(9)[0])
    assert routing.weights_N.tolist() == [1.0] * 27
    torch.testing.assert_close(routing.scores_TE, inputs(9)[0] @ router.weight_ED.T + router.bias_E)
    assert torch.equal(routing.expert_ids_N.view(9, 3), routing.scores_TE.topk(3).indices)


# --- Shazeer


def test_noise_is_for_training_and_differs_between_passes_and_seeds() -> None:
    router = router_of("noisy", 8, 2)
    assert isinstance(router, NoisyTopK)
    x_TD, _ = inputs(20)
    one, two = router(x_TD).logits_TE, router(x_TD).logits_TE
    assert not torch.equal(one, two)
    clean: Routing = router.eval()(x_TD)
    torch.testing.assert_close(clean.logits_TE, x_TD @ router.weight_ED.T)
    other = build(experts_of("noisy", 8, 2), HIDDEN, seed=1)
    other.load_state_dict(router.state_dict())
    assert not torch.equal(other(x_TD).logits_TE, one)


def test_noise_has_the_learned_size() -> None:
    router = router_of("noisy", 8, 2)
    x_TD, _ = inputs(20_000)
    x_TD = x_TD[:1].expand(20_000, HIDDEN)
    noise_TE = router(x_TD).logits_TE - x_TD @ router.weight_ED.T
    size_E = nn.functional.softplus(x_TD[0] @ router.noise_ED.T)
    torch.testing.assert_close(noise_TE.std(0), size_E, rtol=0.03, atol=0)


def test_noise_is_learned_and_ignores_other_random_draws() -> None:
    x_TD, _ = inputs(20)
    first, second = router_of("noisy", 8, 2), router_of("noisy", 8, 2)
    torch.randn(7)
    routing: Routing = second(x_TD)
    assert torch.equal(first(x_TD).weights_N, routing.weights_N)
    routing.weights_N.square().sum().backward()
    assert second.noise_ED.grad.abs().sum() > 0


def test_saved_noise_goes_on_where_it_was() -> None:
    x_TD, _ = inputs(20)
    router = router_of("noisy", 8, 2)
    for _ in range(3):
        router(x_TD)
    other = build(experts_of("noisy", 8, 2), HIDDEN)
    other.load_state_dict(router.state_dict())
    assert torch.equal(other(x_TD).logits_TE, router(x_TD).logits_TE)


def test_a_state_without_draws_still_loads() -> None:
    router, x_TD = router_of("noisy", 8, 2), inputs(20)[0]
    older = {name: value for name, value in router.state_dict().items() if not name.endswith("_extra_state")}
    assert len(older) == 2
    other = nn.Sequential(build(experts_of("noisy", 8, 2), HIDDEN))
    other.load_state_dict({f"0.{name}": value for name, value in older.items()})
    assert torch.equal(other(x_TD).logits_TE, router(x_TD).logits_TE)


# --- Capacity


@given(
    st.sampled_from(["switch", "softmax", "sigmoid"]),
    st.integers(0, 17),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([0.3, 1.0, 1.25]),
    seeds,
)
@common
def test_capacity_drops_the_latest_tokens(
    kind: str, tokens: int, count: int, top_k: int, factor: float, seed: int
) -> None:
    x_TD, _ = inputs(tokens, seed)
    free: Routing = router_of(kind, count, top_k, seed)(x_TD)
    router = router_of(kind, count, top_k, seed, capacity_factor=factor)
    routing: Routing = router(x_TD)
    limit, taken, kept = capacity(tokens, router.spec), [0] * count, []
    for token, expert in pairs(free):
        taken[expert] += 1
        if taken[expert] <= limit:
            kept.append((token, expert))
    assert pairs(routing) == kept
    assert routing.wanted_E().tolist() == free.load_E().tolist()
    assert routing.dropped_pairs() == len(pairs(free)) - len(kept)
    assert routing.per_token is None


@pytest.mark.parametrize(
    ("tokens", "factor", "expected"), [(0, 1.0, 0), (1, 0.1, 1), (200, 1.1, 55), (10, None, 3), (8, 50.0, 8)]
)
def test_capacity_rounds_up_and_never_exceeds_the_tokens(
    tokens: int, factor: float | None, expected: int
) -> None:
    assert capacity(tokens, experts_of("switch", 4, 1, capacity_factor=factor)) == expected


def test_switch_is_top_one_with_raw_probabilities() -> None:
    routing: Routing = router_of("switch", 8, 1)(inputs(9)[0])
    torch.testing.assert_close(routing.weights_N, routing.scores_TE.max(1).values)
    assert routing.dropped_pairs() == 0  # no capacity was set


# --- Expert choice, hash


@given(st.integers(0, 20), counts_, st.integers(1, 9), seeds)
@common
def test_experts_choose_their_best_tokens(tokens: int, count: int, top_k: int, seed: int) -> None:
    router = router_of("expert_choice", count, top_k, seed)
    assert isinstance(router, ExpertChoice)
    routing: Routing = router(inputs(tokens, seed)[0])
    taken = -(-tokens * router.spec.top_k // count)
    for expert in range(count):
        tokens_N = routing.token_ids_N[routing.expert_ids_N == expert]
        assert sorted(tokens_N.tolist()) == sorted(routing.scores_TE[:, expert].topk(taken).indices.tolist())
    if router.spec.top_k == count:
        assert not routing.dropped_T().any()


def test_hash_depends_on_the_id_alone_and_the_table_is_saved() -> None:
    router = router_of("hash", 8, 3)
    assert isinstance(router, HashRouter)
    ids_T = torch.tensor([65, 66, 65, 65 + 256])
    chosen_TK = router(torch.randn(4, HIDDEN), ids_T).expert_ids_N.view(4, 3)
    assert torch.equal(chosen_TK[0], chosen_TK[2])
    assert torch.equal(chosen_TK[0], chosen_TK[3])
    assert set(router.state_dict()) == {"table_VK"}
    assert all(len(set(row)) == 3 for row in router.table_VK.tolist())
    other = build(experts_of("hash", 8, 3), HIDDEN, seed=1)
    assert not torch.equal(other.table_VK, router.table_VK)
    assert sum(p.numel() for p in router.parameters()) == 0


# --- Precision and refusals


@pytest.mark.parametrize("kind", LEARNED)
def test_a_bf16_model_routes_in_fp32(kind: str) -> None:
    router = router_of(kind, 8, 2).eval().to(torch.bfloat16)
    x_TD = inputs(20)[0].to(torch.bfloat16)
    expected_TE = x_TD.float() @ router.weight_ED.float().T
    torch.testing.assert_close(router(x_TD).logits_TE, expected_TE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(router(x_TD).logits_TE, expected_TE)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("expert_choice", {"selection_bias": True}, "router.selection_bias (True): is not for"),
        ("hash", {"groups": 4, "top_groups": 4}, "router.groups (4): is not for"),
        ("hash", {"capacity_factor": 1.0}, "router.capacity_factor (1.0): is not for"),
        ("hash", {"bias": True}, "router.bias (True): is not for"),
        ("noisy", {"renormalise": False}, "router.renormalise (False): is not for"),
        ("sigmoid", {"mask_first": True}, "router.mask_first (True): is not for"),
    ],
)
def test_fields_a_kind_cannot_honour_are_refused(kind: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(experts_of(kind, 8, 2, **fields), HIDDEN)
    assert message in str(caught.value)


CHANGES: dict[str, Any] = {
    "renormalise": False,
    "mask_first": True,
    "bias": True,
    "selection_bias": True,
    "scaling": 2.5,
    "groups": 2,
    "top_groups": 3,
    "capacity_factor": 0.5,
}
# Settings from which one field at a time is changed: some fields act only beside others.
STARTS: list[dict[str, Any]] = [{}, {"renormalise": False}, {"groups": 4, "top_groups": 2}]


def answer(kind: str, fields: dict[str, Any]) -> tuple[Any, ...] | None:
    """What such a router decides, its parameters and buffers random; None where building one is refused."""
    try:
        router = router_of(kind, 8, 3, **fields).eval()
    except ConfigError:
        return None
    if getattr(router, "selection_bias_E", None) is not None:
        router.selection_bias_E.normal_(0.0, 0.5, generator=torch.Generator().manual_seed(2))
    routing: Routing = router(*inputs(40))
    return pairs(routing), routing.weights_N.detach()


def differ(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return one[0] != other[0] or not torch.allclose(one[1], other[1], rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", sorted(set(Router.model_fields) - {"kind"}))
def test_every_field_is_read_or_refused(kind: str, field: str) -> None:
    """Where a kind takes a field, some setting decides otherwise without it."""
    changed = [(start, start | {field: CHANGES[field]}) for start in STARTS]
    answers = [(answer(kind, start), answer(kind, other)) for start, other in changed]
    if all(other is None for _, other in answers):
        assert field in NOT_READ[kind]
        return
    assert field not in NOT_READ[kind]
    assert any(one and other and differ(one, other) for one, other in answers)


def test_switch_refuses_more_than_one_expert_a_token() -> None:
    spec = Experts.parse({"count": 8, "top_k": 2, "width": 4, "router": {"kind": "switch"}})
    with pytest.raises(ConfigError, match=r"top_k \(2\): must be 1"):
        build(spec, HIDDEN)


# --- The same numbers as Hugging Face transformers


def reference(name: str) -> tuple[nn.Module, TokenChoice]:
    """A transformers router and ours with its weights: 16 experts, top-4."""
    from transformers.models import deepseek_v3, deepseek_v4, gpt_oss, olmoe

    size = {"hidden_size": HIDDEN, "num_experts_per_tok": 4}
    make = {
        "sigmoid": lambda: deepseek_v3.modeling_deepseek_v3.DeepseekV3TopkRouter(
            deepseek_v3.DeepseekV3Config(n_routed_experts=16, n_group=4, topk_group=2, **size)
        ),
        "sqrt_softplus": lambda: deepseek_v4.modeling_deepseek_v4.DeepseekV4TopKRouter(
            deepseek_v4.DeepseekV4Config(n_routed_experts=16, routed_scaling_factor=2.5, **size)
        ),
        "softmax_selected": lambda: gpt_oss.modeling_gpt_oss.GptOssTopKRouter(
            gpt_oss.GptOssConfig(num_local_experts=16, **size)
        ),
        "softmax": lambda: olmoe.modeling_olmoe.OlmoeTopKRouter(
            olmoe.OlmoeConfig(num_experts=16, norm_topk_prob=False, **size)
        ),
    }
    fields: dict[str, dict[str, Any]] = {
        "sigmoid": {"groups": 4, "top_groups": 2, "selection_bias": True, "scaling": 2.5},
        "sqrt_softplus": {"selection_bias": True, "scaling": 2.5},
        "softmax_selected": {"bias": True},
        "softmax": {"renormalise": False},
    }
    theirs, ours = make[name](), router_of(name, 16, 4, **fields[name])
    with torch.no_grad():
        theirs.weight.copy_(ours.weight_ED)
        if ours.bias_E is not None:
            theirs.bias.copy_(ours.bias_E)
        if ours.selection_bias_E is not None:
            theirs.e_score_correction_bias.copy_(ours.selection_bias_E.normal_(0.0, 0.2))
    return theirs, ours


@pytest.mark.parametrize("kind", ["sigmoid", "sqrt_softplus", "softmax_selected", "softmax"])
def test_routers_equal_those_of_transformers(kind: str) -> None:
    theirs, ours = reference(kind)
    x_TD, _ = inputs(64)
    _, weights_TK, chosen_TK = theirs(x_TD)
    expected_TE = torch.zeros(64, 16).scatter(1, chosen_TK, weights_TK)
    torch.testing.assert_close(by_token(ours(x_TD)), expected_TE)


@pytest.mark.parametrize("norm", [1.0, 0.0, None])
def test_the_norms_of_dbrx_equal_those_of_transformers(norm: float | None) -> None:
    from transformers.models.dbrx import DbrxConfig
    from transformers.models.dbrx.modeling_dbrx import DbrxFFN

    ffn = {"moe_num_experts": 16, "moe_top_k": 4, "moe_normalize_expert_weights": norm, "ffn_hidden_size": 8}
    theirs = DbrxFFN(DbrxConfig(d_model=HIDDEN, n_heads=2, ffn_config={**ffn, "hidden_size": HIDDEN}))
    model = {"model_type": "dbrx", "d_model": HIDDEN, "n_heads": 2, "n_layers": 1, "vocab_size": 9}
    read = architecture(model | {"attn_config": {"kv_n_heads": 2}, "ffn_config": ffn}).experts
    ours = build(read, HIDDEN)
    x_TD, _ = inputs(64)
    weights_TK, chosen_TK = theirs.route_tokens_to_experts(x_TD @ ours.weight_ED.T)
    expected_TE = torch.zeros(64, 16).scatter(1, chosen_TK, weights_TK)
    torch.testing.assert_close(by_token(ours(x_TD)), expected_TE)
