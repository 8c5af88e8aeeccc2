"""Strategies for architectures: every combination that specs allow and that is small enough to build."""

from __future__ import annotations

from hypothesis import strategies as st

from moe_core.specs import GQA, MLA, Architecture, Experts, Router


@st.composite
def gqa(draw: st.DrawFn) -> GQA:
    kv_heads = draw(st.sampled_from([1, 2, 4]))
    return GQA(
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([4, 8, 16])),
        qkv_bias=draw(st.booleans()),
        out_bias=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        window=draw(st.none() | st.integers(1, 64)),
    )


@st.composite
def mla(draw: st.DrawFn) -> MLA:
    return MLA(
        heads=draw(st.sampled_from([2, 4, 8])),
        q_rank=draw(st.none() | st.integers(4, 32)),
        kv_rank=draw(st.integers(4, 32)),
        nope_dim=draw(st.sampled_from([4, 8])),
        rope_dim=draw(st.sampled_from([2, 4])),
        v_dim=draw(st.sampled_from([4, 8])),
    )


@st.composite
def routers(draw: st.DrawFn, experts: int, top_k: int) -> Router:
    kind = draw(st.sampled_from(["softmax", "softmax_selected", "sigmoid", "sqrt_softplus", "noisy", "unit"]))
    groups = draw(st.sampled_from([g for g in (1, 2) if experts % g == 0])) if kind == "sigmoid" else 1
    return Router(
        kind=kind,
        bias=draw(st.booleans()),
        selection_bias=kind in ("sigmoid", "sqrt_softplus") and draw(st.booleans()),
        groups=groups,
        top_groups=groups,
    )


@st.composite
def experts(draw: st.DrawFn) -> Experts:
    count = draw(st.integers(1, 8))
    top_k = draw(st.integers(1, count))
    shared = draw(st.integers(0, 2))
    return Experts(
        count=count,
        top_k=top_k,
        width=draw(st.integers(1, 24)),
        shared=shared,
        shared_width=draw(st.none() | st.integers(1, 24)),
        shared_gate=draw(st.booleans()),
        router=draw(routers(count, top_k)),
    )


@st.composite
def architectures(draw: st.DrawFn, attention: st.SearchStrategy[GQA | MLA] | None = None) -> Architecture:
    return Architecture(
        hidden=draw(st.sampled_from([8, 12, 32])),
        layers=draw(st.integers(1, 5)),
        vocab=draw(st.integers(1, 300)),
        attention=draw(gqa() if attention is None else attention),
        ffn_width=draw(st.integers(1, 48)),
        experts=draw(st.none() | experts()),
        first_dense=draw(st.integers(0, 6)),
        moe_every=draw(st.integers(1, 3)),
        gated=draw(st.booleans()),
        tied=draw(st.booleans()),
        max_positions=64,
    )
