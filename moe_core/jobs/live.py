"""Live: what an experiment has measured so far, for pages that draw it while it goes on.

A file a job in `<data_dir>/live`, replaced as a whole, gone when the job is over: nothing that is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from moe_core import inputs
from moe_core.errors import ConfigError

MOST_BYTES = 8_000_000


def show(directory: Path, job_id: str, values: Mapping[str, Any]) -> None:
    """Replace what is shown of a job. A disk that refuses costs the picture, not the experiment."""
    path = _path(directory, job_id)
    draft = path.with_suffix(".tmp")
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        draft.write_text(json.dumps(values, allow_nan=False))
        draft.replace(path)


def read(directory: Path, job_id: str) -> dict[str, Any] | None:
    """What was shown last; None when there is nothing (yet, or any more)."""
    try:
        values = inputs.parse(inputs.content(_path(directory, job_id), MOST_BYTES), "live")
    except (OSError, ConfigError):
        return None
    return values if isinstance(values, dict) else None


def forget(directory: Path, job_id: str) -> None:
    """The job is over."""
    with suppress(OSError):
        _path(directory, job_id).unlink()


def _path(directory: Path, job_id: str) -> Path:
    return directory / "live" / f"{job_id}.json"
