"""Seconds from a question in the queue to the frame that its heatmap draws. At most 6 are promised.

    python -m benchmarks.queue_to_chart [--repeats 3] [--store]

A live worker in a process of its own, warm; a new store; the default question of `moescope run`.
Every repeat has another seed, so that nothing is answered from a store or a cache of carved models.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine
from moe_core.device import pick
from moe_core.jobs import heartbeat
from moe_core.jobs.queue import JobQueue
from moe_core.runs import bundle
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.store import ingest, routing
from moe_core.store.db import Store

POLL_S = 0.02


@contextmanager
def live_worker(settings: Settings) -> Iterator[None]:
    """A worker on `settings.data_dir`, idle and warm; ended afterwards."""
    environment = os.environ | {"MOE_DATA_DIR": str(settings.data_dir), "MOE_WORKER": "external"}
    command = [sys.executable, "-m", "moe_core", "worker"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        _wait(lambda: (seen := heartbeat.read(settings.data_dir)) and seen.beat.phase == "idle", process)
        yield
    finally:
        process.terminate()
        process.wait()


def measure(settings: Settings, store: Store, spec: RunSpec) -> dict[str, Any]:
    """One question, from submit to the heatmap's frame."""
    queue = JobQueue(settings)
    try:
        start = time.perf_counter()
        job_id = queue.submit(spec).job_id
        while (job := queue.get(job_id)) is None or job.active:
            time.sleep(POLL_S)
        if job.status != "done" or job.run_id is None:
            raise SystemExit(f"the run ended as {job.status}: {job.error}")
        answered = time.perf_counter()
        ingest.refresh(store, reference=settings.data_dir / "no reference runs")
        ingested = time.perf_counter()
        frame = routing.load(store, job.run_id)
        drawn = time.perf_counter()
    finally:
        queue.close()
    assert frame["pairs"].sum() == spec.batch * spec.seq * spec.top_k * frame["layer"].nunique()
    found = bundle.read(settings.runs_dir / job.run_id).manifest
    return {
        "stages": found.stages,
        "run": found.duration_s,
        "queue": answered - start - found.duration_s,
        "ingest": ingested - answered,
        "heatmap": drawn - ingested,
        "total": drawn - start,
    }


def _wait(condition: Callable[[], Any], process: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(
                "the worker did not come up: start one with `python -m moe_core worker` and look"
            )
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--store", action="store_true", help="write the result under benchmarks/results")
    options = parser.parse_args()
    found: dict[str, Any] = {"environment": machine.environment(pick("auto")), "runs": []}
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(data_dir=Path(directory) / "state").prepare()
        store = Store.open(settings)
        with live_worker(settings):
            for seed in range(options.repeats):
                row = measure(settings, store, RunSpec(seed=seed))
                found["runs"].append(row)
                parts = {name: round(row[name], 3) for name in ("queue", "run", "ingest", "heatmap", "total")}
                print(parts, {name: round(s, 3) for name, s in row["stages"].items()}, flush=True)
        store.close()
    found["median_total_s"] = median(row["total"] for row in found["runs"])
    print(f"median {found['median_total_s']:.2f} s")
    if options.store:
        machine.store("queue-to-chart", found)


if __name__ == "__main__":
    main()
