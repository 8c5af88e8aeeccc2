"""Counting in another process: same answer, kept by content, errors as sentences."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from moe_core.errors import ConfigError
from moe_core.hf.apart import exact_apart
from moe_core.hf.config import architecture
from moe_core.perf.params import count
from tests.hf.configs import flat

CONFIG = flat("llama")


@pytest.mark.slow
def test_the_answer_is_that_of_the_built_model_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = exact_apart(CONFIG, tmp_path / "exact")
    assert first.total == count(architecture(CONFIG)).total
    assert first.method == "meta"

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(subprocess, "run", never)
    assert exact_apart(dict(reversed(CONFIG.items())), tmp_path / "exact") == first
    with pytest.raises(AssertionError):
        exact_apart(CONFIG | {"vocab_size": 131}, tmp_path / "exact")


@pytest.mark.slow
def test_the_sentence_of_the_child_arrives(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no class for it"):
        exact_apart({"model_type": "zzz"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="took longer than 0 s"):
        exact_apart(CONFIG, tmp_path, timeout_s=0.01)


def test_a_child_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = subprocess.CompletedProcess[str]([], -9, stdout="", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: dead)
    with pytest.raises(ConfigError, match="ended with code -9"):
        exact_apart(CONFIG, tmp_path)
