"""Specs for properties: few models and lengths, so that what one example predicts serves the next."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from moe_core.decide import rules
from moe_core.decide.spec import DecideSpec

PAIRS = (
    {"mixture": "Mixtral-8x7B", "dense": "Llama-2-70B"},
    {"mixture": "Qwen3-30B-A3B", "dense": "Qwen3-14B"},
    {"mixture": "Qwen3-30B-A3B", "rule": "active"},
    {"mixture": "Mixtral-8x7B", "rule": "total"},
)


@st.composite
def specs(draw: st.DrawFn, traffic: bool = True) -> DecideSpec:
    """A decision that both sides may or may not fit."""
    work: dict[str, Any] = {"context": draw(st.sampled_from((2048, 8192, 32768))), "output": 256}
    if traffic and draw(st.booleans()):
        work["traffic"] = draw(st.floats(0.1, 50.0))
    else:
        work["batch"] = draw(st.integers(1, 128))
    return DecideSpec.of(
        {
            **draw(st.sampled_from(PAIRS)),
            "preset": draw(st.sampled_from(sorted(rules.presets()))),
            "hardware": draw(st.sampled_from(("A100 80GB", "H100", "RTX 4090"))),
            "devices": draw(st.sampled_from((None, 1, 2))),
            "precision": draw(st.sampled_from(("bf16", "int8"))),
            "capacity_gb": draw(st.floats(20.0, 300.0)),
            "budget": draw(st.none() | st.floats(0.1, 20.0)),
            "team": {"training": draw(st.sampled_from(("none", "fine-tune", "from scratch")))},
            "workload": work,
        }
    )
