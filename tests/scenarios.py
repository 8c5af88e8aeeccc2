"""Scenarios that every page, file and command is asked: families, devices, formats, work, edits."""

from __future__ import annotations

import json
from typing import Any

from moe_core import registry
from moe_core.scenario.spec import Scenario, work
from moe_core.settings import REFERENCE

FAMILIES = (
    *("Mixtral-8x7B", "DeepSeek-V3", "DeepSeek-V2-Lite", "gpt-oss-20b", "gpt-oss-120b", "OLMoE-1B-7B"),
    *("Qwen1.5-MoE-A2.7B", "Qwen3-30B-A3B", "Qwen3-235B-A22B", "DeepSeekMoE-16B", "Llama-4-Scout-17B-16E"),
    *("GLM-4.5", "Mixtral-8x22B", "DBRX", "Qwen3-Next-80B-A3B"),
)
_MIXTRAL = registry.get("Mixtral-8x7B").architecture
assert _MIXTRAL is not None
OWN = _MIXTRAL.model_copy(update={"name": "Ours", "layers": 24})

CARD = "My card: memory=96 bandwidth=1500 host=32 link=64 price=0.5 watts=450 bf16=200 fp8=400"


TRACE = str(json.loads((REFERENCE / "deepseek-v2-lite" / "manifest.json").read_text())["run_id"])


def _preset(name: str, **said: Any) -> Scenario:
    return Scenario(preset=name, **{**work(name), **said})


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(),
    *(Scenario(name, hardware="H200") for name in FAMILIES),
    *(_preset(name) for name in ("batch", "retrieval", "code", "agentic")),
    *(_preset(name, architecture="Mixtral-8x7B", hardware="H200") for name in ("batch", "retrieval", "code")),
    *(Scenario(hardware=name) for name in ("A100 80GB", "H200", "B200", "L40S", "MI300X", "RTX 4090")),
    *(Scenario(batch=batch) for batch in (1, 2, 8, 64, 256, 1024)),
    *(Scenario("Mixtral-8x7B", batch=batch) for batch in (1, 8, 128)),
    *(Scenario("Mixtral-8x7B", devices=many) for many in (1, 2, 4, 8)),
    *(Scenario("DeepSeek-V3", "H200", devices=many) for many in (8, 16, 32)),
    *(Scenario(precision=form) for form in ("bf16", "fp8", "int4")),
    *(Scenario("Mixtral-8x7B", "A100 80GB", precision=form) for form in ("fp8", "int4")),
    *(Scenario("DeepSeek-V2-Lite", load=load) for load in ("auto", "even", "test")),
    Scenario("Mixtral-8x7B", load=TRACE),
    *(Scenario(experts=experts) for experts in (16, 64, 256)),
    Scenario(top_k=4),
    Scenario(shared=1),
    Scenario("Mixtral-8x7B", experts=32, top_k=8, shared=2),
    *(Scenario(traffic=rate) for rate in (0.5, 5.0, 50.0)),
    Scenario("DeepSeek-V3", "H200", traffic=200.0, devices=16, preset="retrieval", **work("retrieval")),
    Scenario("Mixtral-8x7B", traffic=4.0),
    Scenario(latency_ms=10.0),
    Scenario(latency_ms=1.0),
    Scenario(ttft_ms=50.0, prompt=8192),
    Scenario("gpt-oss-120b", ttft_ms=300.0, latency_ms=20.0),
    Scenario(price=7.5),
    Scenario("Mixtral-8x7B", price=1.0, budget=2.0),
    Scenario(link_gbs=50.0, devices=4),
    Scenario(prompt=131_072),
    Scenario(prompt=3000, answer=700, cached=500),
    Scenario(rival="Llama-3.1-8B"),
    Scenario(rival="total"),
    Scenario("Mixtral-8x7B", rival="active"),
    Scenario("Ours", own=OWN),
    Scenario("Ours", own=OWN, experts=16, batch=4),
    Scenario(seq=128),
    Scenario(hardware=CARD),
    Scenario("OLMoE-1B-7B", hardware="TPU v6e"),
)
