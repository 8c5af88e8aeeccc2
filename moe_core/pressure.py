"""Pressure: how busy this machine is with other work. A measurement says it, and threads wait by it.

Seconds and cores throughout. No torch here, and nothing that disturbs what is being timed: a look costs a
tenth of a millisecond. Only the cores this process may use are looked at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from math import ceil
from pathlib import Path
from typing import NamedTuple

import psutil

from moe_core.specs import Spec

QUIET = 0.15  # of the cores: less other work than this leaves a measurement as it is
_PSI = Path("/proc/pressure/cpu")
_CGROUP = Path("/sys/fs/cgroup")
_IDLE = ("idle", "iowait", "guest", "guest_nice")  # guests are counted in user time already


class Busy(Spec):
    """What happened on the machine during a piece of work: kept beside every measurement.

    others       cores' worth of work that other programs did, hypervisor included.
    waited       share of the time in which some program waited for a core; None where nobody counts it.
    processor_s  processor time of this process. `wall_s`: seconds that passed. `cores`: it may use.
    """

    others: float
    waited: float | None = None
    wall_s: float
    processor_s: float
    cores: int

    @property
    def share(self) -> float:
        """The part of the cores that others took, 0 to 1."""
        return min(1.0, self.others / self.cores)

    @property
    def quiet(self) -> bool:
        """Whether a measurement made meanwhile stands as one of a quiet machine."""
        return self.share <= QUIET


class Counters(NamedTuple):
    """Counters at one moment: this process's processor time, all work on its cores, time spent waiting."""

    wall_s: float
    own_s: float
    all_s: float
    waited_s: float | None


def look() -> Counters:
    """The counters now."""
    own = os.times()
    return Counters(time.monotonic(), own.user + own.system, _work(), _waiting())


def between(start: Counters, end: Counters) -> Busy:
    """What happened from one look to another, 0.1 s apart or more: counters advance in steps of 10 ms."""
    wall, own = end.wall_s - start.wall_s, end.own_s - start.own_s
    others = max(0.0, end.all_s - start.all_s - own) / wall if wall > 0 else 0.0
    waited = None
    if start.waited_s is not None and end.waited_s is not None and wall > 0:
        waited = round(min(1.0, (end.waited_s - start.waited_s) / wall), 3)
    return Busy(
        others=round(others, 3),
        waited=waited,
        wall_s=round(wall, 3),
        processor_s=round(own, 3),
        cores=cores(),
    )


def now(seconds: float = 0.2, sleep: Callable[[float], None] = time.sleep) -> Busy:
    """How busy the machine is at this moment: watches it for so many seconds and does nothing itself."""
    start = look()
    sleep(seconds)
    return between(start, look())


@cache
def cores() -> int:
    """Cores this process may use: its affinity, and a container's quota. At least 1."""
    quota = _quota()
    allowed = len(_affinity())
    return allowed if quota is None else max(1, min(allowed, ceil(quota)))


def _affinity() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _quota() -> float | None:
    """Cores that a container may use at once, None where nothing limits it."""
    try:
        limit, period = (_CGROUP / "cpu.max").read_text().split()[:2]
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:  # the older layout
        limit, period = ((_CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _work() -> float:
    """Seconds of work so far on the cores this process may use, whoever did it, stolen time included."""
    every = psutil.cpu_times(percpu=True)
    mine = [every[core] for core in _affinity() if core < len(every)] or every
    return sum(value for one in mine for name, value in one._asdict().items() if name not in _IDLE)


def _waiting() -> float | None:
    """Seconds so far in which some program was ready and had no core (man 5 proc: /proc/pressure/cpu)."""
    try:
        some = _PSI.read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    except (OSError, ValueError, IndexError):
        return None
