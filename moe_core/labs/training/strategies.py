"""Strategies: what keeps experts evenly used, one row each. Routers, losses, bias rules, or several of them.

Equations: auxiliary loss, Switch (arXiv 2101.03961, eq 4); sequence-wise loss, DeepSeek-V3 (2412.19437,
eq 17-20); z-loss, ST-MoE (2202.08906, eq 5); sign rule (2408.15664, algorithm 1); proportional rule (the
same with the violation itself, in units of the mean load); quantile rule (Su 2026, kexue.fm 11619 and 11626;
`dual.quantile_step`): the bias that would have balanced the batch just seen. Rules act on the selection bias
alone, a buffer: it has no gradient.
Legend: T tokens, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moe_core.labs.training import dual
from moe_core.nn import balance
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.nn.router import LinearRouter
from moe_core.nn.routing import Routing
from moe_core.specs import Router, Strategy

Rule = Callable[[Tensor, Routing, float], Tensor]  # (bias_E, routing of the step, rate) -> the new bias_E


def sign(bias_E: Tensor, routing: Routing, rate: float) -> Tensor:
    """b += rate * sign(mean load - load)."""
    load_E = routing.load_E().to(bias_E.dtype)
    return bias_E + rate * (load_E.mean() - load_E).sign()


def proportional(bias_E: Tensor, routing: Routing, rate: float) -> Tensor:
    """b += rate * (mean load - load) / mean load."""
    load_E = routing.load_E().to(bias_E.dtype)
    return bias_E + rate * (load_E.mean() - load_E) / load_E.mean().clamp_min(1e-9)


def quantile(bias_E: Tensor, routing: Routing, rate: float) -> Tensor:
    """The bias that balances this step's scores. It has no rate: what is given is not read."""
    assert routing.per_token is not None, "the quantile rule is for token choice without a capacity"
    return dual.quantile_step(routing.scores_TE, bias_E, routing.per_token)


RULES: Mapping[str, Rule] = {"sign": sign, "proportional": proportional, "quantile": quantile}

ROUTERS: Mapping[str, Router] = {
    "softmax": Router(kind="softmax", renormalise=False, selection_bias=True),  # raw: learns at k = 1 too
    "expert_choice": Router(kind="expert_choice"),
    "hash": Router(kind="hash"),
}


@dataclass(frozen=True)
class Balancing:
    """Coefficients of the losses, and the rule of the bias with its rate. All zero: no balancing."""

    auxiliary: float = 0.0
    sequence: float = 0.0
    z: float = 0.0
    rule: str | None = None
    rate: float = 0.0

    def loss(self, routings: Sequence[Routing], sequences: int) -> Tensor:
        """The sum over the layers, with the coefficients; zero without a mixture layer."""
        total = torch.zeros(())
        for routing in routings:
            if self.auxiliary:
                total = total + self.auxiliary * balance.switch_loss(routing)
            if self.sequence:
                total = total + self.sequence * balance.sequence_loss(routing, sequences)
            if self.z:
                total = total + self.z * balance.router_z_loss(routing)
        return total

    @torch.no_grad()
    def after_step(self, routers: Sequence[Any], routings: Sequence[Routing]) -> None:
        """Move the bias of every router by the load of the whole step."""
        if self.rule is None:
            return
        for router, routing in zip(routers, routings, strict=True):
            assert router.selection_bias_E is not None, "the router was built without selection_bias"
            router.selection_bias_E.copy_(RULES[self.rule](router.selection_bias_E, routing, self.rate))


NOTHING = Balancing()


def biases(model: Decoder) -> list[Tensor]:
    """The selection bias of every mixture layer that has one, in order."""
    routers = [ffn.router for ffn in model.feed_forwards if isinstance(ffn, MoE)]
    found = [router.selection_bias_E for router in routers if isinstance(router, LinearRouter)]
    return [bias_E for bias_E in found if bias_E is not None]


def balancing(strategy: Strategy) -> Balancing:
    """The losses and the rule of a strategy that somebody asked for; its router is a row of `ROUTERS`."""
    return Balancing(
        auxiliary=strategy.auxiliary,
        sequence=strategy.sequence,
        z=strategy.z,
        rule=strategy.rule,
        rate=strategy.rate,
    )
