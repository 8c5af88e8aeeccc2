"""Which code answered: version, code version, commit, and the identities made from them.

Nothing here imports torch. The answers are cached: they cannot change under a running process.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from moe_core.settings import CORPUS, MODELS, ROOT
from moe_core.specs import RunSpec

__version__ = "0.1.0"

ID_LENGTH = 16  # hex digits: 64 bits, ample for the runs of one installation


@cache
def code_version() -> str:
    """Hash of all that can change a run's result: sources, shipped models and corpus. 16 hex digits."""
    digest = hashlib.sha256()
    for path in _inputs():
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:ID_LENGTH]


def _inputs() -> Iterator[Path]:
    core = ROOT / "moe_core"
    for room in ("nn", "perf", "runs", "labs"):
        yield from sorted((core / room).rglob("*.py"))
    yield from (path for path in (core / "device.py", core / "specs.py") if path.exists())
    yield from sorted(MODELS.rglob("*.safetensors"))
    yield from sorted(CORPUS.glob("*.parquet"))


@cache
def commit() -> str | None:
    """The checked-out git commit, `-dirty` appended when files differ from it; None outside git."""
    if not (ROOT / ".git").exists():  # an unpacked archive inside somebody else's repository
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def question_id(spec: RunSpec) -> str:
    """Identity of a question to this code: the same spec and code give the same 16 hex digits."""
    return _digest(spec.fingerprint(), code_version())


def run_id(question: str, device_key: str) -> str:
    """Identity of an answer: question and the device that answers it, 16 hex digits."""
    return _digest(question, device_key)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:ID_LENGTH]
