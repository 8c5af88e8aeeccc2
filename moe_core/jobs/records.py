"""Records: the state of every job, in the queue's own key/value store.

SQLite or Redis alike, each write is atomic and survives a killed process. Each key has one writer
at a time, so that no transaction over several keys is needed:

    job/<id>       whoever submits, then the worker that claimed it
    progress/<id>  the worker that claimed it
    claim/<id>     the worker that runs it; written only if absent
    cancel/<id>    a flag anybody may raise; the next submission or the worker takes it down
    wanted/<id>    when somebody last looked at it; only for jobs that are asked on behalf of an open page
    order/<n>      id of the n-th submission
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from huey.constants import EmptyData

from moe_core.errors import ConfigError
from moe_core.jobs.job import Job, Progress
from moe_core.jobs.transport import guarded

KEPT = 500  # submissions remembered
PATIENCE_S = 30.0  # a page looks every half second; a hidden one rarely, and then asks again


class Records:
    """Job records over a huey storage. Raises StoreError when the storage cannot be used."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def get(self, job_id: str) -> Job | None:
        """The job with its progress and cancel flag folded in; None if there is none."""
        return next(iter(self._load([job_id])), None)

    def newest(self, limit: int) -> list[Job]:
        """The last `limit` submissions, newest first, each job once."""
        with guarded():
            last = int(self._storage.incr("order", 0))
        orders = range(max(1, last - limit + 1), last + 1)
        ids = self._peek([f"order/{n}" for n in orders]).values()
        jobs = self._load(list(dict.fromkeys(value.decode() for value in ids)))
        return sorted(jobs, key=lambda job: -job.order)

    def next_order(self) -> int:
        """A number above every earlier one. Forgets the submission that is now too old."""
        with guarded():
            order = int(self._storage.incr("order"))
            old = self._storage.pop_data(f"order/{order - KEPT}")
        if old is not EmptyData:
            self._forget(bytes(old).decode(), order - KEPT)
        return order

    def put(self, job: Job) -> None:
        """Write the record. Its progress starts anew."""
        with guarded():
            self._storage.put_data(f"job/{job.job_id}", job.model_dump_json().encode())
            self._storage.put_data(f"order/{job.order}", job.job_id.encode())
            self._storage.delete_data(f"progress/{job.job_id}")

    def put_progress(self, job_id: str, progress: Progress) -> None:
        """Write how far a running job is."""
        with guarded():
            self._storage.put_data(f"progress/{job_id}", progress.model_dump_json().encode())

    def claim(self, job_id: str, worker: str) -> bool:
        """Take the job for `worker`; False if another has it. One of many callers wins."""
        with guarded():
            return bool(self._storage.put_if_empty(f"claim/{job_id}", worker.encode()))

    def claimant(self, job_id: str) -> str | None:
        """Name of the worker that claimed the job, if any."""
        value = self._peek([f"claim/{job_id}"]).get(f"claim/{job_id}")
        return value.decode() if value else None

    def release(self, job_id: str) -> None:
        """Give the claim back."""
        with guarded():
            self._storage.delete_data(f"claim/{job_id}")

    def raise_flag(self, job_id: str) -> None:
        """Ask for the job to be cancelled."""
        with guarded():
            self._storage.put_data(f"cancel/{job_id}", b"1")

    def lower_flag(self, job_id: str) -> None:
        """Withdraw the wish to cancel."""
        with guarded():
            self._storage.delete_data(f"cancel/{job_id}")

    def flagged(self, job_id: str) -> bool:
        """Whether somebody asked for the job to be cancelled."""
        with guarded():
            return bool(self._storage.has_data_for_key(f"cancel/{job_id}"))

    def want(self, job_id: str, at: float) -> None:
        """Somebody waits for it now."""
        with guarded():
            self._storage.put_data(f"wanted/{job_id}", str(at).encode())

    def wanted(self, job_id: str) -> float | None:
        """When somebody last waited for it; None for a job that runs whether anybody waits or not."""
        value = self._peek([f"wanted/{job_id}"]).get(f"wanted/{job_id}")
        return None if value is None else float(value)

    def keep(self, job_id: str) -> None:
        """Run it whether anybody waits or not."""
        with guarded():
            self._storage.delete_data(f"wanted/{job_id}")

    def _load(self, ids: Sequence[str]) -> list[Job]:
        found = self._peek([f"{kind}/{i}" for i in ids for kind in _FOLDED])
        jobs = []
        for job_id in ids:
            record = found.get(f"job/{job_id}")
            job = _parse(record) if record else None
            if job:
                flagged, wanted = f"cancel/{job_id}" in found, found.get(f"wanted/{job_id}")
                jobs.append(_fold(job, found.get(f"progress/{job_id}"), flagged, wanted))
        return jobs

    def _peek(self, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        with guarded():
            for start in range(0, len(keys), 400):  # SQLite's limit of parameters is 999 in old versions
                found.update(self._storage.peek_many(keys[start : start + 400]))
        return {key: bytes(value) for key, value in found.items()}

    def _forget(self, job_id: str, order: int) -> None:
        job = self.get(job_id)
        if job and (job.order != order or job.active):  # submitted again since, or still to run
            return
        with guarded():
            for kind in _FOLDED:
                self._storage.delete_data(f"{kind}/{job_id}")


_FOLDED = ("job", "progress", "cancel", "wanted")


def _parse(record: bytes) -> Job | None:
    """None for a record of another version: it is as good as none."""
    try:
        return Job.parse_json(record)
    except ConfigError:
        return None


def _fold(job: Job, progress: bytes | None, flagged: bool, wanted: bytes | None) -> Job:
    """What a reader should see: a job that waits counts as cancelled when flagged, or when nobody waits."""
    if job.status == "queued" and flagged:
        return job.changed(status="cancelled", stage="cancelled", error="cancelled before it started")
    alone = wanted is not None and time.time() - float(wanted) > PATIENCE_S
    if job.status == "queued" and alone and not job.when_idle:
        return job.changed(status="cancelled", stage="cancelled", error="cancelled: nobody waited for it")
    if job.status == "running" and progress:
        job = job.changed(**dict(Progress.parse_json(progress)))
    if job.status == "running" and flagged:
        job = job.changed(stage="cancelling", eta_s=None)
    return job
