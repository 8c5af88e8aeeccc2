"""A worker whose labs are fakes: real process, real queue, real bundles, no torch.

What a run does is written in its text: `steps` steps of `each` seconds, then `then`, one of
"done", "infeasible", "bug", "memory", "store". A run that is `held` stays in its stage "measure" until
`release`. Run it as `python -m tests.jobs.fake [--supervised]`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from moe_core.errors import InfeasibleError, StoreError
from moe_core.jobs.heartbeat import WORKER
from moe_core.jobs.job import LANES
from moe_core.jobs.worker import Labs, Worker
from moe_core.runs.context import RunContext
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from tests import synthetic

ENDS: dict[str, Exception] = {
    "infeasible": InfeasibleError("needs 93.4 GB, the device has 80.0 GB"),
    "bug": RuntimeError("device-side assert\nand a long tail"),
    "memory": MemoryError(),
    "store": StoreError("the disk is full"),
}


def question(
    steps: int = 1, each: float = 0.02, then: str = "done", held: bool = False, **fields: object
) -> RunSpec:
    """A spec whose fake run does as told. `then` "suicide": kill -9 itself halfway."""
    text = json.dumps({"steps": steps, "each": each, "then": then, "held": held})
    return RunSpec.parse({"text": text, "batch": 1, "seq": 16, **fields})


def lab(spec: RunSpec, context: RunContext) -> Path:
    """Do what the text says, then publish a small synthetic bundle."""
    plan = json.loads(spec.text or "{}")
    steps = plan.get("steps", 1)
    for step in range(steps):
        context.step("load" if step == 0 else "measure", step / steps)
        time.sleep(plan.get("each", 0.02))
        if plan.get("then") == "suicide" and step == steps // 2:
            os.kill(os.getpid(), signal.SIGKILL)
    context.show({"lab": spec.lab, "series": [], "loads": []})
    while plan.get("held") and not _gate(Settings.load()).exists():
        context.step("measure", 0.5)
        time.sleep(0.01)
    if plan.get("then", "done") in ENDS:
        raise ENDS[plan["then"]]
    context.step("record", 0.99)
    return synthetic.write_bundle(Settings.load().runs_dir, spec, layers=1)


def release(settings: Settings) -> None:
    """Let held runs of this installation go on, those to come as well."""
    _gate(settings).touch()


def _gate(settings: Settings) -> Path:
    return settings.data_dir / "released"


def labs() -> Labs:
    """Nothing to load."""
    return Labs({"bench": lab, "topk_sweep": lab, "collapse": lab}, "Fake CPU", "cpu-fake")


def wait_for(condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Poll until `condition` holds; so long only where something is wrong."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(0.01)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    grace = float(os.environ.get("FAKE_GRACE_S", "30"))
    said = dict(zip(sys.argv, sys.argv[1:], strict=False))
    supervised = "--supervised" in sys.argv
    lanes = ("training",) if said.get("--lane") == "training" else ("bench",) if supervised else LANES
    performed = Worker(
        Settings.load(),
        name=said.get("--name", WORKER),
        supervised=supervised,
        grace_s=grace,
        load=labs,
        lanes=lanes,
        idle_s=float(os.environ.get("FAKE_IDLE_S", said.get("--idle-s", "inf"))),
    ).serve()
    print(f"performed {performed}", flush=True)
