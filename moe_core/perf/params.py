"""Parameters in closed form, exact to the last one.

`count(architecture).total` equals `sum(p.numel())` of `nn.model.Decoder` and of the Hugging Face
model of the same configuration, as far as the specs can express it. Buffers (rotary tables, the
selection bias of DeepSeek-V3 routers) are not parameters, as in transformers.

Legend: D hidden, F expert or FFN width, E experts, K top-k, V vocabulary, L layers.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from moe_core.errors import ConfigError
from moe_core.specs import GQA, MLA, Architecture, Attention, DeltaNet, Experts, Extras

Method = Literal["closed_form", "meta", "record", "header"]
MOST = 10**16  # parameters: hundreds of times the largest published model, and its bytes fit 64 bits


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
    mixer: int = 0  # linear attention and state-space layers
    other: int = 0  # learned positions, residual mixers
    tower: int = 0  # vision and audio encoders, which no token of text passes

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
    """What `params` prints: total, the three kinds of active, components, and how it was counted.

    `mtp` (multi-token prediction layers) is shipped beside the main model and is not in `total`.
    """

    total: int
    active: Active
    breakdown: Breakdown
    method: Method
    mtp: int = 0

    @property
    def idle(self) -> int:
        """Parameters of the experts that one token does not visit."""
        return self.total - self.breakdown.tower - self.active.incl_embeddings


def count(architecture: Architecture) -> ParameterCount:
    """Closed-form parameters of `architecture`. Exact; no allocation, microseconds."""
    arch = architecture
    table = arch.vocab * arch.hidden
    parts = Breakdown(
        embedding=table,
        head=0 if arch.tied else table,
        attention=_attention_layers(arch) * attention(arch.attention, arch.hidden, arch.extras)
        + index_layers(arch) * _one_indexer(arch),
        norms=norms(arch),
        mixer=(arch.layers - _attention_layers(arch)) * _mixer(arch),
        other=arch.extras.positions * arch.hidden,
        tower=arch.extras.tower,
        **_feed_forward(arch),
    )
    bank = arch.experts
    share = (bank.top_k, bank.count) if bank else (1, 1)
    return summarise(parts, share, "closed_form", mtp(arch))


def summarise(
    parts: Breakdown, share: tuple[int, int], method: Method, mtp_parameters: int = 0
) -> ParameterCount:
    """Total and the conventions of active; `share` is (K, E): a token meets K of E equal experts."""
    if parts.total > MOST:
        raise ConfigError(f"parameters ({parts.total:.1e}): must be at most {MOST:.0e}")
    incl = parts.total - parts.tower - parts.experts + parts.experts * share[0] // share[1]
    excl_input = incl - (parts.embedding if parts.head else 0)
    active = Active(incl, excl_input, incl - parts.embedding - parts.head)
    return ParameterCount(parts.total, active, parts, method, mtp_parameters)


def mtp(arch: Architecture) -> int:
    """Multi-token prediction layers (DeepSeek-V3, arXiv 2412.19437, section 2.2).

    One more block of the last kind each, a 2D -> D projection and three norms; embedding and head are
    shared with the main model.
    """
    hidden, last = arch.hidden, arch.layers - 1
    block = attention(arch.attention, hidden, arch.extras) + 2 * hidden + _one_indexer(arch)
    if arch.experts is not None and arch.is_moe_layer(last):
        block += sum(moe_layer(arch.experts, hidden, arch.gated, arch.extras))
    else:
        block += ffn(hidden, arch.ffn_width, arch.gated, arch.extras.ffn_bias)
    return arch.extras.mtp_layers * (block + 2 * hidden * hidden + 3 * hidden)


def norms(arch: Architecture) -> int:
    """Norms of the residual stream: two a layer and a final one, unless the family differs."""
    width = arch.hidden * (2 if arch.extras.norm_bias else 1)
    return (arch.extras.norms_per_layer * arch.layers + 1) * width


class MoELayer(NamedTuple):
    """Parameters of the sparse part of one layer."""

    experts: int
    shared: int
    router: int


def moe_layer(bank: Experts, hidden: int, gated: bool, extras: Extras = Extras()) -> MoELayer:
    """Experts, shared experts with their gate (one logit a token), router."""
    gate = hidden if bank.shared and bank.shared_gate else 0
    return MoELayer(
        experts=bank.count * ffn(hidden, bank.width, gated, extras.expert_bias),
        shared=ffn(hidden, bank.shared_total_width, gated) + gate if bank.shared else 0,
        router=_router(bank, hidden, extras),
    )


def ffn(hidden: int, width: int, gated: bool, bias: bool = False) -> int:
    """One feed-forward network or expert: three matrices when gated (SwiGLU), else two."""
    inner = 2 if gated else 1
    return (inner + 1) * hidden * width + (inner * width + hidden if bias else 0)


def attention(spec: Attention, hidden: int, extras: Extras = Extras()) -> int:
    """One attention layer, the norms inside it (per head, latent) included, an indexer not."""
    return _gqa(spec, hidden, extras) if isinstance(spec, GQA) else _mla(spec, hidden)


def _one_indexer(arch: Architecture) -> int:
    """Queries from the latent, one key with its norm (weight and bias), one weight a head."""
    spec = arch.extras.indexer
    if spec is None:
        return 0
    latent = (arch.attention.q_rank if isinstance(arch.attention, MLA) else None) or arch.hidden
    queries = latent * spec.heads * spec.head_dim
    return queries + (arch.hidden + 2) * spec.head_dim + arch.hidden * spec.heads


def index_layers(arch: Architecture) -> int:
    """Layers that have an indexer of their own."""
    spec = arch.extras.indexer
    return 0 if spec is None else min(spec.layers or arch.layers, arch.layers)


def _attention_layers(arch: Architecture) -> int:
    return arch.full_layers if arch.extras.delta else arch.layers


def _feed_forward(arch: Architecture) -> dict[str, int]:
    sparse = len(arch.moe_layers)
    dense = (arch.layers - sparse) * ffn(arch.hidden, arch.ffn_width, arch.gated, arch.extras.ffn_bias)
    if arch.experts is None:
        return {"ffn": dense}
    layer = moe_layer(arch.experts, arch.hidden, arch.gated, arch.extras)
    return {"ffn": dense} | {name: sparse * size for name, size in layer._asdict().items()}


def _router(bank: Experts, hidden: int, extras: Extras) -> int:
    """One row of logits an expert; noisy top-k learns a second matrix, hash routing has no weights."""
    if bank.router.kind == "hash":
        return 0
    matrices = 2 if bank.router.kind == "noisy" else 1
    return bank.count * (matrices * hidden + bank.router.bias + extras.trained_selection_bias)


def _gqa(spec: GQA, hidden: int, extras: Extras) -> int:
    queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    gate = queries if extras.attention_gate else 0
    matrices = hidden * (queries + gate + 2 * keys) + queries * hidden
    biases = (queries + gate + 2 * keys) * spec.qkv_bias + hidden * spec.out_bias
    norm = queries + keys if extras.qk_norm_full else 2 * spec.head_dim * spec.qk_norm
    return matrices + biases + norm + spec.heads * extras.sinks


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


def _mixer(arch: Architecture) -> int:
    return _delta_net(arch.extras.delta, arch.hidden) if arch.extras.delta else 0


def _delta_net(spec: DeltaNet, hidden: int) -> int:
    """Projections of q, k, v, output gate, decay and step; short convolution; norm; output."""
    keys, values = spec.key_heads * spec.key_dim, spec.value_heads * spec.value_dim
    inputs = hidden * (2 * keys + 2 * values + 2 * spec.value_heads)
    convolution = (2 * keys + values) * spec.conv
    return inputs + convolution + 2 * spec.value_heads + spec.value_dim + values * hidden
