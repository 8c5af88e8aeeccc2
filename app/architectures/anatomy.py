"""Anatomy: one layer of a model in words and boxes. No Streamlit here."""

from __future__ import annotations

from typing import Any

import pandas as pd

from app.figure import percent
from moe_core.perf.params import Breakdown, attention, ffn, moe_layer
from moe_core.report.text import many
from moe_core.specs import GQA, Architecture, Router
from moe_core.units import count

_CELLS = 32  # experts drawn; more are written as a number
Row = dict[str, Any]


def boxes(arch: Architecture, parts: Breakdown) -> tuple[pd.DataFrame, pd.DataFrame]:
    """From top to bottom: embedding, one layer with experts if there is one, the other kind, head; cells."""
    middle, cells = _experts(arch)
    rows = [
        _row("Embedding", f"{arch.vocab:,} × {arch.hidden:,}", parts.embedding, "embedding and head", True)
    ]
    rows.append(
        _row(
            "Norm and attention",
            attention_words(arch),
            attention(arch.attention, arch.hidden, arch.extras),
            "attention, router, norms",
        )
    )
    first = len(rows)
    rows += middle + _dense(arch)
    tied = "the embedding again" if arch.tied else f"{arch.hidden:,} × {arch.vocab:,}"
    rows.append(_row("Final norm and head", tied, parts.head, "embedding and head", True))
    frame = pd.DataFrame(rows).assign(y=range(len(rows)))
    return frame, pd.DataFrame(cells).assign(y=first + 2) if cells else pd.DataFrame()


def _row(label: str, note: str, weights: int, part: str, outside: bool = False) -> Row:
    left, right = (0.0, 10.0) if outside else (0.4, 9.6)
    exact = f"{weights:,}" if weights else "none of its own"
    return {"label": label, "note": note, "exact": exact, "part": part, "x": left, "x2": right}


def _experts(arch: Architecture) -> tuple[list[Row], list[Row]]:
    """Router, experts, a row for their squares, shared experts; and the squares."""
    bank, sparse = arch.experts, len(arch.moe_layers)
    if bank is None or not sparse:
        return [], []
    layer = moe_layer(bank, arch.hidden, arch.gated, arch.extras)
    where = f"{sparse} of {many(arch.layers, 'layers')}"
    rows = [
        _row("Norm and router", f"{bank.top_k} of {bank.count}", layer.router, "attention, router, norms"),
        _row(
            many(bank.count, "experts"),
            f"{count(layer.experts // bank.count)} each, width {bank.width:,}; {where}",
            layer.experts,
            "experts",
        ),
        _row("", "", layer.experts, "experts"),
    ]
    if bank.shared:
        note = f"width {bank.shared_total_width:,}, every token"
        rows.append(_row(f"{bank.shared} shared", note, layer.shared, "shared experts"))
    return rows, _cells(bank.count, bank.top_k)


def _dense(arch: Architecture) -> list[Row]:
    """The feed-forward of layers without experts."""
    dense = arch.layers - len(arch.moe_layers)
    if not dense:
        return []
    size = ffn(arch.hidden, arch.ffn_width, arch.gated, arch.extras.ffn_bias)
    where = f"the other {many(dense, 'layers')} instead" if arch.moe_layers else many(dense, "layers")
    return [_row("Dense feed-forward", f"width {arch.ffn_width:,}; {where}", size, "dense FFN")]


def _cells(experts: int, top_k: int) -> list[Row]:
    """A row of squares; the chosen ones are spread so that they read as a choice."""
    drawn = min(experts, _CELLS)
    chosen = max(1, round(top_k * drawn / experts))
    picked = {round((i + 0.5) * drawn / chosen - 0.5) for i in range(chosen)}
    wide = 8.8 / drawn
    return [{"x": 0.6 + i * wide, "x2": 0.6 + (i + 0.82) * wide, "on": i in picked} for i in range(drawn)]


def attention_words(arch: Architecture) -> str:
    """`GQA, 32 heads, 8 KV heads of 128`; `MLA, 128 heads, latent 512 + 64`."""
    spec = arch.attention
    if not isinstance(spec, GQA):
        return f"MLA, {spec.heads} heads, latent {spec.kv_rank} + {spec.rope_dim}"
    kind = "MHA" if spec.kv_heads == spec.heads else "MQA" if spec.kv_heads == 1 else "GQA"
    words = f"{kind}, {spec.heads} heads, {spec.kv_heads} KV heads of {spec.head_dim}"
    every = arch.extras.full_every
    if arch.extras.delta is not None:
        return f"{words} in every {every}th layer, linear attention in the others"
    if spec.window:
        where = f" except in every {every}th layer" if every else ""
        return f"{words}, window {spec.window:,}{where}"
    return words


def title(arch: Architecture, parts: Breakdown) -> str:
    """The finding of the block diagram."""
    if arch.experts is None:
        return f"{many(arch.layers, 'layers')} of attention and a feed-forward of width {arch.ffn_width:,}"
    share = percent(parts.experts / parts.total)
    return f"{len(arch.moe_layers)} of {arch.layers} layers have experts, which hold {share} of all weights"


_SCORES = {
    "softmax": "softmax over all experts",
    "softmax_selected": "top-k of the logits, then softmax over the chosen",
    "sigmoid": "a sigmoid of each logit",
    "sqrt_softplus": "the square root of the softplus of each logit",
    "sigmoid_input": "a sigmoid of each logit, which multiplies the expert's input",
    "noisy": "softmax over logits with learned noise",
    "switch": "softmax, top-1 with a capacity; what is over is dropped",
    "expert_choice": "experts choose tokens",
    "hash": "a fixed hash of the token, no weights",
    "unit": "fitted contributions; every weight is 1",
}


def router_words(router: Router) -> str:
    """One sentence on how tokens choose experts."""
    words = [_SCORES[router.kind]]
    if router.selection_bias:
        words.append("a balancing bias for selection only")
    if router.groups > 1:
        words.append(f"only inside the best {router.top_groups} of {router.groups} groups")
    if router.kind in ("softmax", "sigmoid", "sqrt_softplus"):
        words.append("weights sum to 1" if router.renormalise else "weights as scored")
    if router.scaling != 1.0:
        words.append(f"then × {router.scaling:g}")
    if router.capacity_factor is not None:
        words.append(f"capacity factor {router.capacity_factor:g}")
    return "; ".join(words)
