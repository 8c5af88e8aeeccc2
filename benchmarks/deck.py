"""How long a review takes to become a deck, HTML and PDF: in a new process, and again in the same one.

    python -m benchmarks.deck [--store]

Four published models on one device. The first time includes imports, the predictor's tables and fonts;
its processor time says what another machine's load has added.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

MODELS = ("Mixtral-8x7B", "Llama-2-70B", "DeepSeek-V3", "Qwen3-30B-A3B")
LIMIT_S, REPEATS = 5.0, 5


def example() -> Any:
    """A review of four models with notes and a log."""
    from moe_core import hardware, registry
    from moe_core.review import Case, Decision, Entry, Review, Saved
    from moe_core.scenario.resolved import Resolved

    device = hardware.get("H100")
    cases = []
    for name in MODELS:
        record = registry.get(name)
        resolved = Resolved(
            label=f"{record.name} as published", architecture=record.architecture, hardware=device.name,
            capacity=device.capacity, batch=8, context=4096,
        )  # fmt: skip
        values = {"name": record.name, "parameters": {}, "resolved": resolved.model_dump(mode="json")}
        cases.append(Case.parse(values))
    review = Review.parse({"title": "Chat", "scenarios": tuple(cases), "notes": "A note. " * 200})
    now = datetime(2026, 1, 1)
    log = tuple(Entry(at, now, 1, Decision(who="A", what="B", why="C " * 40)) for at in range(10))
    return Saved("0" * 16, 1, 1, now, "A", review, log)


def writers() -> dict[str, Callable[[Any], bytes]]:
    from moe_core.report import deck, html, pdf

    return {"deck": deck.deck, "html": html.html, "pdf": pdf.pdf}


def measure() -> dict[str, Any]:
    """Seconds of the first deck from nothing, then medians of every form, story included."""
    begun, worked = time.perf_counter(), time.process_time()
    from moe_core.report.story import tell

    saved, makers = example(), writers()
    makers["deck"](tell(saved))
    found: dict[str, Any] = {
        "deck_first_s": time.perf_counter() - begun,
        "deck_first_cpu_s": time.process_time() - worked,
    }
    for name, write in makers.items():
        spent, size = [], 0
        for _ in range(REPEATS):
            start = time.perf_counter()
            size = len(write(tell(saved)))
            spent.append(time.perf_counter() - start)
        found[f"{name}_s"] = {"median": statistics.median(spent), "most": max(spent), "bytes": size}
    return found


def main() -> None:
    found = measure()
    met = found["deck_first_s"] <= LIMIT_S
    print(json.dumps(found, indent=1))
    print(f"a deck within {LIMIT_S:g} s, from a new process: {'yes' if met else 'NO'}")
    if "--store" in sys.argv:
        import torch

        from benchmarks.machine import environment, store

        store("deck", {"environment": environment(torch.device("cpu")), "limit_s": LIMIT_S, **found})
    sys.exit(not met)


if __name__ == "__main__":
    main()
