"""Parameters in closed form, exact to the last one.

`count(architecture).total` equals `sum(p.numel())` of `nn.model.Decoder` and of the Hugging Face
model of the same configuration, as far as the specs can express it. Buffers (rotary tables, the
selection bias of DeepSeek-V3 routers) are not parameters, as in transformers.

Legend: D hidden, F expert or FFN width, E experts, K top-k, V vocabulary, L layers.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from moe_core.specs import GQA, MLA, Architecture, Attention, Experts

Method = Literal["closed_form", "meta", "record"]


class Breakdown(NamedTuple):
    """Parameters by component. `head` is 0 when it is tied to the embedding: counted once."""

    embedding: int = 0
    head: int = 0
    attention: int = 0
    ffn: int = 0
    experts: int = 0
    shared: int = 0
    router: int = 0
    norms: int = 0

    @property
    def total(self) -> int:
        return sum(self)


class Active(NamedTuple):
    """Parameters a token passes through, in the three published conventions.

    A tied matrix is an input look-up *and* the head, so leaving out the input embedding of a tied
    model leaves the matrix in.
    """

    incl_embeddings: int
    excl_input_embedding: int
    excl_embedding_and_head: int


class ParameterCount(NamedTuple):
    """What `params` prints: total, the three kinds of active, components, and how it was counted."""

    total: int
    active: Active
    breakdown: Breakdown
    method: Method


def count(architecture: Architecture) -> ParameterCount:
    """Closed-form parameters of `architecture`. Exact; no allocation, microseconds."""
    arch = architecture
    sparse = len(arch.moe_layers)
    table = arch.vocab * arch.hidden
    parts = Breakdown(
        embedding=table,
        head=0 if arch.tied else table,
        attention=arch.layers * attention(arch.attention, arch.hidden),
        ffn=(arch.layers - sparse) * ffn(arch.hidden, arch.ffn_width, arch.gated),
        norms=(2 * arch.layers + 1) * arch.hidden,
    )
    if arch.experts is None:
        return summarise(parts, 1.0, "closed_form")
    bank = arch.experts
    parts = parts._replace(
        experts=sparse * bank.count * ffn(arch.hidden, bank.width, arch.gated),
        shared=sparse * shared(bank, arch.hidden, arch.gated),
        router=sparse * router(bank, arch.hidden),
    )
    return summarise(parts, bank.top_k / bank.count, "closed_form")


def summarise(parts: Breakdown, routed_share: float, method: Method) -> ParameterCount:
    """Total and the conventions of active; `routed_share` is K/E, the part of the experts a token meets."""
    idle = parts.experts - round(parts.experts * routed_share)
    incl = parts.total - idle
    excl_input = incl - (parts.embedding if parts.head else 0)
    active = Active(incl, excl_input, incl - parts.embedding - parts.head)
    return ParameterCount(parts.total, active, parts, method)


def ffn(hidden: int, width: int, gated: bool) -> int:
    """One feed-forward network or expert: three matrices when gated (SwiGLU), else two."""
    return (3 if gated else 2) * hidden * width


def shared(bank: Experts, hidden: int, gated: bool) -> int:
    """The shared experts of one layer, with their gate (one logit a token) where there is one."""
    gate = hidden if bank.shared and bank.shared_gate else 0
    return ffn(hidden, bank.shared_total_width, gated) + gate


def router(bank: Experts, hidden: int) -> int:
    """The router of one layer: one row of logits an expert."""
    if bank.router.kind == "hash":
        return 0
    return bank.count * (hidden + (1 if bank.router.bias else 0))


def attention(spec: Attention, hidden: int) -> int:
    """One attention layer, norms inside it (per-head, latent) included."""
    return _gqa(spec, hidden) if isinstance(spec, GQA) else _mla(spec, hidden)


def _gqa(spec: GQA, hidden: int) -> int:
    queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    matrices = hidden * (queries + 2 * keys) + queries * hidden
    biases = (queries + 2 * keys) * spec.qkv_bias + hidden * spec.out_bias
    return matrices + biases + 2 * spec.head_dim * spec.qk_norm


def _mla(spec: MLA, hidden: int) -> int:
    """DeepSeek-V2, arXiv 2405.04434, section 2.1: low-rank queries (optional), latent keys and values."""
    query_width = spec.heads * (spec.nope_dim + spec.rope_dim)
    if spec.q_rank is None:
        queries = hidden * query_width
    else:
        queries = hidden * spec.q_rank + spec.q_rank + spec.q_rank * query_width
    latent = hidden * (spec.kv_rank + spec.rope_dim) + spec.kv_rank
    expand = spec.kv_rank * spec.heads * (spec.nope_dim + spec.v_dim)
    return queries + latent + expand + spec.heads * spec.v_dim * hidden
