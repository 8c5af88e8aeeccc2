"""Routers: how tokens and experts find each other. One table, one signature, one result.

Legend: T tokens, D model, E experts, K top-k, C capacity, N routed pairs, V vocabulary.
`router(x_TD, ids_T) -> Routing`. Logits and scores are at least fp32. Selection reads detached scores: the
router learns through the weights alone. `ids_T`, token ids, are read by hash routing only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_core.errors import ConfigError
from moe_core.nn.initial import normal
from moe_core.nn.numerics import ExactBuffers, wide_dtype
from moe_core.nn.routing import Routing
from moe_core.nn.selection import capacity, drop_over, top_experts
from moe_core.specs import Experts, Router, RouterKind

HASHED_IDS = 256  # bytes are tokens; larger ids wrap around


class LinearRouter(ExactBuffers):
    """Base: a linear score per expert, and the bias that may steer selection (DeepSeek-V3, eq 16)."""

    bias_E: nn.Parameter | None
    selection_bias_E: Tensor | None

    def __init__(self, experts: Experts, hidden: int, seed: int = 0) -> None:
        super().__init__()
        self.spec, self.seed = experts, seed
        self.weight_ED = normal(experts.count, hidden, seed=seed, part="router")
        self.bias_E = nn.Parameter(torch.zeros(experts.count)) if experts.router.bias else None
        steered = experts.router.selection_bias
        self.register_buffer("selection_bias_E", torch.zeros(experts.count) if steered else None)

    def logits(self, x_TD: Tensor) -> Tensor:
        """[T, E], at least fp32 in a bf16 model and under autocast: a rounding can change the expert."""
        return _linear(x_TD, self.weight_ED, self.bias_E)


class RouterRule(NamedTuple):
    """What sets one token-choice router apart from another.

    score       logits_TE -> scores_TE, the gate values and, plus the selection bias, the ranking.
    weigh       (logits_TK, scores_TK, router spec) -> weights_TK of the chosen experts.
    group_best  how many of a group's best scores make its worth, where there are groups.
    """

    score: Callable[[Tensor], Tensor]
    weigh: Callable[[Tensor, Tensor, Router], Tensor]
    group_best: int = 1


class TokenChoice(LinearRouter):
    """Every token takes its K best experts; beyond a capacity, where one is set, pairs are dropped."""

    def __init__(self, experts: Experts, hidden: int, seed: int = 0, *, rule: RouterRule) -> None:
        super().__init__(experts, hidden, seed)
        self.rule = rule

    def forward(self, x_TD: Tensor, ids_T: Tensor | None = None) -> Routing:
        logits_TE = self.logits(x_TD)
        scores_TE = self.rule.score(logits_TE)
        chosen_TK = self._choose(scores_TE.detach())
        logits_TK, scores_TK = logits_TE.gather(-1, chosen_TK), scores_TE.gather(-1, chosen_TK)
        weights_TK = self.rule.weigh(logits_TK, scores_TK, self.spec.router) * self.spec.router.scaling
        routing = from_choice(chosen_TK, weights_TK, scores_TE, logits_TE)
        if self.spec.router.capacity_factor is None:
            return routing
        return drop_over(routing, capacity(routing.tokens, self.spec))

    def _choose(self, scores_TE: Tensor) -> Tensor:
        ranked_TE = scores_TE if self.selection_bias_E is None else scores_TE + self.selection_bias_E
        return top_experts(ranked_TE, self.spec, self.rule.group_best)


class NoisyTopK(TokenChoice):
    """Shazeer et al. 2017 (arXiv 1701.06538), eq 3-5: learned noise on the logits, in training only.

    Each pass draws from a generator of its own, seeded by `seed` and the number of the pass, so that
    nothing else that draws random numbers can change it. The number is saved with the weights, so that
    training goes on with the noise it would have had. It is an int: a buffer on a GPU would have to be
    waited for in every pass.
    """

    def __init__(self, experts: Experts, hidden: int, seed: int = 0, *, rule: RouterRule) -> None:
        super().__init__(experts, hidden, seed, rule=rule)
        self.noise_ED = nn.Parameter(torch.zeros(experts.count, hidden))
        self.draws = 0
        self.register_load_state_dict_pre_hook(_draws_of_older_files)

    def get_extra_state(self) -> Tensor:
        """How many passes have drawn noise, as a tensor: safetensors holds nothing else."""
        return torch.tensor(self.draws, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.draws = int(state)

    def logits(self, x_TD: Tensor) -> Tensor:
        clean_TE = super().logits(x_TD)
        if not self.training:
            return clean_TE
        generator = torch.Generator(x_TD.device).manual_seed(self.seed * 1_000_003 + self.draws)
        self.draws += 1
        normal_TE = torch.randn(clean_TE.shape, generator=generator, device=x_TD.device)
        return clean_TE + normal_TE * F.softplus(_linear(x_TD, self.noise_ED))


def _draws_of_older_files(module: NoisyTopK, tensors: dict[str, Any], prefix: str, *_: Any) -> None:
    """Files written before draws were saved have none: the count then stays as it is."""
    tensors.setdefault(prefix + "_extra_state", module.get_extra_state())


class ExpertChoice(LinearRouter):
    """Every expert takes its best C = ceil(T K / E * factor) tokens (Zhou et al. 2022, arXiv 2202.09368).

    Pairs are expert-major. Balanced by construction, but a token's experts depend on the whole batch,
    later tokens included: generation cannot repeat what training saw.
    """

    def forward(self, x_TD: Tensor, ids_T: Tensor | None = None) -> Routing:
        logits_TE = self.logits(x_TD)
        scores_TE = logits_TE.softmax(-1)
        taken = capacity(x_TD.shape[0], self.spec)
        weights_EC, tokens_EC = scores_TE.t().topk(taken, dim=-1)
        expert_ids_N = torch.arange(self.spec.count, device=x_TD.device).repeat_interleave(taken)
        weights_N = weights_EC.flatten() * self.spec.router.scaling
        return Routing(tokens_EC.flatten(), expert_ids_N, weights_N, scores_TE, logits_TE)


class HashRouter(nn.Module):
    """A fixed random table from token id to K experts, nothing learned (Roller et al. 2021, 2106.04426).

    Each expert counts 1/K. DeepSeek-V4's first layers choose like this too, but weigh by a learned
    gate, which is not built here. Ids above 255 share the table's rows.
    """

    table_VK: Tensor

    def __init__(self, experts: Experts, hidden: int, seed: int = 0) -> None:
        super().__init__()
        self.spec = experts
        generator = torch.Generator().manual_seed(seed)
        order_VE = torch.rand(HASHED_IDS, experts.count, generator=generator, device="cpu").argsort(-1)
        table_VK = order_VE[:, : experts.top_k].clone()
        self.register_buffer("table_VK", table_VK.to(torch.get_default_device()))

    def forward(self, x_TD: Tensor, ids_T: Tensor | None = None) -> Routing:
        assert ids_T is not None, "hash routing needs token ids"
        chosen_TK = self.table_VK[ids_T % HASHED_IDS]
        dtype = wide_dtype(x_TD.dtype)
        weights_TK = torch.full(chosen_TK.shape, 1 / self.spec.top_k, device=x_TD.device, dtype=dtype)
        scores_TE = weights_TK.new_zeros(x_TD.shape[0], self.spec.count).scatter(1, chosen_TK, weights_TK)
        return from_choice(chosen_TK, weights_TK * self.spec.router.scaling, scores_TE)


def _linear(x_TD: Tensor, weight_ED: Tensor, bias_E: Tensor | None = None) -> Tensor:
    """[T, E] in at least fp32, under autocast too."""
    dtype = wide_dtype(x_TD.dtype, weight_ED.dtype)
    with torch.autocast(x_TD.device.type, enabled=False):
        return F.linear(x_TD.to(dtype), weight_ED.to(dtype), None if bias_E is None else bias_E.to(dtype))


def from_choice(
    chosen_TK: Tensor, weights_TK: Tensor, scores_TE: Tensor, logits_TE: Tensor | None = None
) -> Routing:
    """The pairs of a token choice, token-major, best first."""
    tokens, top_k = chosen_TK.shape
    token_ids_N = torch.arange(tokens, device=chosen_TK.device).repeat_interleave(top_k)
    return Routing(
        token_ids_N, chosen_TK.flatten(), weights_TK.flatten(), scores_TE, logits_TE, per_token=top_k
    )


def softmax(logits_TE: Tensor) -> Tensor:
    return logits_TE.softmax(-1)


def sqrt_softplus(logits_TE: Tensor) -> Tensor:
    return F.softplus(logits_TE).sqrt()


def identity(logits_TE: Tensor) -> Tensor:
    return logits_TE


def raw(logits_TK: Tensor, scores_TK: Tensor, spec: Router) -> Tensor:
    return scores_TK


def over_selected(logits_TK: Tensor, scores_TK: Tensor, spec: Router) -> Tensor:
    """Softmax over the selected logits: for softmax scores the same numbers as renormalising them."""
    return logits_TK.softmax(-1)


def renormalised(logits_TK: Tensor, scores_TK: Tensor, spec: Router) -> Tensor:
    if not spec.renormalise:
        return scores_TK
    return scores_TK / scores_TK.sum(-1, keepdim=True).clamp_min(1e-20)


def as_specified(logits_TK: Tensor, scores_TK: Tensor, spec: Router) -> Tensor:
    return (over_selected if spec.mask_first else renormalised)(logits_TK, scores_TK, spec)


def one(logits_TK: Tensor, scores_TK: Tensor, spec: Router) -> Tensor:
    return torch.ones_like(scores_TK)


class Build(Protocol):
    def __call__(self, experts: Experts, hidden: int, seed: int = 0) -> nn.Module: ...


ROUTERS: dict[RouterKind, Build] = {
    "softmax": partial(TokenChoice, rule=RouterRule(softmax, as_specified)),
    "softmax_selected": partial(TokenChoice, rule=RouterRule(softmax, over_selected)),
    "sigmoid": partial(TokenChoice, rule=RouterRule(torch.sigmoid, renormalised, group_best=2)),
    "sqrt_softplus": partial(TokenChoice, rule=RouterRule(sqrt_softplus, renormalised, group_best=2)),
    "sigmoid_input": partial(TokenChoice, rule=RouterRule(torch.sigmoid, raw)),
    "noisy": partial(NoisyTopK, rule=RouterRule(softmax, over_selected)),
    "switch": partial(TokenChoice, rule=RouterRule(softmax, raw)),
    "expert_choice": ExpertChoice,
    "hash": HashRouter,
    "unit": partial(TokenChoice, rule=RouterRule(identity, one)),
}


_OWN_WEIGHTS = ("renormalise", "mask_first")  # of a kind whose rule leaves nothing to choose
_OWN_CHOICE = ("selection_bias", "groups", "top_groups")
NOT_READ: dict[RouterKind, tuple[str, ...]] = {
    "softmax": (),
    "softmax_selected": _OWN_WEIGHTS,
    "sigmoid": ("mask_first",),
    "sqrt_softplus": ("mask_first",),
    "sigmoid_input": _OWN_WEIGHTS,
    "noisy": _OWN_WEIGHTS,
    "switch": (*_OWN_WEIGHTS, "groups", "top_groups"),  # the best expert is in the best group
    "expert_choice": (*_OWN_WEIGHTS, *_OWN_CHOICE),
    "hash": (*_OWN_WEIGHTS, *_OWN_CHOICE, "bias", "capacity_factor"),
    "unit": _OWN_WEIGHTS,
}


def build(experts: Experts, hidden: int, seed: int = 0) -> nn.Module:
    """The router of `experts.router.kind`; `seed` is for all that it draws (weights, noise, hash table).

    Raises ConfigError for a field that this kind cannot honour.
    """
    spec = experts.router
    if spec.kind == "switch" and experts.top_k != 1:
        raise ConfigError(f"top_k ({experts.top_k}): must be 1 with router.kind switch")
    for field in NOT_READ[spec.kind]:
        value = getattr(spec, field)
        if value != Router.model_fields[field].default:
            raise ConfigError(f"router.{field} ({value}): is not for router.kind {spec.kind}")
    return ROUTERS[spec.kind](experts, hidden, seed)
