"""The work behind an answer, counted: what a moved knob asks anew. Times are `benchmarks.decide`'s."""

from __future__ import annotations

from typing import Any

import pytest

from moe_core.decide import clock, layout, pace, serving
from moe_core.decide.counter import counters
from moe_core.decide.flips import between, curve
from moe_core.decide.serving import Serving
from moe_core.decide.spec import DecideSpec
from moe_core.decide.verdict import Verdict, decide
from moe_core.silicon import predict, tables
from tests.decide.test_serving import serve

KEPT = (clock._between, clock._node, layout.layouts, layout._group, pace.throughput, pace.rate)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each prediction of a step."""
    found: list[str] = []

    def counted(*args: Any, **options: Any) -> predict.Prediction:
        found.append(args[0].name)
        return predict.predict(*args, **options)

    monkeypatch.setattr(clock, "predict", counted)
    return found


def page(hardware: str = "H100", precision: str = "bf16", **work: Any) -> Verdict:
    """What the first page asks: a verdict, the margin over the batch, its flips, what speaks against it."""
    pair = {"preset": "chat", "mixture": "Qwen3-30B-A3B", "rule": "sqrt", "precision": precision}
    found = decide(DecideSpec.of({**pair, "hardware": hardware, "devices": None, "workload": work}))
    between(found, "batch", curve(found, "batch"))
    counters(found)
    return found


def test_a_moved_batch_predicts_next_to_nothing(asked: list[str]) -> None:
    page(batch=16)
    asked.clear()
    for batch in (5, 11, 24):
        page(batch=batch)
    assert len(asked) <= 8


def test_a_question_that_nobody_asked_takes_some_hundred_predictions(asked: list[str]) -> None:
    page(batch=16, context=7000, output=300)
    assert 0 < len(asked) <= 500
    asked.clear()
    page(batch=16, context=7100, output=300)
    assert len(asked) <= 20


def test_a_curve_is_judged_once_for_all_places_of_its_knob(monkeypatch: pytest.MonkeyPatch) -> None:
    page(batch=16)
    made: list[Serving] = []
    monkeypatch.setattr(serving, "exp", lambda x: made.append(x) or 1.0)  # every Serving stretches its times
    page(batch=17)
    assert len(made) <= 12


def test_no_visitor_of_a_server_waits_for_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    tables.preload()
    for one in KEPT:
        one.cache_clear()
    monkeypatch.setattr(tables, "_connection", lambda: pytest.fail("a table was read"))
    for hardware, precision in (("H200", "fp8"), ("A100 80GB", "int4"), ("B200", "bf16")):
        page(hardware, precision, batch=16)


def test_what_was_asked_before_changes_no_answer() -> None:
    """A link of 1 GB/s bounds what is sent; what others read must not be bounded by it."""
    times = []
    for links in ((900.0, 1.0), (1.0, 900.0)):
        for one in KEPT:
            one.cache_clear()
        steps = {link: serve(devices=8, link_gbs=link, workload={"batch": 4}).step.seconds for link in links}
        times.append((steps[900.0], steps[1.0]))
    assert times[0] == times[1]
