"""Small models for tests: big enough to route, small enough to run in milliseconds."""

from __future__ import annotations

from moe_core.nn.model import Decoder, initialise
from moe_core.specs import GQA, Architecture, Experts


def architecture(experts: Experts | None = None, **changes: object) -> Architecture:
    values: dict[str, object] = {
        "hidden": 32,
        "layers": 2,
        "vocab": 256,
        "attention": GQA(heads=4, kv_heads=2, head_dim=8),
        "ffn_width": 48,
        "experts": experts,
        "tied": True,
        "max_positions": 64,
    }
    return Architecture(**(values | changes))


def decoder(experts: Experts | None = None, seed: int = 0, **changes: object) -> Decoder:
    model = Decoder(architecture(experts, **changes))
    initialise(model, seed)
    return model.eval()
