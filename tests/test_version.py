from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from moe_core import settings, version
from moe_core.specs import RunSpec


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small copy of the repository whose files may be changed, outside git."""
    for room in ("nn", "runs"):
        shutil.copytree(settings.ROOT / "moe_core" / room, tmp_path / "moe_core" / room)
    shutil.copy(settings.ROOT / "moe_core" / "specs.py", tmp_path / "moe_core" / "specs.py")
    (tmp_path / "data" / "models").mkdir(parents=True)
    (tmp_path / "data" / "models" / "dense.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(version, "ROOT", tmp_path)
    monkeypatch.setattr(version, "MODELS", tmp_path / "data" / "models")
    monkeypatch.setattr(version, "CORPUS", tmp_path / "data" / "corpus")
    return tmp_path


def fresh() -> str:
    return version.code_version.__wrapped__()


def test_the_version_is_the_project_s():
    project = tomllib.loads((settings.ROOT / "pyproject.toml").read_text())["project"]
    assert version.__version__ == project["version"]


@pytest.mark.parametrize(
    "changed", ["moe_core/nn/routing.py", "moe_core/specs.py", "data/models/dense.safetensors"]
)
def test_code_version_changes_with_what_can_change_a_result(copy: Path, changed: str):
    before = fresh()
    assert fresh() == before
    with (copy / changed).open("ab") as file:
        file.write(b"\n")
    assert re.fullmatch("[0-9a-f]{16}", before)
    assert fresh() != before


def test_code_version_ignores_the_rest(copy: Path):
    before = fresh()
    (copy / "moe_core" / "nn" / "__pycache__").mkdir(exist_ok=True)
    (copy / "moe_core" / "nn" / "__pycache__" / "x.pyc").write_bytes(b"")
    (copy / "data" / "models" / "train.log").write_text("loss 1.0")
    (copy / "README.md").write_text("words")
    assert fresh() == before


def test_no_commit_outside_git(copy: Path):
    assert version.commit.__wrapped__() is None


def test_the_commit_is_a_hash_or_nothing():
    found = version.commit()
    assert found is None or re.fullmatch("[0-9a-f]{12,40}(-dirty)?", found)


def test_identities_tell_questions_and_devices_apart():
    question = version.question_id(RunSpec())
    assert question == version.question_id(RunSpec(experts=16))
    assert question != version.question_id(RunSpec(experts=8))
    assert version.run_id(question, "cpu") == version.run_id(question, "cpu")
    assert version.run_id(question, "cpu") != version.run_id(question, "cuda")
    assert re.fullmatch("[0-9a-f]{16}", version.run_id(question, "cpu"))
