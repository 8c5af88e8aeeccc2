"""`import-trace`: of a published model much is known, of another what is said; errors are one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moe_core.cli import main
from moe_core.runs import bundle
from moe_core.settings import Settings
from tests.traces import TOKENS, choices


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "routing.parquet"
    choices().to_parquet(path)
    return path


def ask(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code = main(["import-trace", *map(str, words), "--json"])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, answer


def test_a_table_becomes_a_run(file: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = ask(capsys, file, "--experts", 8, "--source", "measured by us")
    assert (code, found["tokens"], found["domains"], found["source"]) == (
        0,
        TOKENS,
        ["code", "prose"],
        "measured by us",
    )
    manifest = bundle.verify(Path(found["bundle"])).manifest
    assert (manifest.spec["model"], manifest.spec["title"]) == ("not told", "routing.parquet")
    assert main(["import-trace", str(file), "--experts", "8"]) == 0
    text = capsys.readouterr().out
    assert "240 decisions of 40 tokens in 2 sequences, 2 layers; domains: code, prose" in text
    assert main(["runs"]) == 0
    assert "served elsewhere" in capsys.readouterr().out


def test_of_a_published_model_layers_and_experts_are_known(
    file: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = ask(capsys, file, "--model", "deepseek-v2-lite")
    spec = bundle.read(Path(found["bundle"])).manifest.spec
    assert (code, spec["model"], spec["experts"], spec["shared"]) == (0, "DeepSeek-V2-Lite", 64, 2)
    code, found = ask(capsys, file, "--model", "mixtral-8x7b", "--layers", "2,5-7")
    assert code == 2
    assert "layer 1 has no experts in this model" in found["error"]["message"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layers", "3-1"], "layers (3-1): must be numbers and spans, such as 1-26 or 1,3,5"),
        (["--layers", "a"], "layers (a): must be numbers"),
        (["--model", "llama-2-70b"], "model (llama-2-70b): is dense"),
        (["--domain", "\udcff"], "domain (): must be 1 to 120 characters of UTF-8"),
        (["--domain", ""], "domain (): must be 1 to 120"),
        (["--experts", "4"], "expert 7, the model has 4"),
        (["--title", "x" * 200], "title ("),
    ],
)
def test_what_cannot_be_is_one_sentence(
    file: Path, settings: Settings, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code, found = ask(capsys, file, *words)
    assert code == 2
    assert said in found["error"]["message"]
    assert not list(settings.runs_dir.glob("*"))


def test_a_file_that_is_not_there_is_one_sentence(
    settings: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, found = ask(capsys, tmp_path / "none.parquet")
    assert code == 2
    assert "cannot be read" in found["error"]["message"]
