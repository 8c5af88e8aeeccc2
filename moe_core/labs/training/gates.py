"""E1: does it matter whether the gate masks before its softmax or after?

The documents say that masking first is what makes a mixture sparse. Read in code: softmax, then the K best,
then renormalise (Mixtral in Hugging Face) is the same function. What differs is not renormalising (OLMoE,
DeepSeek-V2), and K = 1, where masking first makes the weight 1 and the router learns nothing (arXiv
2410.07524, section 3.4).
Fixed before the run: all of it in float64 through the routers of `nn/router.py`, on random logits and on
those of a mixture trained here for the steps of SIZES (8 experts, K = 2, softmax not renormalised, auxiliary
loss 0.01); gradients are of the text's loss, of fresh models that differ in the gate alone.
Legend: T tokens, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from moe_core.labs.training import arms, corpus
from moe_core.labs.training.arms import Arm, Trained, TrainSize
from moe_core.labs.training.board import Board
from moe_core.labs.training.loop import cross_entropy
from moe_core.labs.training.statistics import Finding, over_seeds
from moe_core.labs.training.strategies import Balancing
from moe_core.nn.model import Decoder, initialise
from moe_core.nn.moe import MoE
from moe_core.nn.observe import RoutingLog
from moe_core.nn.router import LinearRouter, build
from moe_core.nn.routing import Routing
from moe_core.runs.context import RunContext
from moe_core.specs import Experts, Router, RunSpec

SIZES = {
    "quick": TrainSize(hidden=64, layers=2, width=64, batch=8, seq=64, steps=200, seeds=1, heldout=1024),
    "full": TrainSize(hidden=96, layers=3, width=96, batch=16, seq=128, steps=600, seeds=3, heldout=4096),
}
EXPERTS, TOP_K, ALPHA = 8, 2, 0.01
RANDOM = {"quick": 20_000, "full": 60_000}  # tokens of random logits
COUNTS = (8, 64)  # experts that random logits are of
GATES = {
    "mask_first": Router(mask_first=True),
    "renormalised": Router(renormalise=True),
    "softmax_first": Router(renormalise=False),
}


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle. Raises CancelledError, StoreError."""
    setting = arms.settings(spec).setting
    size = SIZES[setting]
    rules = {
        "experts": EXPERTS,
        "top_k": TOP_K,
        "alpha": ALPHA,
        "random": RANDOM[setting],
        "size": size._asdict(),
    }
    board = Board(spec, context, rules)
    for seed in arms.seeds(spec, size):
        _random(board, seed, RANDOM[setting])
        _gradients(board, seed, size)
    trained = Arm(
        "trained", arms.mixture(size, EXPERTS, TOP_K, size.width // TOP_K), Balancing(auxiliary=ALPHA)
    )

    def after(arm: Arm, seed: int, result: Trained) -> None:
        compare(board, "real logits", seed, real_logits(result.model, size))

    arms.run(board, [trained], size, after=after, span=(0.2, 1.0))
    return board.publish(_findings(board), {"moe": trained.arch})


def weights(logits_TE: Tensor, top_k: int, gate: Router) -> Tensor:
    """[T, E]: what a router with this gate gives each expert, zero where it was not chosen."""
    experts = logits_TE.shape[1]
    router = build(Experts(count=experts, top_k=top_k, width=1, router=gate), experts).double()
    assert isinstance(router, LinearRouter)
    with torch.no_grad():
        router.weight_ED.copy_(torch.eye(experts))  # so that what goes in are the logits
        routing: Routing = router(logits_TE)
    dense_TE = torch.zeros_like(logits_TE)
    return dense_TE.index_put_((routing.token_ids_N, routing.expert_ids_N), routing.weights_N)


def compare(board: Board, arm: str, seed: int, logits_TE: Tensor) -> None:
    """The three gates on the same logits, for every K that is a power of two below E."""
    for k in _powers(logits_TE.shape[1]):
        first_TE, after_TE, raw_TE = (weights(logits_TE, k, gate) for gate in GATES.values())
        board.put(arm, seed, "difference", k, float((first_TE - after_TE).abs().max()), "top_k")
        board.put(arm, seed, "mass", k, float(raw_TE.sum(1).mean()), "top_k")
        board.put(arm, seed, "mass_renormalised", k, float(after_TE.sum(1).mean()), "top_k")


def _powers(experts: int) -> Iterator[int]:
    k = 1
    while k < experts:
        yield k
        k *= 2


def _random(board: Board, seed: int, tokens: int) -> None:
    for experts in COUNTS:
        generator = torch.Generator().manual_seed(seed)
        logits_TE = torch.randn(tokens, experts, generator=generator, dtype=torch.float64)
        compare(board, f"random logits, {experts} experts", seed, logits_TE)
        board.step(0.05, "random")


@torch.no_grad()
def real_logits(model: Decoder, size: TrainSize) -> Tensor:
    """Router logits of held-out text, all layers and domains, in float64."""
    log = RoutingLog()
    corpus.bits_per_byte(model, corpus.heldout(size.heldout, size.seq), log)
    return torch.cat([routing.logits_TE.double() for _, routing in log.seen if routing.logits_TE is not None])


def _gradients(board: Board, seed: int, size: TrainSize) -> None:
    for name, gate in GATES.items():
        for k in _powers(EXPERTS):
            board.put(name, seed, "router_gradient", k, gradient(gate, k, seed, size), "top_k")
            board.step(0.1, "gradients")


def gradient(gate: Router, top_k: int, seed: int, size: TrainSize) -> float:
    """Euclidean norm of the router weights' gradient of the text's loss, in a fresh model with this gate."""
    model = Decoder(arms.mixture(size, EXPERTS, top_k, size.width // top_k, router=gate))
    initialise(model, seed)
    model.double()
    cross_entropy(model, next(corpus.windows(size.batch, size.seq, seed)).ids_BS).backward()
    routers = [ffn.router for ffn in model.feed_forwards if isinstance(ffn, MoE)]
    grads = [router.weight_ED.grad for router in routers if isinstance(router, LinearRouter)]
    return float(torch.cat([grad.flatten() for grad in grads if grad is not None]).norm())


def _findings(board: Board) -> dict[str, Finding]:
    logits = ["real logits", *(f"random logits, {experts} experts" for experts in COUNTS)]
    seeds = board.seeds("real logits")
    worst = [
        max(max(board.curve(arm, seed, "difference", "top_k").value) for arm in logits) for seed in seeds
    ]
    found = {"max_difference": Finding(max(worst), seeds=len(seeds))}
    for gate in GATES:
        at_one = [board.curve(gate, seed, "router_gradient", "top_k").value[0] for seed in seeds]
        found[f"router_gradient_k1_{gate}"] = over_seeds(at_one)
    found["mass_not_renormalised"] = over_seeds([_mass(board, seed) for seed in seeds])
    return found


def _mass(board: Board, seed: int) -> float:
    """Of the trained mixture's own K."""
    curve = board.curve("real logits", seed, "mass", "top_k")
    return curve.value[curve.x.index(TOP_K)]
