"""Which modules an entry names, and patterns that nobody should match."""

from __future__ import annotations

import time

import pytest

from moe_core.hf.block import Unknown
from moe_core.hf.patterns import Names

EXPERT, ROUTER = "layers.3.mlp.experts.0.down_proj", "layers.3.mlp.gate"
SHARED, QUERY = "layers.3.mlp.shared_experts.up_proj", "layers.13.self_attn.q_proj"


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("model.layers.3.mlp", {EXPERT, ROUTER, SHARED}),
        ("model.layers.3.block_sparse_moe.experts.7.w2", {EXPERT}),
        ("gate", {ROUTER}),
        ("model.layers.3.mlp.switch_mlp.down_proj", {EXPERT}),
        ("model.layers.3.experts.switch_glu.down_proj", set()),
        ("block_sparse_moe.experts.w2", {EXPERT}),
        ("block_sparse_moe.experts.0.w2", {EXPERT}),
        ("shared_expert.up_proj", {SHARED}),
        ("mlp.gate", {ROUTER}),
        ("*experts*", {EXPERT, SHARED}),
        ("*.layers.1*", {QUERY}),
        ("model.layers.1.self_attn.q_proj", set()),
        (r"re:.*mlp\.(gate|up|gate_up|down)_proj.*", set()),
        (r"re:.*\.experts\.\d+\..*", {EXPERT}),
        (r"re:.*block_sparse_moe\.gate$", {ROUTER}),
        (r"re:model\.layers\.\d{2}\.self_attn\.[qkv]_proj", {QUERY}),
        (r"re:.*mlp\.(?!experts).*", {ROUTER, SHARED}),
        (r"re:.*(?:self_attn|mlp\.gate)(?:\.q_proj)?$", {QUERY, ROUTER}),
    ],
)
def test_an_entry_names_what_its_scheme_means(entry: str, named: set[str]) -> None:
    names = Names([entry])
    assert {module for module in (EXPERT, ROUTER, SHARED, QUERY) if names.name(module)} == named


@pytest.mark.parametrize(
    "entry",
    [
        *(r"re:(\w+\.?)+!", r"re:(a|b)*x", r"re:((\w+))+!", r"re:(?:\w|\d){2,}!", r"re:(?:(?:\w)*)*!"),
        *(
            r"re:.*.*.*.*.*.*!",
            r"re:\w?\w?\w?\w?\w?\w?!",
            "*a*b*c*d*e*f*",
            "re:(",
            "re:[",
            "re:" + "a" * 1001,
        ),
    ],
)
def test_a_pattern_that_could_take_for_ever_is_refused(entry: str) -> None:
    with pytest.raises(Unknown, match=r"^the pattern "):
        Names([entry]).name(EXPERT)


def test_all_of_them_have_a_time_limit() -> None:
    names, start = Names(["re:.*.*.*.*.*!"]), time.monotonic()
    modules = (f"layers.{layer}.self_attn.q_proj.and.some.more.parts.of.a.name" for layer in range(10_000))
    with pytest.raises(Unknown, match="take too long to match"):
        any(names.name(module) for module in modules)
    assert time.monotonic() - start < 10
