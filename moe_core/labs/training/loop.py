"""Loop: one training step, and the steps of one arm. Every experiment and shipped mixture goes through it.

An arm is a model, a rule of balancing and a source of text. Arms of one seed start from the same weights and
read the same bytes in the same order, so that their differences are paired.
Legend: B sequences, S tokens of each, E experts, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from moe_core.labs.training.corpus import TextWindow
from moe_core.labs.training.strategies import NOTHING, Balancing
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.nn.observe import NULL, RoutingLog
from moe_core.nn.routing import Routing


@dataclass(frozen=True)
class Recipe:
    """How an arm is trained. AdamW with decoupled decay on matrices; linear warm-up, then cosine to a tenth.

    micro  parts that a step's batch is split into: losses of balance are taken in each, then averaged.
    """

    steps: int
    peak: float = 3e-3
    decay: float = 0.1
    clip: float = 1.0
    warm: float = 0.02
    micro: int = 1
    balancing: Balancing = field(default=NOTHING)

    def rate(self, step: int) -> float:
        """The learning rate of step `step`, 0-based."""
        warm = max(1, round(self.steps * self.warm))
        if step < warm:
            return self.peak * (step + 1) / warm
        done = (step - warm) / max(1, self.steps - warm)
        return self.peak * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


class TrainStep(NamedTuple):
    """What one step did. `routings`: of every mixture layer, in order, detached; `loss` of the text, nats."""

    number: int
    loss: float
    balance: float
    routings: list[Routing]


TextLoss = Callable[[Decoder, Tensor, RoutingLog | None], Tensor]  # (model, ids_BS, log) -> mean nats


def optimiser(model: Decoder, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over what may be trained: matrices decay, vectors do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=1.0, betas=(0.9, 0.95))


def train(
    model: Decoder,
    recipe: Recipe,
    source: Iterator[TextWindow],
    extra: Callable[[list[Routing]], Tensor] | None = None,
    nats: TextLoss | None = None,
) -> Iterator[TrainStep]:
    """Train `model` in place, a step each time the caller asks for the next.

    extra: one more loss of the routings, with its coefficient (mutual information, E5).
    nats: the loss of the text; None is `cross_entropy`, of every byte.
    """
    optimise = optimiser(model, recipe)
    layers = [ffn for ffn in model.feed_forwards if isinstance(ffn, MoE)]
    model.train()
    for number in range(recipe.steps):
        window = next(source)
        optimise.zero_grad(set_to_none=True)
        loss, balance, routings = 0.0, 0.0, list[list[Routing]]()
        for part in split(window, recipe.micro):
            log = RoutingLog() if layers else None
            text_loss = (nats or cross_entropy)(model, part.ids_BS, log)
            seen = [routing for _, routing in log.seen] if log else []
            extra_loss = recipe.balancing.loss(seen, len(part.ids_BS))
            if extra is not None:
                extra_loss = extra_loss + extra(seen)
            total = (text_loss + extra_loss) / recipe.micro
            total.backward()
            loss += text_loss.item() / recipe.micro
            balance += extra_loss.item() / recipe.micro
            routings.append([detached(routing) for routing in seen])
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for group in optimise.param_groups:
            group["lr"] = recipe.rate(number)
        optimise.step()
        merged = [joined(parts) for parts in zip(*routings, strict=True)]
        recipe.balancing.after_step([layer.router for layer in layers], merged)
        yield TrainStep(number, loss, balance, merged)


def cross_entropy(model: Decoder, ids_BS: Tensor, log: RoutingLog | None = None) -> Tensor:
    """Mean nats a byte of predicting each byte from those before it."""
    logits_BSV = model(ids_BS[:, :-1], observer=log or NULL)
    return F.cross_entropy(logits_BSV.float().flatten(0, 1), ids_BS[:, 1:].flatten())


def split(window: TextWindow, parts: int) -> Iterable[TextWindow]:
    """The window in `parts` equal parts, sequence by sequence."""
    assert len(window.ids_BS) % parts == 0, "a batch is a whole number of micro-batches"
    each = len(window.ids_BS) // parts
    return [
        TextWindow(*pair)
        for pair in zip(window.ids_BS.split(each), window.domains_B.split(each), strict=True)
    ]


def detached(routing: Routing) -> Routing:
    """The same routing outside the graph."""
    return routing._replace(
        weights_N=routing.weights_N.detach(),
        scores_TE=routing.scores_TE.detach(),
        logits_TE=None if routing.logits_TE is None else routing.logits_TE.detach(),
    )


def joined(parts: tuple[Routing, ...]) -> Routing:
    """The routing of a whole batch out of those of its micro-batches."""
    if len(parts) == 1:
        return parts[0]
    shift, tokens = 0, []
    for part in parts:
        tokens.append(part.token_ids_N + shift)
        shift += part.tokens
    logits = [part.logits_TE for part in parts if part.logits_TE is not None]
    demand = [part.demand_E for part in parts if part.demand_E is not None]
    return Routing(
        torch.cat(tokens),
        torch.cat([part.expert_ids_N for part in parts]),
        torch.cat([part.weights_N for part in parts]),
        torch.cat([part.scores_TE for part in parts]),
        torch.cat(logits) if logits else None,
        torch.stack(demand).sum(0) if demand else None,
        parts[0].per_token,
    )
