"""What the busiest device does in one step: operations with their shapes, and how often. No times here.

The one walker: a list of ops from (architecture, step, precision, parallelism). FLOPs and bytes are sums over
it, seconds are looked up or modelled for each of its kernels (`silicon.kernels`), cost follows from seconds.

Tensor parallelism all-reduces after attention and after the feed-forward. With more expert than tensor
ways the groups hold different tokens and exchange them (dispatch, combine) around the experts.
Latent attention decodes with its up-projections absorbed (DeepSeek-V2, section 2.1.2) and prefills
without. Sparse attention looks at `SPARSE` tokens at most (DeepSeek-V3.2 report). Logits are of the
last position of each sequence. Left to a constant a layer: norms, rotary, gating, top-k, sampling.

FLOPs: 2 a multiply-add, products and attention only, visible pairs only. They are what is asked for: padding
to tiles is the kernel's affair.
"""

from __future__ import annotations

from math import ceil
from typing import Annotated, NamedTuple

from pydantic import Field

from moe_core.formats import Format, kind, width
from moe_core.perf import gemm
from moe_core.perf.attention_time import Heads
from moe_core.perf.params import index_layers
from moe_core.perf.shard import Parallel
from moe_core.specs import (
    GQA,
    MLA,
    MOST_TOKENS,
    Architecture,
    DeltaNet,
    Experts,
    Indexer,
    Precision,
    Size,
    Spec,
    Tokens,
)

SPARSE = 2048  # tokens an indexer lets through


class Step(Spec):
    """One forward pass: `new` tokens of each of `batch` sequences that have `past` tokens behind them.

    Prefill is past = 0, decode is new = 1.
    """

    batch: Size = 1
    new: Tokens = 1
    past: Annotated[int, Field(ge=0, le=4 * MOST_TOKENS)] = 0  # drawn between powers of two

    @property
    def tokens(self) -> int:
        return self.batch * self.new


def visible(new: int, past: int, window: int = 0) -> int:
    """Causal query-key pairs of one sequence and head; `window` 0 is none."""

    def triangle(tokens: int) -> int:
        return tokens * (tokens + 1) // 2

    pairs = triangle(past + new) - triangle(past)
    if not window:
        return pairs
    return pairs - triangle(max(0, past + new - window)) + triangle(max(0, past - window))


# -- kernels ---------------------------------------------------------------------------------------


class Product(NamedTuple):
    """[m, k] x [k, n] with weights in `form`."""

    m: int
    n: int
    k: int
    form: Format

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k

    @property
    def bytes(self) -> float:
        """Weights once, inputs and outputs in 16 bits."""
        return gemm.moved(self.m, self.n, self.k, width(self.form))


class Attend(NamedTuple):
    """Attention of one layer over a cache in `form`; `window` 0 is none; `latent` is MLA."""

    batch: int
    new: int
    past: int
    heads: Heads
    form: Format
    window: int = 0
    latent: bool = False

    @property
    def flops(self) -> int:
        """Queries against keys, weights against values."""
        pairs = visible(self.new, self.past, self.window)
        return 2 * self.batch * self.heads.heads * pairs * (self.heads.key + self.heads.value)

    @property
    def bytes(self) -> float:
        """Keys and values once for all queries of a group."""
        length = self.past + self.new
        kept = min(length, self.window or length) * self.heads.kv_heads * self.heads.kept
        return self.batch * kept * width(self.form)


class StateUpdate(NamedTuple):
    """Short convolution and state update of one linear-attention layer: heads of one device."""

    batch: int
    new: int
    spec: DeltaNet

    @property
    def elements(self) -> int:
        """Of the state of one sequence."""
        return self.spec.value_heads * self.spec.key_dim * self.spec.value_dim

    @property
    def flops(self) -> int:
        """Three products with the state: recall, update, read-out."""
        return 6 * self.batch * self.new * self.elements

    @property
    def bytes(self) -> float:
        """The state is read and written in fp32."""
        return 8.0 * self.batch * self.elements


class Index(NamedTuple):
    """Scores of a sparse-attention indexer: every head of it against one 8-bit key a token."""

    batch: int
    new: int
    past: int
    spec: Indexer

    @property
    def flops(self) -> int:
        return 2 * self.batch * visible(self.new, self.past) * self.spec.heads * self.spec.head_dim

    @property
    def bytes(self) -> float:
        return float(self.batch * (self.past + self.new) * self.spec.head_dim)


class Bank(NamedTuple):
    """Grouped experts of one layer: tokens of all ranks, sizes of the whole layer, ways it is split.

    `exchanged`: a rank is sent the rows of its own experts only; else it sees every token and picks.
    What the busiest rank reads and multiplies of it depends on the load (`silicon.layer`).
    """

    tokens: int
    hidden: int
    inter: int
    experts: int
    top_k: int
    tp: int
    ep: int
    gated: bool
    form: Format
    exchanged: bool = False

    @property
    def flops(self) -> int:
        """Of all ranks together: a token visits `top_k` experts of three matrices, two if not gated."""
        return 2 * self.tokens * self.top_k * (3 if self.gated else 2) * self.hidden * self.inter


