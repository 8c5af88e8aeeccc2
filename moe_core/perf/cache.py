"""What a sequence leaves behind: keys and values by kind of attention, and states that never grow.

Per token and layer: GQA 2 * kv_heads * head_dim elements; MLA kv_rank + rope_dim (the latent and the
shared rotary key, DeepSeek-V2 section 2.1); a window keeps min(context, window) tokens; a linear
attention keeps one state whatever the context. Ignored: page rounding (at most one page a sequence).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moe_core.formats import Format, size
from moe_core.perf.params import index_layers
from moe_core.specs import MLA, Architecture, DeltaNet, Size, Spec

Elements = Annotated[float, Field(ge=0, le=1e12)]


class Cache(Spec):
    """Elements kept for one sequence.

    `per_token` grows with every token; `windowed` only until `window`; `index` are the keys of a
    sparse-attention indexer, one byte each; `state` (fp32) and `convolution` never grow.
    `heads` are the KV heads that tensor parallelism can split; None for a latent, which it replicates.
    """

    per_token: Elements = 0
    windowed: Elements = 0
    window: Size | None = None
    index: Elements = 0
    state: Elements = 0
    convolution: Elements = 0
    heads: Size | None = None

    def kept(self, context: int) -> float:
        """Elements of keys and values after `context` tokens."""
        return self.per_token * context + self.windowed * min(context, self.window or context)

    def token_bytes(self, form: Format) -> int:
        """Bytes one more token costs while every window still has room: the published figure."""
        return size(self.per_token + self.windowed, form)

    def sequence_bytes(self, context: int, form: Format) -> int:
        """Keys and values of one sequence of `context` tokens, indexer included."""
        return size(self.kept(context), form) + size(self.index * context, "fp8")

    def state_bytes(self) -> int:
        """What one sequence keeps whatever its length: recurrent state in fp32, convolution in 16 bits."""
        return size(self.state, "fp32") + size(self.convolution, "bf16")

    def all_bytes(self, context: int, form: Format) -> int:
        """Everything one sequence of `context` tokens keeps: cache and state."""
        return self.sequence_bytes(context, form) + self.state_bytes()


def cache(arch: Architecture) -> Cache:
    """The cache of one sequence of `arch`."""
    full, rest = arch.full_layers, arch.layers - arch.full_layers
    spec, extras = arch.attention, arch.extras
    if isinstance(spec, MLA):
        latent = spec.kv_rank + spec.rope_dim
        index = index_layers(arch) * extras.indexer.head_dim if extras.indexer else 0
        return Cache(per_token=arch.layers * latent, index=index)
    width = 2 * spec.kv_heads * spec.head_dim
    if extras.delta is not None:
        return _with_state(Cache(per_token=full * width, heads=spec.kv_heads), extras.delta, rest)
    if spec.window is None:
        return Cache(per_token=arch.layers * width, heads=spec.kv_heads)
    return Cache(per_token=full * width, windowed=rest * width, window=spec.window, heads=spec.kv_heads)


def _with_state(kept: Cache, delta: DeltaNet, layers: int) -> Cache:
    """A matrix of key_dim x value_dim a value head, and the last `conv` inputs of the convolution."""
    state = layers * delta.value_heads * delta.key_dim * delta.value_dim
    channels = 2 * delta.key_heads * delta.key_dim + delta.value_heads * delta.value_dim
    return kept.model_copy(
        update={"state": float(state), "convolution": float(layers * channels * delta.conv)}
    )
