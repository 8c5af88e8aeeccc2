"""Counting in another process: same answer, kept by content, errors as sentences."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from moe_core.errors import ConfigError
from moe_core.hf.apart import built_apart
from moe_core.hf.config import architecture
from moe_core.perf.params import count
from tests.hf.configs import flat

CONFIG = flat("llama")


@pytest.mark.slow
def test_the_answer_is_that_of_the_built_model_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = built_apart(CONFIG, tmp_path / "exact")
    assert first.parameters.total == count(architecture(CONFIG)).total
    assert first.parameters.method == "meta"
    assert first.architecture is not None

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(subprocess, "run", never)
    assert built_apart(dict(reversed(CONFIG.items())), tmp_path / "exact") == first
    with pytest.raises(AssertionError):
        built_apart(CONFIG | {"vocab_size": 131}, tmp_path / "exact")


@pytest.mark.slow
def test_the_sentence_of_the_child_arrives(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no class for it"):
        built_apart({"model_type": "zzz"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="took longer than 0 s"):
        built_apart(CONFIG, tmp_path, timeout_s=0.01)


def test_a_child_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = subprocess.CompletedProcess[str]([], -9, stdout="", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: dead)
    with pytest.raises(ConfigError, match="ended with code -9"):
        built_apart(CONFIG, tmp_path)
