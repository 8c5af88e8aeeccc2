"""Exact counting for the web process, which must not import torch: in a process of its own, once a content.

The child is this project's own `params --config ... --method meta`. Its answer is kept in `folder` under the
hash of the config and of the transformers version that would build it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from moe_core.errors import ConfigError
from moe_core.hf import sizes
from moe_core.hf.sizes import Sized
from moe_core.settings import ROOT

TIMEOUT_S = 120.0
ANSWER = 2  # of its form: an answer of another form is asked for again


def built_apart(
    config: Mapping[str, Any], folder: Path, name: str = "imported", timeout_s: float = TIMEOUT_S
) -> Sized:
    """The model that `config` describes, from the answers kept in `folder` or from a new process.

    Raises ConfigError with the child's own sentence, or when it takes longer than `timeout_s`.
    """
    text = json.dumps(config, sort_keys=True)
    kept = folder / f"{_key(text)}.json"
    if not kept.exists():
        _keep(kept, _ask(text, timeout_s))
    return sizes.unpacked(name, json.loads(kept.read_text(encoding="utf-8")))


def _ask(text: str, timeout_s: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "config.json"
        path.write_text(text, encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "moe_core",
            "params",
            "--config",
            str(path),
            "--method",
            "meta",
            "--json",
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=ROOT
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigError(f"config.json: building it took longer than {timeout_s:.0f} s") from error
    return _parse(done)


def _parse(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise ConfigError(f"config.json: the counting process ended with code {done.returncode}") from error
    if "error" in answer:
        raise ConfigError(answer["error"]["message"])
    return answer


def _keep(path: Path, answer: dict[str, Any]) -> None:
    """Written aside and renamed, so that nobody reads half an answer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(answer), encoding="utf-8")
    aside.replace(path)


def _key(text: str) -> str:
    return hashlib.sha256(f"{ANSWER}\n{version('transformers')}\n{text}".encode()).hexdigest()[:32]
