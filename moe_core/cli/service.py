"""`serve` and `worker`: the two processes. The first starts the second by itself."""

from __future__ import annotations

import logging
import math
import os
import sys
from typing import Annotated

import typer

from moe_core.cli.output import Json, answer
from moe_core.errors import ConfigError
from moe_core.jobs.heartbeat import WORKER
from moe_core.jobs.job import LANES, Lane
from moe_core.jobs.worker import GRACE_S, Worker, load_experiments, load_labs
from moe_core.settings import ROOT, Settings


def serve(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8501,
    as_json: Json = False,
) -> None:
    """Start the dashboard and print its address. Ctrl-C ends it, and its worker."""
    Settings.load()  # a wrong setting is one sentence here, and a stack of frames in the browser
    entry = ROOT / "app" / "main.py"
    if not entry.exists():
        raise ConfigError(f"{entry} is missing: run this from a complete checkout")
    address = f"http://localhost:{port}"
    answer({"address": address, "pid": os.getpid()}, as_json, [f"MoEScope: {address}  (Ctrl-C ends it)"])
    os.chdir(ROOT)
    command = [sys.executable, "-m", "streamlit", "run", str(entry), "--server.port", str(port)]
    os.execv(sys.executable, command)


def worker(
    name: Annotated[
        str, typer.Option(help="One worker per name: 'worker', then 'worker-1' ... for further devices.")
    ] = WORKER,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
    grace_s: Annotated[float, typer.Option(hidden=True, min=0)] = GRACE_S,
    lane: Annotated[
        str, typer.Option(help="Take only these questions: 'bench' or 'training' (experiments).")
    ] = "",
    idle_s: Annotated[float, typer.Option(hidden=True, min=0)] = math.inf,
    as_json: Json = False,
) -> None:
    """Answer questions from the queue until told to stop (Ctrl-C once: after the step in hand)."""
    if not name.startswith(WORKER) or not name.replace("-", "").isalnum():
        raise ConfigError(f"name ({name}): must be 'worker', or 'worker-' and letters or digits")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = Settings.load()
    load = load_experiments if lane == "training" else load_labs
    one = Worker(
        settings,
        name=name,
        supervised=supervised,
        grace_s=grace_s,
        load=load,
        lanes=_lanes(lane, supervised),
        idle_s=idle_s,
    )
    performed = one.serve()
    answer({"worker": name, "performed": performed}, as_json, [f"{name} ended after {performed} runs"])


def _lanes(lane: str, supervised: bool) -> tuple[Lane, ...]:
    """The lane named, else all; one that has a sibling for experiments leaves them to it."""
    if lane and lane not in LANES:
        raise ConfigError(f"lane ({lane}): must be one of {', '.join(LANES)}")
    if lane:
        return tuple(one for one in LANES if one == lane)
    return ("bench",) if supervised else LANES
