"""Measures: how evenly experts are used, per step and over a window, and how much they say of the domain.

Legend: L layers, E experts, K top-k, T tokens, Z domains, B sequences.
MaxVio is max load / mean load - 1 (arXiv 2408.15664). Load is counted before any capacity drops pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from moe_core.nn.balance import load_statistics
from moe_core.nn.routing import Routing

FLOOR_DRAWS = 100


def max_violation(load_E: Tensor) -> float:
    """Load of the busiest expert in units of the even share, less 1: 0 to E - 1."""
    load_E = load_E.double()
    return float(load_E.max() / load_E.mean() - 1)


class LoadSummary(NamedTuple):
    """A window of steps, the mean over the layers. `step`: MaxVio of single steps; `effective`: exp(H) / E.

    router_effective: the same of single tokens' gate values, averaged: low for a confident router.
    information: mutual information of domain and expert over the routed pairs, in nats.
    """

    step: float
    window: float
    effective: float
    router_effective: float
    dead: float
    information: float
    loads_LE: list[list[int]]


class LoadWindow:
    """Adds up the routings of steps until it is summed up, then starts anew."""

    def __init__(self, domains: int) -> None:
        self._domains = domains
        self._clear()

    def _clear(self) -> None:
        self._joint: list[Tensor] = []
        self._violations: list[float] = []
        self._confidence: list[float] = []

    def add(self, routings: Sequence[Routing], domains_B: Tensor) -> None:
        """The routings of one step, whose sequences are of these domains."""
        if not self._joint:
            self._joint = [torch.zeros(self._domains, r.experts, dtype=torch.int64) for r in routings]
        for joint_ZE, routing in zip(self._joint, routings, strict=True):
            each = routing.tokens // len(domains_B)
            domain_N = domains_B[routing.token_ids_N // each]
            joint_ZE.index_put_((domain_N, routing.expert_ids_N), torch.tensor(1), accumulate=True)
        wanted = [routing.wanted_E() for routing in routings]
        self._violations.append(float(np.mean([max_violation(load_E) for load_E in wanted])))
        self._confidence.append(float(np.mean([_confidence(routing) for routing in routings])))

    def sum_up(self) -> LoadSummary:
        """The window so far, and a new one."""
        loads = [joint_ZE.sum(0) for joint_ZE in self._joint]
        seen = [load_statistics(load_E) for load_E in loads]
        found = LoadSummary(
            step=float(np.mean(self._violations)),
            window=float(np.mean([max_violation(load_E) for load_E in loads])),
            effective=float(np.mean([one.effective for one in seen])),
            router_effective=float(np.mean(self._confidence)),
            dead=float(np.mean([one.dead for one in seen])),
            information=float(np.mean([mutual_information(joint_ZE) for joint_ZE in self._joint])),
            loads_LE=[load_E.tolist() for load_E in loads],
        )
        self._clear()
        return found


def _confidence(routing: Routing) -> float:
    shares_TE = routing.probabilities_TE().double()
    return float(torch.special.entr(shares_TE).sum(-1).exp().mean()) / routing.experts


def mutual_information(joint_ZE: Tensor) -> float:
    """I(domain; expert) in nats of counts [Z, E] (Shannon 1948): 0 when experts do not tell domains apart."""
    share_ZE = joint_ZE.double() / joint_ZE.sum().clamp_min(1)
    apart_ZE = share_ZE.sum(1, keepdim=True) * share_ZE.sum(0, keepdim=True)
    ratio_ZE = torch.where(share_ZE > 0, share_ZE / apart_ZE.clamp_min(1e-300), 1.0)
    return float((share_ZE * ratio_ZE.log()).sum())


@cache
def sampling_floor(tokens: int, experts: int, top_k: int, draws: int = FLOOR_DRAWS) -> tuple[float, float]:
    """MaxVio (mean, 95th percentile) of a router that chooses K of E uniformly, over `tokens` tokens a step.

    No router can be expected below it: drawn beside every MaxVio of a step.
    """
    generator = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        order_TE = generator.random((tokens, experts), dtype=np.float32)
        chosen_TK = np.argpartition(order_TE, top_k - 1, axis=1)[:, :top_k]
        load_E = np.bincount(chosen_TK.ravel(), minlength=experts)
        found.append(load_E.max() / load_E.mean() - 1)
    return float(np.mean(found)), float(np.quantile(found, 0.95))
