"""Layer sweep: seconds of one feed-forward layer over tokens, mixture beside dense, kernel beside kernel.

`layer_sweep` takes the test model's middle layer and what it really sees: hidden states of held-out text.
`real_layers` takes published dimensions with random weights: for timing only. Which do not fit is said.

Series of the table `layers`:

* `loop`, `grouped`, `auto`: the mixture layer, router and shared experts included, by kernel.
* `dense`: gated networks of several widths, the active and the total one among them.
* `same_work`: the weights of the experts that were hit read once, each multiplied with its mean number of
  tokens, as one dense network, and the shared experts. What the architecture costs; the rest is code.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from moe_core.device import Timer, computing_with, dtype_name, synchronise
from moe_core.errors import InfeasibleError
from moe_core.labs.subjects import Real, Scale, Size, fitting, real_need, scale_need
from moe_core.runs import admission, answer, tuning
from moe_core.runs import question as questions
from moe_core.runs.context import RunContext
from moe_core.runs.question import Question
from moe_core.specs import RunSpec

TOKENS = tuple(2**i for i in range(13))
KERNELS = ("loop", "grouped", "auto")
POINT_S = 0.5  # for all series at one number of tokens, where calls are short
ROUNDS = (3, 40)  # of calls, at least and at most; the first one more, to warm up
LONG_S = 0.4  # a call that takes longer needs no warming up
SHARE = 0.7  # of the time limit that timing may take
DEAR = 0.12  # of that, for one point of one series: what would cost more is left out


class SweepRow(NamedTuple):
    """One row of the table `layers`. `width`: of the dense network; of a mixture, what a token visits."""

    subject: str
    series: str
    tokens: int
    width: int
    hit: float | None
    repeat: int
    seconds: float


class TimedLayer(Protocol):
    """A layer that can be timed."""

    size: Size

    def mixture(self, kernel: str, tokens: int, turn: int) -> Callable[[], object]:
        """The mixture layer on the next weights."""

    def dense(self, width: int, tokens: int) -> Callable[[], object]:
        """A dense network on the next weights."""

    def hit(self, tokens: int, turn: int) -> float:
        """Experts that these tokens reach."""


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle of a `layer_sweep`.

    Raises ConfigError, InfeasibleError (before anything is allocated), CancelledError, StoreError.
    """
    context.step("check", 0.0)
    question = questions.resolve(spec.model_copy(update={"batch": 16, "seq": max(TOKENS) // 16}))
    wanted = scale_need(question)
    admission.admit(wanted, question.device)
    with admission.memory_guarded(wanted):
        context.step("load", 0.02)
        subject = Scale.load(question)
        found = sweep([lambda: subject], spec, context)
    return _publish(question._replace(spec=spec), context, found, {})


def execute_real(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle of `real_layers`. Raises like `execute`; InfeasibleError when none fits."""
    context.step("check", 0.0)
    question = questions.resolve(spec)
    sizes, missing = fitting(question.device, question.dtype)
    if not sizes:
        raise InfeasibleError("; ".join(missing.values()))
    wanted = real_need(sizes, question.dtype)
    admission.admit(wanted, question.device)
    with admission.memory_guarded(wanted):
        context.step("load", 0.02)
        real = Real.filled(sizes, question)
        found = sweep([lambda size=size: real.of(size) for size in sizes], spec, context)  # type: ignore[misc]
    return _publish(question, context, found, missing)


class Found(NamedTuple):
    """Rows, the layers they are of, and why points are missing: one sentence a series."""

    rows: list[SweepRow]
    sizes: list[Size]
    skipped: dict[str, str]


def sweep(subjects: list[Callable[[], TimedLayer]], spec: RunSpec, context: RunContext) -> Found:
    """Every series over tokens, for every subject an equal share of the time."""
    found = Found([], [], {})
    limit = SHARE * spec.time_limit_s / len(subjects)
    for number, make in enumerate(subjects):
        subject = make()
        found.sizes.append(subject.size)
        with torch.inference_mode():
            for share in _one(subject, limit, found, question_device(subject)):
                whole = (number + share) / len(subjects)
                context.step("sweep", 0.05 + 0.9 * whole)
    return found


def question_device(subject: TimedLayer) -> torch.device:
    """Where a subject computes."""
    return subject.size.device


def _one(subject: TimedLayer, limit: float, found: Found, device: torch.device) -> Iterator[float]:
    """Time one subject; yields the share done, between calls."""
    start, pace = time.monotonic(), dict[str, float]()  # series -> seconds a token, where it was last timed
    whole, done = sum(map(_weight, TOKENS)), 0.0
    known, dtype, size = tuning.known(device), dtype_name(subject.size.dtype), subject.size
    for tokens in TOKENS:
        plan = dict(_series(subject, tokens))
        late = time.monotonic() - start > limit
        for name in list(plan):
            if late or pace.get(name, 0.0) * tokens > DEAR * limit:
                del plan[name]
                reason = f"from {tokens} tokens on: would not end within the time limit"
                found.skipped.setdefault(f"{subject.size.name}, {name}", reason)
        team = known.threads(dtype, 3 * size.hidden * size.active_width, tokens)
        for name, seconds, hit, repeat in _point(plan, device, team):
            series, width = _split(name, subject.size)
            if repeat >= 0:
                found.rows.append(SweepRow(subject.size.name, series, tokens, width, hit, repeat, seconds))
            if repeat <= 0 or seconds / tokens < pace[name]:
                pace[name] = seconds / tokens
            yield (done + 0.5 * _weight(tokens)) / whole
        done += _weight(tokens)


def _weight(tokens: int) -> float:
    """How long a point takes beside the others, roughly."""
    return 256.0 + tokens


Call = Callable[[int], tuple[Callable[[], object], float | None]]  # turn -> (what is timed, experts hit)


def _series(subject: TimedLayer, tokens: int) -> Iterator[tuple[str, Call]]:
    """Name -> how to make a call. Dense networks carry their width in the name."""
    for kernel in KERNELS:
        yield (
            kernel,
            lambda turn, kernel=kernel: (  # type: ignore[misc]
                subject.mixture(kernel, tokens, turn),
                subject.hit(tokens, turn),
            ),
        )
    for width in subject.size.widths:
        yield f"dense {width}", lambda turn, width=width: (subject.dense(width, tokens), None)  # type: ignore[misc]
    yield "same_work", lambda turn: _same_work(subject, tokens, turn)


def _same_work(subject: TimedLayer, tokens: int, turn: int) -> tuple[Callable[[], object], float]:
    size, hit = subject.size, subject.hit(tokens, turn)
    rows = max(1, round(tokens * size.top_k / hit))
    routed = subject.dense(round(hit) * size.width, rows)
    shared = subject.dense(size.shared_width, tokens) if size.shared_width else None

    def call() -> None:
        routed()
        if shared is not None:
            shared()

    return call, hit


def _point(
    plan: Mapping[str, Call], device: torch.device, team: int | None
) -> Iterator[tuple[str, float, float | None, int]]:
    """(series, seconds, hit, repeat) of all series in turn, by a team of threads; repeat -1 is the warm-up.

    A call that takes long is its own warm-up, and two of them are enough.
    """
    spent, rounds, left = 0.0, ROUNDS[0], dict(plan)
    for repeat in range(-1, ROUNDS[1]):
        if repeat >= rounds:
            return
        for name, make in list(left.items()):
            call, hit = make(repeat + 1)
            synchronise(device)
            with computing_with(team), Timer(device) as timer:
                call()
            seconds = timer.seconds
            spent += seconds
            if seconds > LONG_S and repeat >= 0:
                del left[name]
            yield name, seconds, hit, max(repeat, 0) if seconds > LONG_S else repeat
        if repeat == 0 and spent:
            rounds = max(ROUNDS[0], min(ROUNDS[1], int(2 * POINT_S / spent)))


def _split(name: str, size: Size) -> tuple[str, int]:
    series, _, width = name.partition(" ")
    return series, int(width) if width else size.active_width


def _publish(question: Question, context: RunContext, found: Found, missing: Mapping[str, str]) -> Path:
    context.step("write", 0.97)
    columns = {name: [getattr(row, name) for row in found.rows] for name in SweepRow._fields}
    summary: dict[str, Any] = {
        "decisions": 0,
        "subjects": [size.facts() for size in found.sizes],
        "skipped": found.skipped,
        "missing": dict(missing),
        "auto_s": {
            size.name: {str(tokens): _median(found.rows, size.name, tokens) for tokens in (1, 64, 1024)}
            for size in found.sizes
        },
    }
    return answer.publish(
        question, context, {"layers": columns}, summary, {"series": list(KERNELS)}, since="sweep"
    )


def _median(rows: list[SweepRow], subject: str, tokens: int) -> float | None:
    seconds = [r.seconds for r in rows if (r.subject, r.series, r.tokens) == (subject, "auto", tokens)]
    return statistics.median(seconds) if seconds else None
