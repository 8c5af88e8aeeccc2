"""Provenance: what a run's numbers depend on, written beside them."""

from __future__ import annotations

import platform
from datetime import datetime
from typing import Any

import torch

from moe_core.device import DeviceInfo, dtype_name
from moe_core.runs.question import Question
from moe_core.version import __version__, code_version, commit


def of(question: Question) -> dict[str, Any]:
    """Device, versions, commit, date and seed. A lab adds the rules it followed."""
    info = question.info
    return of_any(info, question.asked, question.spec.seed) | {
        "threads": info.threads,
        "prefill_threads": question.teams.prefill or info.threads,
        "decode_threads": question.teams.decode or info.threads,
        "capability": info.capability,
        "driver": info.driver,
        "cuda": info.cuda,
        "dtype": dtype_name(question.dtype),
        "kernel": question.kernels.prefill,
        "decode_kernel": question.kernels.decode,
        "chosen_by": question.tuning.source,  # dtype and kernels, where the question left them open
        "text": question.sample.rule,
    }


def of_any(info: DeviceInfo, asked: datetime, seed: int) -> dict[str, Any]:
    """What every run says, whatever it ran: device, versions, commit, date and seed."""
    return {
        "device": info.name,
        "device_kind": info.kind,
        "device_key": info.key,
        "memory_bytes": info.memory_bytes,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "moescope": __version__,
        "code_version": code_version(),
        "commit": commit(),
        "platform": platform.platform(terse=True),
        "date": asked.date().isoformat(),
        "seed": seed,
    }
