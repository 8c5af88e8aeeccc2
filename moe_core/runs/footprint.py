"""Footprint: memory by component, as the model of `perf.memory` predicts it beside what tensors take.

The prediction is the closed form, with two things that this decoder does and a server would not:
logits of every position, and rotary tables (counted as attention). Measured weights and cache are
bytes of allocated tensors; measured activations are the tensors alive at the worst moment of one
prefill; their sum is the measured total. Nothing here is resident memory of the process.

Legend: T tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from moe_core.formats import Format, size
from moe_core.nn.model import Decoder
from moe_core.perf import memory
from moe_core.runs.live import LiveBytes
from moe_core.runs.timing import TimedWork
from moe_core.specs import GQA, Architecture, Precision

COMPONENTS = (
    "embedding", "attention", "ffn", "experts", "shared", "router", "norms", "kv_cache", "activations",
)  # fmt: skip


class Shape(NamedTuple):
    """The work whose memory is asked for: sequences, prompt tokens of each, positions in the cache."""

    batch: int
    seq: int
    positions: int


def predict(arch: Architecture, shape: Shape, form: Format) -> dict[str, int]:
    """Bytes by component of `arch` in `form`."""
    subject = memory.model(arch)
    weights = memory.weights(subject.parameters.breakdown, Precision(default=form))
    parts = {name: weights[name] for name in COMPONENTS if name in weights}
    parts["embedding"] += weights["head"]
    parts["attention"] += _rotary_bytes(arch)
    parts["kv_cache"] = shape.batch * subject.cache.sequence_bytes(shape.positions, form)
    parts["activations"] = _activations(subject, shape, form)
    return parts


def measure(model: Decoder, work: TimedWork) -> dict[str, int]:
    """Bytes by component as allocated, over one prefill of `work`."""
    parts = Counter(weight_bytes(model))
    with torch.inference_mode():
        cache = model.new_cache(work.prompt_BS.shape[0], work.positions)
        keys = [tensor for layer in cache.layers for tensor in (layer.keys_BGLP, layer.values_BGLP)]
        known = [*model.parameters(), *model.buffers(), work.prompt_BS, *keys]
        with LiveBytes(known) as live:
            model(work.prompt_BS, cache)
    parts["kv_cache"], parts["activations"] = cache.nbytes, live.peak
    return dict(parts)


def weight_bytes(model: Decoder) -> dict[str, int]:
    """Bytes of parameters and buffers by component."""
    parts: Counter[str] = Counter()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        parts[component(name)] += tensor.nbytes
    return dict(parts)


def component(name: str) -> str:
    """The component that the tensor called `name` in a decoder belongs to."""
    path = name.split(".")
    if path[0] == "rotary":
        return "attention"
    if path[0] in ("embedding", "head"):
        return "embedding"
    if path[0] == "norm" or path[2] in ("attention_norm", "ffn_norm"):
        return "norms"
    if path[2] == "attention":
        return "attention"
    inner = path[3]
    if inner == "router" or inner.startswith("shared"):
        return "router" if inner == "router" else "shared"
    return "experts" if name.endswith(("_EGD", "_EDF")) else "ffn"


def columns(
    predicted: Mapping[str, Mapping[str, int]], measured: Mapping[str, Mapping[str, int]]
) -> dict[str, list[Any]]:
    """The table `memory`: components that a model does not have are left out, "total" is their sum."""
    rows = []
    for model, parts in predicted.items():
        seen = measured[model]
        rows += [
            (model, name, parts[name], seen.get(name, 0))
            for name in COMPONENTS
            if parts[name] or seen.get(name)
        ]
        rows.append((model, "total", sum(parts.values()), sum(seen.values())))
    names = ("model", "component", "predicted_bytes", "measured_bytes")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _activations(subject: memory.Model, shape: Shape, form: Format) -> int:
    tokens = shape.batch * shape.seq
    work = memory.Workload(batch=shape.batch, context=shape.seq, chunk=tokens)
    layer = memory.activations(subject.inner._replace(logits=0), work, form)
    head = size(tokens * (2 * subject.inner.stream + subject.inner.logits), form)
    return max(layer, head)


def _rotary_bytes(arch: Architecture) -> int:
    """cos and sin of every position, fp32, one pair of tables for all layers."""
    assert isinstance(arch.attention, GQA)
    return size(2 * arch.max_positions * arch.attention.head_dim, "fp32")
