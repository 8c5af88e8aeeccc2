"""Origin: whose load the experts of the full size carry.

Even, as the test model records it, or as a real model was served: a trace. Left open, a trace of a model
with as many experts, of which a token takes as many, goes before the test model; one's own goes before one
that ships.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from moe_core.errors import ConfigError, short
from moe_core.runs.layout import RUN_ID

AUTO, EVEN, TEST = "auto", "even", "test"
WORDS = (AUTO, EVEN, TEST)


class ServedTrace(NamedTuple):
    """A trace that is here: what it is called, whose it is, and experts and top-k of its layers."""

    run_id: str
    title: str
    model: str
    experts: int
    top_k: int
    created: datetime
    shipped: bool


def chosen(origin: str, bank: tuple[int, ...] | None, traces: Sequence[ServedTrace]) -> str:
    """`EVEN`, `TEST`, or the run id of a trace. Raises ConfigError for one that is not here.

    bank: experts and top-k of the scenario's mixture; None if it has none.
    """
    if origin in (EVEN, TEST):
        return origin
    if origin != AUTO:
        if all(one.run_id != origin for one in traces):
            raise ConfigError(f"load ({short(origin)}): must be {', '.join(WORDS)} or a trace that is here")
        return origin
    alike = [one for one in traces if bank is not None and (one.experts, one.top_k) == tuple(bank[:2])]
    best = max(alike, key=lambda one: (not one.shipped, one.created), default=None)
    return TEST if best is None else best.run_id


def check(origin: str) -> str:
    """`origin`, if it is a word or could be the id of a run. Raises ConfigError."""
    if origin not in WORDS and not RUN_ID.fullmatch(origin):
        raise ConfigError(f"load ({short(origin)}): must be {', '.join(WORDS)} or the id of a trace")
    return origin
