"""Seconds from a question in the queue to its heatmap, and to the last chart, when everything is measured.

    python -m benchmarks.queue_to_chart [--repeats 3] [--store]
    python tests/busy.py --load 6 --torch -- python -m benchmarks.queue_to_chart --store --busy

Promised on two cores: a heatmap in 2 s and everything in 6 s (8 s without AMX) on an idle machine, 8 s and
30 s beside a load of six, and at most 15 s of processor time. A live worker in a process of its own, warm; a
new store; the default question of `moescope run`. Every repeat has another seed, so that nothing is answered
from a store or a cache of carved models.
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

import psutil

from benchmarks import machine
from moe_core.device import pick
from moe_core.jobs import heartbeat
from moe_core.jobs.job import Job
from moe_core.jobs.queue import JobQueue
from moe_core.runs import bundle
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.store import ingest, queries, routing
from moe_core.store.db import Store

POLL_S = 0.02


@contextmanager
def live_worker(settings: Settings) -> Iterator[psutil.Process]:
    """A worker on `settings.data_dir`, idle and warm; ended afterwards."""
    environment = os.environ | {"MOE_DATA_DIR": str(settings.data_dir), "MOE_WORKER": "external"}
    command = [sys.executable, "-m", "moe_core", "worker"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        _wait(lambda: (seen := heartbeat.read(settings.data_dir)) and seen.beat.phase == "idle", process)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def measure(settings: Settings, store: Store, worker: psutil.Process, spec: RunSpec) -> dict[str, Any]:
    """One question, from submit to the heatmap's frame, and on to everything."""
    queue = JobQueue(settings)
    try:
        start, before = time.perf_counter(), _spent(worker)
        job_id = queue.submit(spec).job_id
        run_id = _until(queue, job_id, lambda job: job.run_id)
        ingest.ingest_run(store, run_id)
        frame = routing.load(store, run_id)
        heatmap = time.perf_counter() - start
        _until(queue, job_id, lambda job: job.status == "done")
        ingest.ingest_run(store, run_id)
        queries.timings(store, run_id)
        total = time.perf_counter() - start
    finally:
        queue.close()
    assert frame["pairs"].sum() == spec.batch * spec.seq * spec.top_k * frame["layer"].nunique()
    found = bundle.read(settings.runs_dir / run_id).manifest
    return {
        "stages": found.stages,
        "repeats": found.summary["repeats"],
        "prefill_s": found.summary["prefill_s"],
        "decode_s": found.summary["decode_s"],
        "busy": found.provenance["busy"],
        "waiting": found.provenance["waiting"],
        "run": found.duration_s,
        "processor": _spent(worker) - before,
        "heatmap": heatmap,
        "total": total,
    }


def _until(queue: JobQueue, job_id: str, condition: Callable[[Job], Any]) -> Any:
    """What `condition` gives once it holds of the job."""
    while (job := queue.get(job_id)) is None or not condition(job):
        if job and not job.active:
            raise SystemExit(f"the run ended as {job.status}: {job.error}")
        time.sleep(POLL_S)
    return condition(job)


def _spent(worker: psutil.Process) -> float:
    times = worker.cpu_times()
    return float(times.user + times.system)


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
    parser.add_argument("--busy", action="store_true", help="name the result as one of a busy machine")
    parser.add_argument("--store", action="store_true", help="write the result under benchmarks/results")
    options = parser.parse_args()
    found: dict[str, Any] = {"environment": machine.environment(pick("auto")), "runs": []}
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(data_dir=Path(directory) / "state").prepare()
        store = Store.open(settings)
        with live_worker(settings) as worker:
            for seed in range(options.repeats):
                row = measure(settings, store, worker, RunSpec(seed=seed))
                found["runs"].append(row)
                parts = {name: round(row[name], 2) for name in ("heatmap", "total", "processor", "repeats")}
                print(
                    parts, {name: round(s, 2) for name, s in row["stages"].items()}, row["busy"], flush=True
                )
        store.close()
    for name in ("heatmap", "total", "processor"):
        found[f"median_{name}_s"] = median(row[name] for row in found["runs"])
        print(f"median {name} {found[f'median_{name}_s']:.2f} s")
    if options.store:
        machine.store("queue-to-chart-busy" if options.busy else "queue-to-chart", found)


if __name__ == "__main__":
    main()
