"""What a benchmark's numbers depend on: hardware, versions, commit, date. None is stored without."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from moe_core.device import describe
from moe_core.settings import ROOT
from moe_core.threads import Waiting
from moe_core.version import __version__, code_version, commit

RESULTS = ROOT / "benchmarks" / "results"
WAITING = Waiting()  # how this process's threads wait, as in a worker
WAITING.find_library()


def settle() -> str:
    """To be called between two measurements: threads wait as suits the machine now. How they do."""
    return WAITING.settle()


def environment(device: torch.device) -> dict[str, Any]:
    """Device, versions, commit, date, and how busy the machine was before."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "code_version": code_version(),
        "moescope": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "waiting": WAITING.policy,
        "device": describe(device)._asdict(),
    }


def store(name: str, found: dict[str, Any]) -> Path:
    """Write `benchmarks/results/<name>-<device>-<date>.json`, and say where: two machines, two files."""
    facts = found["environment"]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{facts['device']['key']}-{facts['date'][:10]}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path.relative_to(ROOT)}")
    return path
