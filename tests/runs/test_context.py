"""A run reports its progress and stops when it is told to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import CancelledError
from moe_core.runs.context import REPORT_EVERY_S, RunContext, remaining


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def recorder() -> tuple[list[tuple[str, float, float | None]], Clock, RunContext]:
    reports: list[tuple[str, float, float | None]] = []
    clock = Clock()
    context = RunContext(time_limit_s=10, report=lambda *report: reports.append(report), clock=clock)
    return reports, clock, context


def test_a_bare_context_lets_a_run_be():
    RunContext().step("anything", 0.5)


def test_time_left_follows_the_pace_so_far():
    reports, clock, context = recorder()
    context.step("load", 0.0)
    clock.now += 2.0
    context.step("measure", 0.25)
    assert reports == [("load", 0.0, None), ("measure", 0.25, 6.0)]


def test_a_busy_loop_reports_ten_times_a_second_and_each_new_stage():
    reports, clock, context = recorder()
    for _ in range(1000):  # one second
        context.step("measure", 0.5)
        clock.now += 0.001
    assert len(reports) == pytest.approx(1 / REPORT_EVERY_S, abs=1)
    context.step("record", 0.5)
    assert reports[-1][0] == "record"


def test_a_run_out_of_time_stops_with_field_and_value():
    _, clock, context = recorder()
    context.step("measure", 0.1)
    clock.now += 10.5
    with pytest.raises(CancelledError, match=r"time_limit_s \(10\)"):
        context.step("measure", 0.2)


def test_cancel_is_seen_at_the_next_step():
    flag = []

    def check() -> None:
        if flag:
            raise CancelledError("cancelled")

    clock = Clock()
    context = RunContext(check=check, clock=clock)
    context.step("measure", 0.1)
    flag.append(True)
    clock.now += 0.06
    with pytest.raises(CancelledError, match="cancelled"):
        context.step("measure", 0.2)


def test_stages_add_up_over_returns_to_the_same_stage():
    _, clock, context = recorder()
    for stage, seconds in [("a", 1.0), ("b", 2.0), ("a", 0.5)]:
        context.step(stage, 0.5)
        clock.now += seconds
    assert context.stages == {"a": 1.5, "b": 2.0}
    assert context.elapsed_s == 3.5


@given(st.floats(0.001, 1e6), st.floats(0.001, 1.0))
def test_time_left_is_never_negative_and_ends_at_zero(elapsed: float, fraction: float):
    left = remaining(elapsed, fraction)
    assert left is not None
    assert left >= 0.0
    assert remaining(elapsed, 1.0) == 0.0
