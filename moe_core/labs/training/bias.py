"""E4: which rule balances best without touching the gradient?

A bias on the scores that decide, moved after each step, against losses and against routers that are even by
themselves. Published: the sign rule (2408.15664: MaxVio .72 -> .04, perplexity 9.56 -> 9.50 at 1B); the
quantile rule without a rate (Su 2026, kexue.fm 11619, 11626); both are ways up one dual (arXiv 2512.03915,
`dual.py`). A z-loss alone balances nothing; expert choice is even by construction and reads the future
(2202.09368); a hash of the byte is as even as bytes are.
Fixed before the run: 8 experts, K = 2, the last quarter of the steps; the sign and the proportional rule move
by 3 / steps, at most 0.01; losses have 0.01 (z: 0.001). The causal evaluation of expert choice takes its
thresholds from training text (`causal.py`); both evaluations read batches of all domains mixed, as training
does. Mutual information of domain and expert is that of held-out text; what a hash has of it, bytes alone
say. The dual is drawn on the first layer's scores of held-out text under the arm without balancing, frozen,
from a bias of zero on, for ASCENT steps at DeepSeek's own rate of 0.001.
"""

from __future__ import annotations

from pathlib import Path

import torch

from moe_core.labs.training import arms, corpus, dual
from moe_core.labs.training.arms import Arm, Trained, TrainSize
from moe_core.labs.training.board import Board
from moe_core.labs.training.causal import causal, leak
from moe_core.labs.training.loop import cross_entropy
from moe_core.labs.training.statistics import Finding, over_seeds, paired
from moe_core.labs.training.strategies import ROUTERS, RULES, Balancing, biases
from moe_core.nn.balance import switch_loss
from moe_core.nn.model import Decoder
from moe_core.nn.observe import RoutingLog
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec

SIZES = {
    "quick": TrainSize(hidden=64, layers=2, width=64, batch=8, seq=64, steps=100, seeds=1, heldout=2048),
    "full": TrainSize(hidden=96, layers=3, width=96, batch=16, seq=128, steps=500, seeds=3, heldout=8192),
}
EXPERTS, TOP_K, ALPHA, ZETA = 8, 2, 0.01, 0.001
FASTEST = 0.01  # a bias is added to scores near 1/8: beyond, its own steps are what is seen
READ = 16  # batches of training text that thresholds are taken from
SCORED = 2048  # tokens of the frozen assignment problem
ASCENT, ASCENT_RATE = 1000, 0.001  # its steps, and their rate
ASCENT_EVERY = 10  # steps between two points


def rate(size: TrainSize) -> float:
    """Of the sign and the proportional rule: scaled to the steps, or a bias gets nowhere in few of them."""
    return min(FASTEST, 3.0 / size.steps)


