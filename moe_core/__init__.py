"""MoEScope's engine: real forward passes, routing, cost models and their records."""

from __future__ import annotations

from typing import Any

__all__ = ["record"]


def __getattr__(name: str) -> Any:
    """`record`, when it is asked for: it needs torch, which most of the engine's users never load."""
    if name == "record":
        from moe_core.hf.recorder import record

        return record
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
