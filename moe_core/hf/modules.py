"""The weight matrices of a model by module name, as quantisation schemes name what they leave alone.

From an architecture in closed form, or from the shapes of a model that was built or stored. Names are brought
to one spelling (`plain`): checkpoints of one layout call an expert's matrices w1 or gate_proj, its layer mlp,
ffn or block_sparse_moe. One expert stands for all of its layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

from moe_core.hf.names import components
from moe_core.specs import GQA, MLA, Architecture

_AROUND = re.compile(r"^((model|language_model|transformer|backbone|thinker|llm)\.)+")
_SPELLED = (
    (r"\.(block_sparse_moe|feed_forward|ffn|moe)\.", ".mlp."),
    (r"\.attn(?=\.|$)", ".self_attn"),
    (r"\.(w1|wi_0|gate_proj_weight)(?=\.|$)", ".gate_proj"),
    (r"\.(w3|wi_1)(?=\.|$)", ".up_proj"),
    (r"\.(w2|wo)(?=\.|$)", ".down_proj"),
    (r"\.gate_up_proj(?=\.|$)", ".gate_proj"),
    (r"\.(experts\.)?switch_(mlp|glu)(?=\.|$)", ".experts"),  # MLX: all experts of a layer in one
    (r"\.mlp\.router(\.layer)?(?=\.|$)", ".mlp.gate"),
    (r"\.shared_mlp(?=\.|$)", ".shared_experts"),
    (r"\.shared_expert(?=\.|$)", ".shared_experts"),
    (r"^\.head(?=\.|$)", ".lm_head"),
    (r"^\.embed(?=\.|$)", ".embed_tokens"),
)
_SPELLINGS = tuple((re.compile(pattern), spelling) for pattern, spelling in _SPELLED)
_STACKED = re.compile(r"\.experts\.(?!\d)")  # all experts of a layer in one tensor


class Matrix(NamedTuple):
    """One weight matrix, or all of one kind in a layer's experts."""

    name: str
    component: str
    elements: int


@lru_cache(maxsize=100_000)
def plain(name: str) -> str:
    """A module's name in one spelling, without `.weight` and without the names of what is around it."""
    found = f".{_AROUND.sub('', name.removesuffix('.weight'))}"
    for pattern, spelling in _SPELLINGS:
        found = pattern.sub(spelling, found)
    return found[1:]


def matrices(arch: Architecture) -> list[Matrix]:
    """Every matrix that a scheme may quantise, in closed form; norms, biases and convolutions are not."""
    table = arch.vocab * arch.hidden
    found = [Matrix("embed_tokens", "embedding", table)]
    if not arch.tied:
        found.append(Matrix("lm_head", "head", table))
    for layer in range(arch.layers):
        found += [
            Matrix(f"layers.{layer}.{name}", component, elements)
            for name, component, elements in (*_mixing(arch, layer), *_feeding(arch, layer))
        ]
    return found


def _mixing(arch: Architecture, layer: int) -> Iterator[tuple[str, str, int]]:
    """Attention of a layer, or what stands in its place."""
    every, delta = arch.extras.full_every, arch.extras.delta
    if delta is not None and every is not None and (layer + 1) % every:
        keys, values = delta.key_heads * delta.key_dim, delta.value_heads * delta.value_dim
        yield "linear_attn.in_proj_qkv", "mixer", arch.hidden * (2 * keys + values)
        yield "linear_attn.in_proj_z", "mixer", arch.hidden * values
        yield "linear_attn.in_proj_b", "mixer", arch.hidden * delta.value_heads
        yield "linear_attn.in_proj_a", "mixer", arch.hidden * delta.value_heads
        yield "linear_attn.out_proj", "mixer", values * arch.hidden
        return
    spec = arch.attention
    sizes = _gqa(spec, arch) if isinstance(spec, GQA) else _mla(spec, arch.hidden)
    for name, elements in sizes.items():
        yield f"self_attn.{name}", "attention", elements
    index = arch.extras.indexer
    if index is not None and layer < (index.layers or arch.layers):
        latent = (spec.q_rank if isinstance(spec, MLA) else None) or arch.hidden
        yield "self_attn.indexer.wq_b", "attention", latent * index.heads * index.head_dim
        yield "self_attn.indexer.wk", "attention", arch.hidden * index.head_dim
        yield "self_attn.indexer.weights_proj", "attention", arch.hidden * index.heads


def _gqa(spec: GQA, arch: Architecture) -> dict[str, int]:
    queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    return {
        "q_proj": arch.hidden * queries * (2 if arch.extras.attention_gate else 1),
        "k_proj": arch.hidden * keys,
        "v_proj": arch.hidden * keys,
        "o_proj": queries * arch.hidden,
    }


def _mla(spec: MLA, hidden: int) -> dict[str, int]:
    query = spec.heads * (spec.nope_dim + spec.rope_dim)
    queries = (
        {"q_proj": hidden * query}
        if spec.q_rank is None
        else {"q_a_proj": hidden * spec.q_rank, "q_b_proj": spec.q_rank * query}
    )
    return queries | {
        "kv_a_proj_with_mqa": hidden * (spec.kv_rank + spec.rope_dim),
        "kv_b_proj": spec.kv_rank * spec.heads * (spec.nope_dim + spec.v_dim),
        "o_proj": spec.heads * spec.v_dim * hidden,
    }


def _feeding(arch: Architecture, layer: int) -> Iterator[tuple[str, str, int]]:
    """Feed-forward of a layer: dense, or experts with their router."""
    bank = arch.experts
    if bank is None or not arch.is_moe_layer(layer):
        yield from _network("mlp", "ffn", arch.hidden * arch.ffn_width, arch.gated)
        return
    if bank.router.kind != "hash":
        yield "mlp.gate", "router", bank.count * arch.hidden
    yield from _network("mlp.experts.0", "experts", bank.count * arch.hidden * bank.width, arch.gated)
    if bank.shared:
        yield from _network("mlp.shared_experts", "shared", arch.hidden * bank.shared_total_width, arch.gated)
        if bank.shared_gate:
            yield "mlp.shared_expert_gate", "shared", arch.hidden


def _network(name: str, component: str, elements: int, gated: bool) -> Iterator[tuple[str, str, int]]:
    for matrix in ("gate_proj", "up_proj", "down_proj") if gated else ("up_proj", "down_proj"):
        yield f"{name}.{matrix}", component, elements


def of_shapes(shapes: Mapping[str, Sequence[int]], experts: int | None) -> list[Matrix]:
    """The matrices among named shapes: of two dimensions, or of three where experts are stacked."""
    totals: dict[tuple[str, str], int] = {}
    for name, component in components(shapes, experts).items():
        if len(shapes[name]) < 2 or component == "norms" or "conv" in name:
            continue
        module = _STACKED.sub(".experts.0.", plain(name))
        key = (re.sub(r"\.experts\.\d+\.", ".experts.0.", module), component)
        totals[key] = totals.get(key, 0) + prod(shapes[name])
    return [Matrix(name, component, elements) for (name, component), elements in totals.items()]