def compared(size: TrainSize) -> list[Arm]:
    """Every arm: no balancing, three rules, three losses, and two routers that need neither."""
    balancings = {
        "none": Balancing(),
        "sign": Balancing(rule="sign", rate=rate(size)),
        "proportional": Balancing(rule="proportional", rate=rate(size)),
        "quantile": Balancing(rule="quantile"),
        "auxiliary": Balancing(auxiliary=ALPHA),
        "sequence": Balancing(sequence=ALPHA),
        "z": Balancing(z=ZETA),
        "expert_choice": Balancing(),
        "hash": Balancing(),
    }
    return [
        Arm(
            name, arms.mixture(size, EXPERTS, TOP_K, size.width // TOP_K, router=ROUTERS.get(name)), balancing
        )
        for name, balancing in balancings.items()
    ]


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    size = SIZES[arms.settings(spec).setting]
    rules = arms.rules(size, experts=EXPERTS, top_k=TOP_K, alpha=ALPHA, zeta=ZETA, rate=rate(size))
    board = Board(spec, context, rules)
    arms.floor(board, "uniform", size, EXPERTS, TOP_K)
    every = compared(size)

    def after(arm: Arm, seed: int, trained: Trained) -> None:
        _judge(board, arm, seed, trained, size)

    arms.run(board, every, size, after=after)
    return board.publish(_findings(board, [arm.name for arm in every]), {"moe": every[0].arch})


def _judge(board: Board, arm: Arm, seed: int, trained: Trained, size: TrainSize) -> None:
    """What is looked at in a trained arm besides its loss and load."""
    if arm.name == "none":
        ascend(board, seed, trained.model, size)
    if arm.name == "sign":
        window = next(corpus.windows(size.batch, size.seq, seed))
        board.put(arm.name, seed, "bias_gradient", size.steps, bias_gradient(trained.model, window.ids_BS))
    if arm.name in ("sign", "expert_choice"):
        share = leak(trained.model, corpus.heldout(size.heldout, size.seq))
        board.put(arm.name, seed, "leak", size.steps, share)
    if arm.name == "expert_choice":
        _causal_gap(board, arm.name, seed, trained.model, size)
    load = arms.heldout_load(trained.model, size)
    board.put(arm.name, seed, "heldout_information", size.steps, load.information)


def _causal_gap(board: Board, arm: str, seed: int, model: Decoder, size: TrainSize) -> None:
    """The same held-out text with experts that read ahead, as in training, and with thresholds."""
    mixed = corpus.shuffled(corpus.heldout(size.heldout, size.seq))
    ahead = corpus.bits_per_byte(model, mixed) * corpus.NATS
    with causal(model, next(corpus.windows(size.batch * READ, size.seq, seed))) as fair:
        thresholds = corpus.bits_per_byte(fair, mixed) * corpus.NATS
    board.put(arm, seed, "heldout_ahead", size.steps, ahead)
    board.put(arm, seed, "heldout_causal", size.steps, thresholds)


def ascend(board: Board, seed: int, model: Decoder, size: TrainSize) -> None:
    """Every rule on the same frozen scores: how the dual rises, and how many pairs lie above even."""
    log = RoutingLog()
    corpus.bits_per_byte(model, corpus.heldout(size.heldout, size.seq), log)
    scores_TE = torch.cat([routing.scores_TE for layer, routing in log.seen if layer == 0]).double()
    scores_TE = scores_TE[:: max(1, len(scores_TE) // SCORED)]
    for name, rule in RULES.items():
        bias_E = torch.zeros(EXPERTS, dtype=torch.float64)
        for step in range(ASCENT + 1):
            found = dual.assign(scores_TE, bias_E, TOP_K)
            if step % ASCENT_EVERY == 0:
                board.put(f"dual, {name}", seed, "dual", step, found.value)
                board.put(f"dual, {name}", seed, "dual_violation", step, found.moved)
            bias_E = rule(bias_E, found.routing, ASCENT_RATE)


def bias_gradient(model: Decoder, ids_BS: torch.Tensor) -> float:
    """Largest gradient of a selection bias, of the text's loss and an auxiliary one: 0 if it gets none."""
    steering = biases(model)
    for bias_E in steering:
        bias_E.requires_grad_()
    log = RoutingLog()
    loss = cross_entropy(model, ids_BS, log)
    loss = loss + torch.stack([switch_loss(routing) for _, routing in log.seen]).sum()
    gradients = torch.autograd.grad(loss, steering, allow_unused=True)
    for bias_E in steering:
        bias_E.requires_grad_(False)
    return max(0.0 if one is None else float(one.abs().max()) for one in gradients)


def _findings(board: Board, names: list[str]) -> dict[str, Finding]:
    found: dict[str, Finding] = {}
    for name in names:
        for metric in ("maxvio_step", "maxvio_window"):
            found[f"{metric}.{name}"] = over_seeds(arms.late(board, name, metric))
        found[f"mutual_information.{name}"] = over_seeds(board.last(name, "heldout_information"), "nats")
    losses = {name: board.last(name, "heldout") for name in names}
    for first, second in (("sign", "auxiliary"), ("sign", "quantile"), ("sign", "none"), ("hash", "sign")):
        found[f"loss_difference.{first}_{second}"] = paired(losses[first], losses[second], "nats")
    found["bias_gradient"] = Finding(max(board.last("sign", "bias_gradient")), seeds=len(board.seeds("sign")))
    found["dual_violation_first"] = over_seeds(_dual(board, "sign", 0), "share")
    found["dual_violation_last"] = over_seeds(_dual(board, "sign", -1), "share")
    for rule in RULES:
        found[f"dual_violation_last.{rule}"] = over_seeds(_dual(board, rule, -1), "share")
    fair, ahead = (board.last("expert_choice", f"heldout_{way}") for way in ("causal", "ahead"))
    found["causal_gap.expert_choice"] = paired(fair, ahead, "nats")
    found["loss_difference.expert_choice_sign"] = paired(fair, losses["sign"], "nats")
    for name in ("sign", "expert_choice"):
        found[f"leak.{name}"] = over_seeds(board.last(name, "leak"), "share")
    return found


def _dual(board: Board, rule: str, at: int) -> list[float]:
    arm = f"dual, {rule}"
    return [board.curve(arm, seed, "dual_violation").value[at] for seed in board.seeds(arm)]