class Reduce(NamedTuple):
    """All-reduce of activations in 16 bits over `ranks`."""

    ranks: int
    nbytes: int

    @property
    def flops(self) -> int:
        return 0


class Exchange(NamedTuple):
    """Dispatch to the experts' ranks and combine: `tokens` of each rank."""

    ranks: int
    tokens: int
    hidden: int
    experts: int
    top_k: int
    decode: bool

    @property
    def flops(self) -> int:
        return 0


Kernel = Product | Attend | StateUpdate | Index | Bank | Reduce | Exchange


class Op(NamedTuple):
    """A kernel, the part it belongs to, its component of the parameters, and how often a step runs it."""

    name: str
    component: str
    kernel: Kernel
    times: int

    @property
    def flops(self) -> int:
        """Of all runs together."""
        return self.times * self.kernel.flops


def token_flops(arch: Architecture, context: int) -> int:
    """FLOPs to write one token after `context` others, on all devices together; see `token_state`."""
    return sum(op.flops for op in ops(arch, Step(past=context)))


def token_state(context: int, *archs: Architecture) -> str:
    """What `token_flops` takes for granted for any of `archs`, in words that stand beside it."""
    said = []
    if any(isinstance(arch.attention, MLA) for arch in archs):
        said.append("latent attention absorbed")
    if any(arch.extras.indexer for arch in archs):
        said.append(f"sparse attention over {SPARSE:,} tokens at most")
    return ", ".join([*said, f"at a context of {context:,}"])


def small_kernels(arch: Architecture) -> int:
    """Kernels of a step that nobody tabulates: counted, to be charged a constant each.

    A layer has two norms, rotary and a cache write. On top come norms of queries and keys, latent norms and
    copies, gates of a linear attention, an indexer's top-k chain, an MoE layer's scores, top-k, sort and sum.
    """
    attending = arch.full_layers if arch.extras.delta else arch.layers
    latent = isinstance(arch.attention, MLA)
    normed = isinstance(arch.attention, GQA) and arch.attention.qk_norm
    extra = 2 * attending * normed + 4 * attending * latent + 4 * (arch.layers - attending)
    extra += 6 * arch.layers * (arch.extras.indexer is not None)
    return 4 * arch.layers + extra + 4 * len(arch.moe_layers)


def block_products(found: list[Op]) -> int:
    """Products whose inputs are scaled by blocks first, one more kernel each (DeepSeek-V3, section 3.3)."""
    scaled = ((op.kernel, op.times) for op in found)
    return sum(
        n for kernel, n in scaled if isinstance(kernel, Product | Bank) and kind(kernel.form) == "fp8_block"
    )


class _Case(NamedTuple):
    arch: Architecture
    step: Step  # what one group of devices runs
    precision: Precision
    kv: Format
    parallel: Parallel

    @property
    def tokens(self) -> int:
        return self.step.tokens


def ops(
    arch: Architecture,
    step: Step,
    precision: Precision = Precision(),
    kv: Format = "bf16",
    parallel: Parallel = Parallel(),
) -> list[Op]:
    """Everything the busiest device runs in one step of `step` (the batch of all groups together)."""
    own = step.model_copy(update={"batch": ceil(step.batch / parallel.groups)})
    case = _Case(arch, own, precision, kv, parallel)
    head = Product(own.batch, ceil(arch.vocab / parallel.tensor), arch.hidden, precision.of("head"))
    found = [*_attention(case), *_feed_forward(case), Op("head", "head", head, 1)]
    return [op for op in found if op.times > 0]


def _attention(case: _Case) -> list[Op]:
    arch = case.arch
    attending = arch.full_layers if arch.extras.delta else arch.layers
    if isinstance(arch.attention, MLA):
        found = _latent(case, arch.attention, attending)
    else:
        found = _grouped(case, arch.attention, attending)
    if arch.extras.delta:
        found += _delta(case, arch.extras.delta, arch.layers - attending)
    return [*found, *_reduced(case, "all-reduce after attention", arch.layers)]


def _grouped(case: _Case, spec: GQA, layers: int) -> list[Op]:
    arch, ways = case.arch, case.parallel.tensor
    heads, kv_heads = ceil(spec.heads / ways), ceil(spec.kv_heads / ways)
    queries = heads * spec.head_dim * (2 if arch.extras.attention_gate else 1)
    inputs = queries + 2 * kv_heads * spec.head_dim
    shape = Heads(heads, kv_heads, spec.head_dim, spec.head_dim)
    full = arch.full_layers if spec.window and not arch.extras.delta else layers
    window = spec.window or 0
    return [
        _product(case, "attention projections", "attention", inputs, arch.hidden, layers),
        _product(case, "attention projections", "attention", arch.hidden, heads * spec.head_dim, layers),
        _attend(case, "attention", shape, full),
        _attend(case, "attention, windowed", shape, layers - full, window=window),
    ]


