"""Tuning, kept: one file a device in the state directory, valid for this device, torch and these kernels."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from moe_core import pressure
from moe_core.device import describe
from moe_core.errors import ConfigError
from moe_core.nn.tuning import NEUTRAL, Tuning
from moe_core.settings import ROOT, Settings
from moe_core.specs import Architecture, RunSpec

SOURCES = ("moe_core/nn", "moe_core/labs/tuning.py", "moe_core/device.py")


def known(device: torch.device) -> Tuning:
    """What is known of this device; the defaults where nothing is. Raises ConfigError for bad settings."""
    return _read(device) or NEUTRAL


def ensure(device: torch.device, measure: Callable[[torch.device], Tuning]) -> Tuning:
    """What is known of this device, measured now where nothing is, or where the machine was busy then."""
    kept = _read(device)
    if kept is not None and kept.busy <= pressure.QUIET:
        return kept
    found = measure(device)
    if kept is not None and found.busy >= kept.busy:
        return kept
    if found.source == "probe":
        _write(device, found)
    return found


def seconds(known: Tuning, dtype: str, spec: RunSpec, architectures: Iterable[Architecture]) -> float | None:
    """Seconds of the linear layers in the passes of a question: the prompt and, on the bench, every step.

    Scores, norms and the head are left out: they take alike in every dtype. None where nothing was measured.
    """
    passes = [(spec.batch * spec.seq, 1)]
    if spec.lab == "bench":
        passes.append((spec.batch, spec.decode_steps))
    total = 0.0
    for arch in architectures:
        for tokens, times in passes:
            one = _layer_s(known, dtype, arch, tokens)
            if one is None:
                return None
            total += times * arch.layers * one
    return total


def threads(known: Tuning, dtype: str, arch: Architecture, tokens: int) -> int | None:
    """Threads to compute a layer for so many tokens with; None for as many as there are."""
    return known.threads(dtype, _active_weights(arch), tokens)


def _active_weights(arch: Architecture) -> int:
    """Weights of a layer that every token meets, routed experts included, idle ones not."""
    bank = arch.experts
    width = arch.ffn_width if bank is None else bank.shared_total_width + bank.top_k * bank.width
    return 4 * arch.hidden**2 + (3 if arch.gated else 2) * arch.hidden * width


def _layer_s(known: Tuning, dtype: str, arch: Architecture, tokens: int) -> float | None:
    """Seconds of one layer for so many tokens: projections of attention, feed-forward network or experts."""
    bank, each = arch.experts, 3 if arch.gated else 2
    dense = 4 * arch.hidden**2 + each * arch.hidden * (
        arch.ffn_width if bank is None else bank.shared_total_width
    )
    found = known.seconds("linear", dtype, dense, tokens)
    if found is None or bank is None:
        return found
    experts = known.seconds("bank", dtype, each * arch.hidden * bank.width, tokens * bank.top_k / bank.count)
    return None if experts is None else found + experts * bank.count


def valid_for(device: torch.device) -> dict[str, Any]:
    """What a tuning depends on: another value of any, and it is measured again."""
    info = describe(device)
    return {
        "device": info.key,
        "threads": info.threads,
        "capability": info.capability,
        "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "torch": torch.__version__,
        "code": _code(),
    }


def _read(device: torch.device) -> Tuning | None:
    """None where there is no file, or it is damaged, or of something else."""
    try:
        content = json.loads(_path(device).read_text(encoding="utf-8"))
        if content["valid_for"] != valid_for(device):
            return None
        return Tuning.parse_json(json.dumps(content["tuning"]))
    except (OSError, ValueError, KeyError, TypeError, ConfigError, RecursionError):
        return None


def _write(device: torch.device, tuning: Tuning) -> None:
    """Aside, then in one move. A disk that is full or read only costs a second at the next start, no more."""
    path = _path(device)
    aside = path.with_suffix(f".{os.getpid()}.draft")
    content = {"valid_for": valid_for(device), "tuning": tuning.model_dump(mode="json")}
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        aside.write_text(json.dumps(content), encoding="utf-8")
        os.replace(aside, path)
    except OSError:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def _path(device: torch.device) -> Path:
    return Settings.load().devices_dir / f"{describe(device).key[:100]}.json"


@cache
def _code() -> str:
    """Hash of the sources of the kernels and of the probe."""
    digest = hashlib.sha256()
    for name in SOURCES:
        path = ROOT / name
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
