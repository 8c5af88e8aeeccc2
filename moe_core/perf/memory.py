"""Memory: weights by component, cache, activations, for any model and workload.

Activations are an estimate of the live tensors at the worst moment of one forward pass without
gradients, flash attention assumed (no score matrix):

    T tokens at once, D hidden, elements of `form`:
    2TD                                        the residual stream and its normed copy
    + max( T * (2 heads + 2 kv_heads) * P      queries, mix, keys, values
         , T * (3 or 2) * F                    gate, up and their product, of the dense layer or of all
                                               experts a token visits, shared ones included
           + 2TKD                              rows sent to experts and returned
         ) , and at the end batch * V in fp32  logits of the last position of each sequence

Ignored: allocator fragmentation, framework context (0.3 - 1 GB on CUDA), communication buffers.
"""

from __future__ import annotations

from typing import NamedTuple

from moe_core.formats import Format, size
from moe_core.perf.cache import Cache, cache
from moe_core.perf.params import Breakdown, ParameterCount, count
from moe_core.specs import GQA, Architecture, Precision, Size, Spec, Tokens


class Workload(Spec):
    """`batch` sequences of `context` tokens each (prompt and answer); prefill runs `chunk` tokens at once."""

    batch: Size = 1
    context: Tokens = 4096
    chunk: Size = 8192

    @property
    def step_tokens(self) -> int:
        """Tokens in the largest single forward pass."""
        return min(self.batch * self.context, max(self.chunk, self.batch))


class Inner(NamedTuple):
    """Elements per token alive inside a layer, and per sequence at the head."""

    stream: int
    attention: int
    feed_forward: int
    logits: int


class Model(NamedTuple):
    """What memory needs to know of a model. `architecture` is None where only a record exists.

    `routing` is (K, E) of the routed experts, None for a dense model.
    """

    name: str
    parameters: ParameterCount
    cache: Cache
    inner: Inner
    layers: int
    routing: tuple[int, int] | None = None
    architecture: Architecture | None = None


class Footprint(NamedTuple):
    """Bytes by component. `weights` is keyed like `params.Breakdown`."""

    weights: dict[str, int]
    kv_cache: int
    state: int
    activations: int
    gradients: int = 0
    optimizer: int = 0

    @property
    def weights_total(self) -> int:
        return sum(self.weights.values())

    @property
    def total(self) -> int:
        return self.weights_total + sum(self[1:])

    def components(self) -> dict[str, int]:
        """Every component that is not empty, weights first, for a stacked bar."""
        rest = {name: getattr(self, name) for name in self._fields[1:]}
        return {name: size for name, size in (self.weights | rest).items() if size}


def model(arch: Architecture) -> Model:
    """Everything memory needs, in closed form."""
    bank = arch.experts
    routing = (bank.top_k, bank.count) if bank else None
    return Model(arch.name, count(arch), cache(arch), inner(arch), arch.layers, routing, arch)


def footprint(
    subject: Model, workload: Workload, precision: Precision = Precision(), kv: Format = "bf16"
) -> Footprint:
    """Bytes to serve `workload` with `subject`, all of it on one device."""
    return Footprint(weights(subject.parameters.breakdown, precision), *working(subject, workload, kv))


def working(subject: Model, workload: Workload, kv: Format = "bf16") -> tuple[int, int, int]:
    """Bytes beside the weights: cache, recurrent state, activations. What grows with the workload."""
    kept = subject.cache
    return (
        workload.batch * kept.sequence_bytes(workload.context, kv),
        workload.batch * kept.state_bytes(),
        activations(subject.inner, workload),
    )


def weights(parts: Breakdown, precision: Precision = Precision()) -> dict[str, int]:
    """Bytes of the weights by component, scales included."""
    return {name: size(elements, precision.of(name)) for name, elements in parts._asdict().items()}


def activations(shape: Inner, workload: Workload, form: Format = "bf16") -> int:
    """Peak bytes of live activations in one forward pass; the formula is at the top of this file."""
    tokens = workload.step_tokens
    layer = size(tokens * (2 * shape.stream + max(shape.attention, shape.feed_forward)), form)
    head = size(2 * tokens * shape.stream, form) + size(workload.batch * shape.logits, "fp32")
    return max(layer, head)


def inner(arch: Architecture) -> Inner:
    """Elements alive per token in the widest attention and the widest feed-forward of `arch`."""
    return Inner(arch.hidden, _attention_width(arch), _feed_forward_width(arch), arch.vocab)


def _attention_width(arch: Architecture) -> int:
    spec = arch.attention
    if isinstance(spec, GQA):
        return 2 * (spec.heads + spec.kv_heads) * spec.head_dim
    key = spec.nope_dim + spec.rope_dim
    latents = (spec.q_rank or 0) + spec.kv_rank + spec.rope_dim
    return spec.heads * (2 * key + 2 * spec.v_dim) + latents


def _feed_forward_width(arch: Architecture) -> int:
    copies = 3 if arch.gated else 2
    dense = copies * arch.ffn_width
    if arch.experts is None:
        return dense
    bank = arch.experts
    visited = bank.top_k * bank.width + bank.shared_total_width
    return max(dense, copies * visited + 2 * bank.top_k * arch.hidden)