def _latent(case: _Case, spec: MLA, layers: int) -> list[Op]:
    arch, heads = case.arch, ceil(spec.heads / case.parallel.tensor)
    width = heads * (spec.nope_dim + spec.rope_dim)
    down = spec.kv_rank + spec.rope_dim + (spec.q_rank or width)
    name, part = "attention projections", "attention"
    found = [_product(case, name, part, down, arch.hidden, layers)]
    if spec.q_rank:
        found.append(_product(case, name, part, width, spec.q_rank, layers))
    if case.step.new == 1:
        found.append(_product(case, name, part, heads * spec.kv_rank, spec.nope_dim, layers))
        found.append(_product(case, name, part, heads * spec.v_dim, spec.kv_rank, layers))
        shape = Heads(heads, 1, spec.kv_rank + spec.rope_dim, spec.kv_rank, True)
    else:
        found.append(_product(case, name, part, heads * (spec.nope_dim + spec.v_dim), spec.kv_rank, layers))
        shape = Heads(heads, heads, spec.nope_dim + spec.rope_dim, spec.v_dim)
    found.append(_product(case, name, part, arch.hidden, heads * spec.v_dim, layers))
    found.append(_attend(case, "attention", shape, layers, latent=True))
    return [*found, *_indexed(case, spec)]


def _indexed(case: _Case, spec: MLA) -> list[Op]:
    """The indexer's projections and scores; it is replicated on every device."""
    indexer, step = case.arch.extras.indexer, case.step
    if indexer is None:
        return []
    layers, inputs = index_layers(case.arch), spec.q_rank or case.arch.hidden
    scores = Index(step.batch, step.new, step.past, indexer)
    return [
        _product(case, "indexer", "attention", indexer.heads * indexer.head_dim, inputs, layers),
        Op("indexer", "attention", scores, layers),
    ]


def _attend(case: _Case, name: str, shape: Heads, layers: int, window: int = 0, latent: bool = False) -> Op:
    step, past = case.step, case.step.past
    if case.arch.extras.indexer is not None and step.new == 1:
        past = min(past, SPARSE)
    kernel = Attend(step.batch, step.new, past, shape, case.kv, window, latent)
    return Op(name, "attention", kernel, layers)


def _delta(case: _Case, spec: DeltaNet, layers: int) -> list[Op]:
    ways = case.parallel.tensor
    own = spec.model_copy(
        update={"key_heads": ceil(spec.key_heads / ways), "value_heads": ceil(spec.value_heads / ways)}
    )
    keys, values = own.key_heads * own.key_dim, own.value_heads * own.value_dim
    inputs = 2 * keys + 2 * values + 2 * own.value_heads
    return [
        _product(case, "linear attention projections", "mixer", inputs, case.arch.hidden, layers),
        _product(case, "linear attention projections", "mixer", case.arch.hidden, values, layers),
        Op("linear attention", "mixer", StateUpdate(case.step.batch, case.step.new, own), layers),
    ]


def _feed_forward(case: _Case) -> list[Op]:
    arch, sparse = case.arch, len(case.arch.moe_layers)
    found = _ffn(case, "ffn", arch.ffn_width, case.parallel.tensor, arch.layers - sparse)
    found += _reduced(case, "all-reduce after ffn", arch.layers - sparse)
    if arch.experts is not None and sparse:
        found += _mixture(case, arch.experts, sparse)
    return found


def _mixture(case: _Case, bank: Experts, layers: int) -> list[Op]:
    arch, parallel = case.arch, case.parallel
    found = []
    if bank.router.kind != "hash":
        router = Product(case.tokens, bank.count, arch.hidden, case.precision.of("router"))
        found.append(Op("router", "router", router, layers))
    if bank.shared:
        found += _ffn(case, "shared", bank.shared_total_width, parallel.tensor, layers)
    slices = parallel.devices // parallel.expert
    size = (arch.hidden, bank.width, bank.count, bank.top_k, slices, parallel.expert, arch.gated)
    form, exchanged = case.precision.of("experts"), parallel.groups > 1
    experts = Bank(case.tokens * parallel.groups, *size, form, exchanged)
    found.append(Op("experts", "experts", experts, layers))
    if exchanged:
        exchange = Exchange(
            *(parallel.devices, ceil(case.tokens / parallel.tensor), arch.hidden),
            *(bank.count, bank.top_k, case.step.new == 1),
        )
        found.append(Op("dispatch and combine", "experts", exchange, layers))
    return [*found, *_reduced(case, "all-reduce after experts", layers)]


def _ffn(case: _Case, component: str, width: int, ways: int, layers: int) -> list[Op]:
    if not width:
        return []
    own, hidden = ceil(width / ways), case.arch.hidden
    inputs = own * (2 if case.arch.gated else 1)
    return [
        _product(case, component, component, inputs, hidden, layers),
        _product(case, component, component, hidden, own, layers),
    ]


def _reduced(case: _Case, name: str, layers: int) -> list[Op]:
    if case.parallel.tensor == 1:
        return []
    nbytes = 2 * case.tokens * case.arch.hidden
    return [Op(name, "network", Reduce(case.parallel.tensor, nbytes), layers)]


def _product(case: _Case, name: str, component: str, n: int, k: int, layers: int) -> Op:
    return Op(name, component, Product(case.tokens, n, k, case.precision.of(component)), layers)
