"""Provenance: what a run's numbers depend on, written beside them."""

from __future__ import annotations

import platform
from datetime import datetime
from typing import Any

import torch

from moe_core.device import DeviceInfo, dtype_name
from moe_core.specs import RunSpec
from moe_core.version import __version__, code_version, commit


def of(spec: RunSpec, info: DeviceInfo, dtype: torch.dtype, created: datetime) -> dict[str, Any]:
    """Device, versions, commit, date and seed. A lab adds the rules it followed."""
    return {
        "device": info.name,
        "device_kind": info.kind,
        "device_key": info.key,
        "threads": info.threads,
        "memory_bytes": info.memory_bytes,
        "capability": info.capability,
        "driver": info.driver,
        "cuda": info.cuda,
        "dtype": dtype_name(dtype),
        "kernel": spec.kernel,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "moescope": __version__,
        "code_version": code_version(),
        "commit": commit(),
        "platform": platform.platform(terse=True),
        "date": created.date().isoformat(),
        "seed": spec.seed,
    }
