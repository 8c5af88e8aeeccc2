"""Fixtures every test may use: a private state directory, and synthetic runs without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from moe_core.settings import Settings
from tests import synthetic


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty installation in its own directory; MOE_DATA_DIR points there too."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MOE_{name.upper()}", raising=False)
    monkeypatch.setenv("MOE_DATA_DIR", str(tmp_path / "state"))
    return Settings.load()


@pytest.fixture
def bundle_dir(settings: Settings) -> Callable[..., Path]:
    """Write a synthetic run into the installation: `bundle_dir(RunSpec(...), seed=1) -> Path`."""

    def write(*args: object, **options: object) -> Path:
        return synthetic.write_bundle(settings.runs_dir, *args, **options)  # type: ignore[arg-type]

    return write
