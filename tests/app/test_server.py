"""The web process: what it starts with, what it refuses, what it adds to every answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import server
from moe_core.settings import ROOT, Settings
from moe_core.store.db import Store


@pytest.mark.slow
def test_a_second_web_process_is_told_so_in_one_sentence(settings: Settings) -> None:
    store = Store.open(settings)
    try:
        command = [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            str(ROOT / "app" / "main.py"),
            "--server.port",
            "0",
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    finally:
        store.close()
    assert done.returncode == 1
    assert f"MoEScope cannot start: {settings.database} is in use by process {os.getpid()}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_web_process_never_imports_torch() -> None:
    """Start-up, memory and the timings depend on it (HOUSE.md, two processes)."""
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from app import browse, controls, data, figures, history, live, panels, server, shell, summary\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('torch', 'transformers')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_answers_forbid_other_origins() -> None:
    policy = server.HEADERS[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert server.HEADERS[b"x-content-type-options"] == b"nosniff"


def test_icons_are_local_files() -> None:
    from app import shell

    assert {path.name for path in Path(shell.STATIC).iterdir()} == {"favicon.png", "logo.svg"}
