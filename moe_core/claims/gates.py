"""Gates: which experts a token gets, how many a batch wakes, and what the balance loss makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from moe_core.errors import ConfigError
from moe_core.perf import distinct


def sets(experts: int, top_k: int, groups: int = 1, top_groups: int = 1) -> int:
    """Ways to choose `top_k` of the experts; with groups, inside so many of them."""
    return distinct.combinations(experts, top_k, groups, top_groups)


def touched(experts: int, top_k: int, tokens: int) -> float:
    """Different experts that a batch wakes when each token chooses evenly."""
    return distinct.uniform(experts, top_k, tokens)


def touched_share(experts: int, top_k: int, tokens: int) -> float:
    """The same over all experts."""
    return touched(experts, top_k, tokens) / experts


def crowding(experts: int, more: int, top_k: int, tokens: int) -> float:
    """Tokens that a woken expert serves, over the same with more experts."""
    return touched(more, top_k, tokens) / touched(experts, top_k, tokens)


def gate_difference(logits: Sequence[float], top_k: int) -> float:
    """The largest difference of a weight: all but top-k masked before the softmax, or softmax first.

    The second is cut to its top-k and divided by their sum: exp(x_i) / sum over the chosen, both ways.
    """
    chosen, weights = _chosen(logits, top_k), _softmax(logits)
    masked = _softmax([x if i in chosen else -float("inf") for i, x in enumerate(logits)])
    mass = sum(weights[i] for i in chosen)
    return max(abs(masked[i] - weights[i] / mass) for i in chosen)


def gate_mass(logits: Sequence[float], top_k: int) -> float:
    """What the weights of the chosen experts sum to when a softmax over all is not renormalised."""
    weights = _softmax(logits)
    return sum(weights[i] for i in _chosen(logits, top_k))


def experts_run(logits: Sequence[float], top_k: int) -> int:
    """Experts with a weight above zero when the softmax over all comes first and top-k after it."""
    chosen = _chosen(logits, top_k)
    return sum(weight > 0 for i, weight in enumerate(_softmax(logits)) if i in chosen)


def _softmax(logits: Sequence[float]) -> list[float]:
    most = max(logits)
    raised = [exp(x - most) for x in logits]
    return [x / sum(raised) for x in raised]


def _chosen(logits: Sequence[float], top_k: int) -> set[int]:
    if not 1 <= top_k <= len(logits):
        raise ConfigError(f"top_k ({top_k}): must be between 1 and the logits ({len(logits)})")
    return set(sorted(range(len(logits)), key=lambda i: -logits[i])[:top_k])


def balance_product(tokens: Sequence[float], probabilities: Sequence[Sequence[float]]) -> float:
    """N sum f_i P_i (Switch, arXiv 2101.03961, equations 4 to 6) over groups of like tokens, top-1.

    `tokens` of each group go where their `probabilities` are highest: f is what arrives, P the mean.
    """
    if len(tokens) != len(probabilities) or not tokens:
        raise ConfigError(f"tokens ({len(tokens)}): must be as many as probabilities ({len(probabilities)})")
    experts, every = len(probabilities[0]), sum(tokens)
    load, mean = [0.0] * experts, [0.0] * experts
    for many, row in zip(tokens, probabilities, strict=True):
        load[max(range(experts), key=lambda i: row[i])] += many / every
        mean = [before + many / every * p for before, p in zip(mean, row, strict=True)]
    return experts * sum(f * p for f, p in zip(load, mean, strict=True))
