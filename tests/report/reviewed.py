"""A review to tell: four scenarios, a verdict, notes in two directions, a log."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from moe_core.decide.case import Recorded
from moe_core.decide.spec import DecideSpec
from moe_core.decide.verdict import decide
from moe_core.report.decided import Decided, keep
from moe_core.review import Case, Decision, Entry, Review, Saved
from tests.report.examples import case

WHEN = datetime(2026, 11, 22, 12, 30)
MODELS = ("Mixtral-8x7B", "Llama-2-70B", "DeepSeek-V3", "Qwen3-30B-A3B")


def kept(name: str, model: str = "Mixtral-8x7B", note: str = "") -> Case:
    """A scenario as a review keeps it."""
    resolved = case(model).model_dump(mode="json")
    return Case.parse({"name": name, "parameters": {"batch": "8"}, "resolved": resolved, "note": note})


def review(**changes: Any) -> Review:
    """Four published models for one question."""
    values: dict[str, Any] = {
        "title": "A mixture for the support chat?",
        "question": "Which model serves 64 sequences on H100?",
        "scenarios": tuple(kept(name, name) for name in MODELS),
        "verdict": {
            "sentence": "Mixture: Qwen3-30B-A3B fits one device",
            "margin": 0.31,
            "winner": "mixture",
        },
        "notes": "First.\n\nשלום עולם: הערה בעברית.\n" + "A long note. " * 80,
    }
    return Review.parse(values | changes)


@cache
def verdict(mixture: str = "Qwen3-30B-A3B", dense: str = "Qwen3-14B", **changes: Any) -> Decided:
    """A decision of the two, with what a run of the test model told."""
    heard = Recorded(None, "a run of a test")
    return keep(
        decide(DecideSpec.of({"preset": "chat", "mixture": mixture, "dense": dense} | changes), heard)
    )


def saved(found: Review | None = None, log: tuple[Decision, ...] | None = None) -> Saved:
    """Version 2 of it, with a decision logged."""
    if log is None:
        log = (Decision(who="Ada", what="Take Qwen3-30B-A3B", why="It fits one device."),)
    lines = tuple(Entry(at + 1, WHEN, 1, one) for at, one in enumerate(log))
    return Saved("0123456789abcdef", 2, 2, WHEN, "Ada", found or review(), lines)
