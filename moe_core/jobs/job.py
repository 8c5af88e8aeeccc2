"""Job: one question on its way to an answer.

    queued -> running -> done | failed | infeasible | cancelled
      ^          |
      +----------+  its worker died (once) or was asked to stop

A job that is not queued, running or done may be submitted again. Times are Unix seconds (UTC).
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from moe_core.specs import EXPERIMENTS, RunSpec, Spec

Status = Literal["queued", "running", "done", "failed", "infeasible", "cancelled"]

MAX_ATTEMPTS = 2  # a run whose worker died is tried once more

# A question somebody waits for goes before a sweep; what was interrupted goes first of all.
PRIORITY: dict[str, int] = {
    "bench": 1,
    "layer_sweep": 1,
    "topk_sweep": 0,
    "real_layers": 0,
    "calibrate": 0,
    **dict.fromkeys(EXPERIMENTS, 0),
}
PRIORITY_RETRY = 2


Lane = Literal["bench", "training"]  # what waits in one does not hold up the other
LANES: tuple[Lane, ...] = get_args(Lane)


class Progress(Spec):
    """How far a running job is. `eta_s`: seconds left, None when there is no pace yet."""

    stage: str
    fraction: float
    eta_s: float | None = None
    run_id: str | None = None  # of a part that can be seen already


class Job(Spec):
    """The state of one question. `job_id` is its question id, `order` counts submissions."""

    job_id: str
    spec: RunSpec
    order: int
    submitted: float
    status: Status = "queued"
    stage: str = "queued"
    fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    eta_s: float | None = None
    attempts: int = 0
    error: str | None = None  # one sentence for the user
    failure: str | None = None  # class of that error, e.g. "StoreError"
    run_id: str | None = None
    worker: str | None = None  # name of the worker that took it
    device_key: str | None = None  # identity of the device that worker computes on
    started: float | None = None
    finished: float | None = None
    reused: bool = False  # this submission was answered from the store
    when_idle: bool = False  # to be measured when the machine has nothing else to do

    @property
    def active(self) -> bool:
        """Queued or running: progress is worth watching."""
        return self.status in ("queued", "running")

    @property
    def lane(self) -> Lane:
        """Experiments train for a minute or an hour: they have a worker of their own beside the bench's."""
        return "bench" if self.spec.training is None else "training"

    @property
    def priority(self) -> int:
        """Higher goes first; equals go in order of submission."""
        return PRIORITY_RETRY if self.attempts else PRIORITY[self.spec.lab]

    def changed(self, **values: object) -> Job:
        """A copy with some fields replaced, validated again."""
        return Job.parse({**dict(self), **values})
