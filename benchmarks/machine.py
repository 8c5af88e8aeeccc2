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
from moe_core.version import __version__, code_version, commit

RESULTS = ROOT / "benchmarks" / "results"


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
        "device": describe(device)._asdict(),
    }


def store(name: str, found: dict[str, Any]) -> Path:
    """Write `benchmarks/results/<name>-<device kind>-<date>.json`, and say where."""
    facts = found["environment"]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{facts['device']['kind']}-{facts['date'][:10]}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path.relative_to(ROOT)}")
    return path
