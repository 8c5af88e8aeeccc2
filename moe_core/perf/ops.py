"""Ops: one list of matrix products and attentions, from which FLOPs, traffic and time are sums.

A step runs `new` tokens of each of `batch` sequences that have `past` tokens behind them: prefill is
past = 0, decode is new = 1. Every op names its component, its FLOPs and what it must move.

FLOPs: 2 a multiply-add, matrix products and attention only (norms, activations, softmax, rotary and the
embedding look-up are left out, as in torch.utils.flop_counter). MLA is counted as written in the paper,
not with the up-projections absorbed. An indexer's choice of tokens does not shorten attention here.
"""

from __future__ import annotations

from typing import NamedTuple

from moe_core.perf.cache import cache
from moe_core.perf.distinct import uniform
from moe_core.perf.precision import Format, Precision, size
from moe_core.specs import GQA, MLA, Architecture, DeltaNet, Experts, Size, Spec


class Step(Spec):
    """One forward pass. `causal` counts the visible pairs only; False counts the full square."""

    batch: Size = 1
    new: Size = 1
    past: int = 0
    causal: bool = True

    @property
    def tokens(self) -> int:
        return self.batch * self.new

    def pairs(self, window: int | None = None) -> int:
        """Query-key pairs of one sequence and head."""
        if not self.causal:
            return self.new * (self.past + self.new)
        total = self.new * self.past + self.new * (self.new + 1) // 2
        return total if window is None else total - self._beyond(window)

    def _beyond(self, window: int) -> int:
        """Visible pairs that a window of so many tokens cuts off."""
        last = max(0, self.past + self.new - window)
        first = max(0, self.past - window)
        return last * (last + 1) // 2 - first * (first + 1) // 2


class Op(NamedTuple):
    """One kind of work, summed over the layers that do it. FLOPs, elements of weights, bytes of cache."""

    name: str
    component: str
    flops: int
    weights: float = 0.0
    cache_bytes: int = 0


def matmul(rows: int, inner: int, columns: int) -> int:
    """FLOPs of [rows, inner] x [inner, columns]: a multiply and an add each."""
    return 2 * rows * inner * columns


def ops(arch: Architecture, step: Step, kv: Format = "bf16", touched: float | None = None) -> list[Op]:
    """Everything a forward pass of `arch` multiplies and reads, logits for every new token.

    `touched` experts a layer are read: by default the uniform expectation for the tokens of the step.
    """
    found = [*_attention(arch, step, kv), *_feed_forward(arch, step, touched)]
    found.append(_linear("head", "head", step.tokens, arch.hidden, arch.vocab, 1))
    return [op for op in found if op.flops or op.weights]


def weight_bytes(found: list[Op], precision: Precision = Precision()) -> int:
    """Bytes of weights that a step reads."""
    return sum(size(op.weights, precision.of(op.component)) for op in found)


def cache_bytes(found: list[Op]) -> int:
    """Bytes of cache that a step reads and writes."""
    return sum(op.cache_bytes for op in found)


def _linear(name: str, component: str, tokens: int, inner: int, outer: int, layers: int) -> Op:
    return Op(name, component, layers * matmul(tokens, inner, outer), layers * inner * outer)


def _attention(arch: Architecture, step: Step, kv: Format) -> list[Op]:
    attending = arch.full_layers if arch.extras.delta else arch.layers
    inner = _projections(arch)
    found = [_linear("attention projections", "attention", step.tokens, inner, 1, attending)]
    found.append(_scores(arch, step, kv, attending))
    if arch.extras.delta:
        found += _delta(arch.extras.delta, arch, step, arch.layers - attending)
    return found


def _projections(arch: Architecture) -> int:
    """Elements of the projection matrices of one layer."""
    spec, hidden = arch.attention, arch.hidden
    if isinstance(spec, GQA):
        queries = spec.heads * spec.head_dim * (2 if arch.extras.attention_gate else 1)
        return hidden * (queries + 2 * spec.kv_heads * spec.head_dim + spec.heads * spec.head_dim)
    width = spec.heads * (spec.nope_dim + spec.rope_dim)
    queries = hidden * spec.q_rank + spec.q_rank * width if spec.q_rank else hidden * width
    latent = hidden * (spec.kv_rank + spec.rope_dim)
    return queries + latent + spec.heads * (spec.kv_rank * (spec.nope_dim + spec.v_dim) + spec.v_dim * hidden)


def _scores(arch: Architecture, step: Step, kv: Format, layers: int) -> Op:
    """Queries against keys and weights against values; reads the cache and writes the new tokens to it."""
    spec = arch.attention
    key, value = _score_widths(spec)
    window = spec.window if isinstance(spec, GQA) else None
    full = arch.full_layers if window is not None and not arch.extras.delta else layers
    pairs = full * step.pairs() + (layers - full) * step.pairs(window)
    kept = cache(arch)
    moved = kept.sequence_bytes(step.past, kv) + step.new * kept.token_bytes(kv)
    flops = matmul(step.batch * spec.heads * pairs, key + value, 1)
    return Op("attention scores", "attention", flops, cache_bytes=step.batch * moved)


def _score_widths(spec: GQA | MLA) -> tuple[int, int]:
    if isinstance(spec, GQA):
        return spec.head_dim, spec.head_dim
    return spec.nope_dim + spec.rope_dim, spec.v_dim


def _delta(spec: DeltaNet, arch: Architecture, step: Step, layers: int) -> list[Op]:
    """Projections, and per value head three products with the state: recall, update, read-out."""
    keys, values = spec.key_heads * spec.key_dim, spec.value_heads * spec.value_dim
    inner = arch.hidden * (2 * keys + 3 * values + 2 * spec.value_heads)
    state = 3 * matmul(step.tokens * spec.value_heads, spec.key_dim, spec.value_dim)
    moved = 2 * step.batch * cache(arch).state_bytes()
    return [
        _linear("linear attention projections", "mixer", step.tokens, inner, 1, layers),
        Op("linear attention state", "mixer", layers * state, cache_bytes=moved),
    ]


def _feed_forward(arch: Architecture, step: Step, touched: float | None) -> list[Op]:
    sparse = len(arch.moe_layers)
    matrices = 3 if arch.gated else 2
    dense = _linear("ffn", "ffn", step.tokens, matrices * arch.hidden, arch.ffn_width, arch.layers - sparse)
    if arch.experts is None:
        return [dense]
    return [dense, *_mixture(arch.experts, arch.hidden, matrices, step, sparse, touched)]


def _mixture(
    bank: Experts, hidden: int, matrices: int, step: Step, layers: int, touched: float | None
) -> list[Op]:
    """Router, the experts that tokens visit, shared experts and their gate."""
    one, tokens = matrices * hidden * bank.width, step.tokens
    read = uniform(bank.count, bank.top_k, tokens) if touched is None else touched
    routed = Op("experts", "experts", layers * 2 * tokens * bank.top_k * one, layers * read * one)
    router = 0 if bank.router.kind == "hash" else bank.count
    width = bank.shared_total_width
    return [
        _linear("router", "router", tokens, hidden, router, layers),
        routed,
        _linear("shared", "shared", tokens, matrices * hidden, width, layers),
        _linear("shared gate", "shared", tokens, hidden, 1 if width and bank.shared_gate else 0, layers),
    ]
