"""Context: what a run sees of the world that asked for it. Progress out; cancel, time limit and pressure in.

A run calls `step` between two pieces of work, never inside a timed region. No torch here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from moe_core import pressure
from moe_core.errors import CancelledError
from moe_core.pressure import Busy, Counters

REPORT_EVERY_S = 0.1  # at most ten reports a second, and one at every new stage
CHECK_EVERY_S = 0.05  # a look at the cancel flag costs about 50 us


class RunContext:
    """Reports progress, and stops the run between two steps. `RunContext()` does neither.

    time_limit_s  seconds from now after which `step` raises.
    report        called as report(stage, fraction, eta_s): eta_s in seconds, None when unknown.
    check         raises to stop the run: CancelledError, or a kind of it.
    settle        adapts how threads wait to how busy the machine is; returns how they wait now.
    published     called with a run id when a part of the run can be seen.
    show          called with what was measured so far, as plain values, for pages that draw it live.
    """

    def __init__(
        self,
        *,
        time_limit_s: float = math.inf,
        report: Callable[[str, float, float | None], None] | None = None,
        check: Callable[[], None] | None = None,
        settle: Callable[[], str] = lambda: "as the library does",
        published: Callable[[str], None] = lambda run_id: None,
        show: Callable[[Mapping[str, Any]], None] = lambda values: None,
        clock: Callable[[], float] = time.monotonic,
        look: Callable[[], Counters] = pressure.look,
    ) -> None:
        self._limit, self._report, self._check, self._clock = time_limit_s, report, check, clock
        self._settle, self._look, self.published, self.show = settle, look, published, show
        self._start = clock()
        self._looks: dict[str, Counters] = {"": look()}  # at the start, and at the start of each stage
        self._waits: dict[str, None] = {}  # how threads waited, in the order it was seen
        self._stage, self._stage_start = "", self._start
        self._reported = self._checked = -math.inf
        self._seconds: dict[str, float] = {}

    def step(self, stage: str, fraction: float) -> None:
        """Say that `stage` goes on and that `fraction` (0 to 1) of the whole run is behind.

        Raises CancelledError when the run was cancelled or is out of time.
        """
        assert 0.0 <= fraction <= 1.0, f"fraction {fraction} of stage {stage}"
        now = self._clock()
        fresh = stage != self._stage
        if fresh:
            self._close_stage(now)
            self._stage, self._stage_start = stage, now
            self._looks.setdefault(stage, self._look())
        self._waits[self._settle()] = None
        self._enforce(now)
        if self._report and (fresh or now - self._reported >= REPORT_EVERY_S):
            self._reported = now
            self._report(stage, fraction, remaining(now - self._start, fraction))

    def left_s(self, share: float = 1.0) -> float:
        """Seconds until `share` of the time limit is used up; infinite without a limit."""
        return self._limit * share - self.elapsed_s

    def busy(self, since: str) -> Busy:
        """How busy the machine was from the start of a stage, or of the run, until now."""
        return pressure.between(self._looks.get(since, self._looks[""]), self._look())

    @property
    def waiting(self) -> str:
        """How threads waited for one another: one way, or several with "then" between them."""
        return ", then ".join(self._waits)

    @property
    def elapsed_s(self) -> float:
        """Seconds since this context was made."""
        return self._clock() - self._start

    @property
    def stages(self) -> dict[str, float]:
        """Seconds spent in each stage so far, the current one included."""
        now = self._clock()
        spent = dict(self._seconds)
        if self._stage:
            spent[self._stage] = spent.get(self._stage, 0.0) + now - self._stage_start
        return spent

    def _close_stage(self, now: float) -> None:
        if self._stage:
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._stage_start

    def _enforce(self, now: float) -> None:
        if now - self._start > self._limit:
            raise CancelledError(
                f"stopped in stage '{self._stage}': time_limit_s ({self._limit:g}) ran out; "
                "ask for fewer tokens, or again when the machine has less to do"
            )
        if self._check and now - self._checked >= CHECK_EVERY_S:
            self._checked = now
            self._check()


def remaining(elapsed_s: float, fraction: float) -> float | None:
    """Seconds left if the rest goes at the pace so far; None before there is a pace to speak of."""
    if fraction <= 0.0 or elapsed_s <= 0.0:
        return None
    return elapsed_s * (1.0 - fraction) / fraction
