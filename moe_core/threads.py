"""Threads: how many this process computes with, and how they wait for one another, for the machine as it is.

OpenMP threads of GCC's library spin for some milliseconds before they sleep. On an idle machine that makes
a pass of many small products fast (a run of the test model took 7.7 s so, 12.9 s with threads that sleep at
once); beside other programs the spinning takes the very cores that the work waits for (84 to 186 s against 26
to 29). The policy is read once, when torch is imported, but the library has a rule of its own for a process
with more threads than cores: then they spin a thousand turns only, some microseconds. `Waiting` makes use of
that: it holds a second, sleeping team of threads while the machine is busy, and lets it go when it is not.
So a worker that lives for days adapts within a second, without a restart.

Whoever sets `OMP_WAIT_POLICY`, `GOMP_SPINCOUNT` or `OMP_NUM_THREADS` knows better, and is obeyed.
No torch is imported here.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil

from moe_core import pressure
from moe_core.pressure import Counters

Policy = Literal["spinning", "yielding", "as set by the environment", "as the library does"]

OWN_POLICY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
BUSY, CALM = 0.5, 0.25  # cores of other work from which threads no longer spin, and below which they do again
WINDOW_S = 0.25  # between two looks: shorter ones would see single ticks of the clock


def prepare() -> None:
    """Say how many threads the mathematics may use. For before torch is imported; harmless after."""
    os.environ.setdefault("OMP_NUM_THREADS", str(count()))


def count() -> int:
    """Threads to compute with: one a physical core that may be used. Products gain nothing from two."""
    logical = psutil.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or logical
    return max(1, pressure.cores() * min(physical, logical) // logical)


def smaller_teams(most: int) -> list[int]:
    """Numbers of threads to try for work that may be too small for all: `most`, halved again and again, to 1.

    Ascending, so that of two that are alike the smaller one is named first.
    """
    found = []
    while most >= 1:
        found.append(most)
        most //= 2
    return found[::-1]


class Waiting:
    """How this process's threads wait, kept right by calling `settle` between pieces of work.

    `with Waiting() as waiting: ...; waiting.settle()`. One per process: it acts on all threads of torch.
    """

    def __init__(
        self, look: Callable[[], Counters] = pressure.look, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look, self._clock, self._last = look, clock, look()
        self._calm_since: float | None = None
        self._library: ctypes.CDLL | None = None
        self._release: threading.Event | None = None
        self._team: threading.Thread | None = None

    def __enter__(self) -> Waiting:
        self.find_library()
        return self

    def find_library(self) -> None:
        """To be called once torch is imported: before, there are no threads to look after."""
        self._library = None if any(os.environ.get(name) for name in OWN_POLICY) else gcc_library()

    def __exit__(self, *_: object) -> None:
        self._let_go()

    @property
    def policy(self) -> Policy:
        """How threads wait now."""
        if self._library is not None:
            return "yielding" if self._team else "spinning"
        own = any(os.environ.get(name) for name in OWN_POLICY)
        return "as set by the environment" if own else "as the library does"

    def settle(self) -> Policy:
        """Look at the machine, if the last look is old enough, and act on it; how threads wait now."""
        if self._clock() - self._last.wall_s >= WINDOW_S:
            seen = self._look()
            others = pressure.between(self._last, seen).others
            self._last = seen
            self._calm_since = None if others > BUSY else self._calm_since or seen.wall_s
            if others > BUSY:
                self._hold()
            elif others < CALM:
                self._let_go()
        return self.policy

    @property
    def calm_s(self) -> float:
        """Seconds since other work was last seen to take a good part of the machine."""
        return 0.0 if self._calm_since is None else self._clock() - self._calm_since

    def _hold(self) -> None:
        """A second team: the library then counts more threads than cores, and its threads hardly spin."""
        if self._library is None or self._team or pressure.cores() == 1:
            return
        ready, self._release = threading.Event(), threading.Event()
        self._team = threading.Thread(
            target=_second_team, args=(self._library, ready, self._release), name="second team", daemon=True
        )
        self._team.start()
        ready.wait()

    def _let_go(self) -> None:
        if self._team is None or self._release is None:
            return
        self._release.set()
        self._team.join()
        self._team = None


def _second_team(library: ctypes.CDLL, ready: threading.Event, release: threading.Event) -> None:
    """Make a team of threads that do nothing, and keep it, asleep, until it is released.

    `GOMP_parallel` is what compiled code calls to run a function on a team; free(NULL) does nothing.
    The team belongs to this thread, and ends with it.
    """
    try:
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
        library.GOMP_parallel(nothing, None, _team_size(library), 0)
    finally:
        ready.set()
    release.wait()


def _team_size(library: ctypes.CDLL) -> int:
    """So many threads that, with those that compute, there are more than cores."""
    cores, computing = int(library.omp_get_num_procs()), int(library.omp_get_max_threads())
    return max(2, cores - computing + 2)


def gcc_library() -> ctypes.CDLL | None:
    """GCC's OpenMP library, if this process has loaded it; None elsewhere (macOS, other compilers)."""
    with suppress(OSError):
        for path in sorted(
            set(re.findall(r"(/\S*libgomp[^/\s]*\.so\S*)", Path("/proc/self/maps").read_text()))
        ):
            library = ctypes.CDLL(path)
            if all(hasattr(library, name) for name in ("GOMP_parallel", "omp_get_num_procs")):
                return library
    return None
