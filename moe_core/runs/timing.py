"""Timing: seconds of prefill and of a decode step, whole and by component, dense and mixture in turn.

The total is timed without spans; the components in passes of their own, so that the sum of the
parts can be held against a total that nobody watched. A prompt that takes long is watched and timed at
once: its spans cost a few thousandths of it. Every pass runs on another copy of the weights, so that what
the last pass left in a cache does not flatter the next. Repeats end when enough time was spent.

Legend: B sequences, S prompt tokens, K decode steps.
"""

from __future__ import annotations

import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import cycle
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from moe_core.device import Timer, computing_with
from moe_core.nn.attention import KVCache
from moe_core.nn.model import Decoder
from moe_core.nn.observe import NULL, Null, Observer

WARM_UP_S = 0.1  # of untimed steps, after the passes that measured quality and memory on the same shapes
WATCHED_STEPS = 2  # of a decode, at most, that are timed by component
LONG_S = 0.05  # a prompt so long is watched and timed at once: two hundred spans take 0.4 ms
LEAST_REPEATS = 3
BUDGET_S = 2.5  # of repeats beyond the third


class TimingRow(NamedTuple):
    """One row of the table `timings`."""

    model: str
    phase: str
    component: str
    repeat: int
    seconds: float


class Spans(Null):
    """An observer that times every span with the device's own clock."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._timers: defaultdict[str, list[Timer]] = defaultdict(list)

    def span(self, component: str) -> AbstractContextManager[None]:
        timer = Timer(self._device)
        self._timers[component].append(timer)
        return cast(AbstractContextManager[None], timer)

    def seconds(self) -> dict[str, float]:
        """Component -> seconds, summed over its spans. Waits for the device."""
        return {name: sum(timer.seconds for timer in timers) for name, timers in self._timers.items()}


class Teams(NamedTuple):
    """Threads of the host that compute each kind of pass; None for as many as there are.

    The same ones for both models: a comparison is of models.
    """

    prefill: int | None = None
    decode: int | None = None


class TimedWork(NamedTuple):
    """What is timed: reading a prompt, then K tokens fed one at a time from position `start` on.

    `start` is S, or less where prompt and answer together would pass the last position.
    """

    prompt_BS: Tensor
    answer_BK: Tensor
    start: int
    teams: Teams = Teams()

    @property
    def positions(self) -> int:
        """Positions that the cache must have."""
        return max(self.prompt_BS.shape[1], self.start + self.answer_BK.shape[1])

    @property
    def device(self) -> torch.device:
        return self.prompt_BS.device

    def first(self, steps: int) -> TimedWork:
        """The same with at most so many decode steps."""
        return self._replace(answer_BK=self.answer_BK[:, :steps])

    def prefill(self, rotation: Rotation, observer: Observer) -> float:
        """Seconds to read the prompt into an empty cache, logits of every position included."""
        rotation.cache.rewind(0)
        model = rotation.next()
        with computing_with(self.teams.prefill), Timer(self.device) as timer:
            model(self.prompt_BS, rotation.cache, observer)
        return timer.seconds

    def decode(self, rotation: Rotation, observer: Observer) -> float:
        """Seconds a step, over K steps that follow the prompt in the cache."""
        rotation.cache.rewind(self.start)
        with computing_with(self.teams.decode), Timer(self.device) as timer:
            for token_B1 in self.answer_BK.split(1, dim=1):
                rotation.next()(token_B1, rotation.cache, observer)
        return timer.seconds / self.answer_BK.shape[1]


class Rotation:
    """A model and copies of it, taken in turn; one KV cache, which fits them all."""

    def __init__(self, model: Decoder, copies: int, work: TimedWork) -> None:
        self._turn = cycle([model] + [copy.deepcopy(model) for _ in range(copies - 1)])
        self.cache: KVCache = model.new_cache(work.prompt_BS.shape[0], work.positions)

    def next(self) -> Decoder:
        """The copy that has not run for longest."""
        return next(self._turn)


class Patience(NamedTuple):
    """How many repeats: `wish` at most, `LEAST_REPEATS` at least, those in between within `BUDGET_S` seconds.

    left_s: seconds that may be used altogether. A repeat that would not end within them is not begun,
    if there is one already: on a machine so busy, one measurement is still an answer.
    """

    wish: int
    left_s: Callable[[], float] = lambda: math.inf

    def enough(self, done: int, spent_s: float) -> bool:
        """Whether to stop after `done` repeats that took `spent_s` seconds."""
        if done == 0:
            return False
        over = spent_s * (done + 1) / done > BUDGET_S
        hopeless = spent_s / done > self.left_s()
        return done >= self.wish or hopeless or (over and done >= LEAST_REPEATS)


@torch.inference_mode()
def measure(
    rotations: Mapping[str, Rotation], work: TimedWork, patience: Patience, step: Callable[[float], None]
) -> list[TimingRow]:
    """Every row of the table `timings`. `step(share done)` is called between passes, never inside one.

    Models alternate within a repeat: what disturbs the machine for a while disturbs both.
    """
    step(0.0)
    warm_up(rotations, work)
    rows: list[TimingRow] = []
    start, repeat = time.monotonic(), 0
    while not patience.enough(repeat, time.monotonic() - start):
        for number, name in enumerate(rotations):
            step(min(0.99, (repeat + number / len(rotations)) / patience.wish))
            rows += [TimingRow(name, *row) for row in _one(rotations[name], work, repeat)]
        repeat += 1
    return rows


def warm_up(rotations: Mapping[str, Rotation], work: TimedWork) -> None:
    """Untimed decode steps, of each model in turn. Prompts of this shape were read a moment ago."""
    for rotation in rotations.values():
        rotation.cache.advance(work.start)  # zeros stand for the prompt: nobody reads these logits
    spent = 0.0
    while spent < WARM_UP_S:
        spent += sum(work.first(1).decode(rotation, NULL) for rotation in rotations.values())


def _one(rotation: Rotation, work: TimedWork, repeat: int) -> Iterator[tuple[str, str, int, float]]:
    """Both phases of one repeat. Prefill comes first: it fills the cache that decode reads."""
    spans = Spans(work.device)
    watched_s = work.prefill(rotation, spans)
    plain_s = watched_s if watched_s > LONG_S else work.prefill(rotation, NULL)
    yield "prefill", "total", repeat, plain_s
    yield from (("prefill", part, repeat, seconds) for part, seconds in spans.seconds().items())
    yield "decode", "total", repeat, work.decode(rotation, NULL)
    watched, spans = work.first(WATCHED_STEPS), Spans(work.device)
    watched.decode(rotation, spans)
    steps = watched.answer_BK.shape[1]
    yield from (("decode", part, repeat, seconds / steps) for part, seconds in spans.seconds().items())


def columns(rows: list[TimingRow]) -> dict[str, list[Any]]:
    """The table `timings`."""
    return {name: [getattr(row, name) for row in rows] for name in TimingRow._fields}


def median_total(rows: list[TimingRow], model: str, phase: str) -> float:
    """Median seconds of the plain passes."""
    seconds = [
        row.seconds for row in rows if (row.model, row.phase, row.component) == (model, phase, "total")
    ]
    return float(torch.tensor(seconds, dtype=torch.float64).quantile(0.5))
