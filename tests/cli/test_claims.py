"""`claims` on the command line: all, one, some; JSON complete, errors one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moe_core.cli import main
from moe_core.settings import Settings
from tests import synthetic
from tests.claims.found import spec, summary


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["claims", *words, "--json"])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, answer


def test_all_of_them(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = ask(capsys)
    assert code == 0
    assert len(found["claims"]) == sum(found["counts"].values()) == 165
    assert len(found["corrections"]) == 17
    assert set(found["documents"]) == {"A", "B"}


def test_one_of_them(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = ask(capsys, "a41")
    assert (code, found["verdict"]) == (0, "does not hold")
    assert found["evidence"][0]["value"] == 409_663_695_276_000
    assert main(["claims", "A41"]) == 0
    text = capsys.readouterr().out
    assert "409,663,695,276,000 sets (claimed: 4.30 B sets, within 5 %; does not agree)" in text
    assert "python -m moe_core claims A41" in text


def test_some_of_them(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = ask(capsys, "--verdict", "does not hold", "--document", "B", "--topic", "memory")
    assert {one["id"] for one in found["claims"]} == {"B24", "B43", "B44"}
    assert main(["claims", "--topic", "conversion"]) == 0
    assert "A106" in capsys.readouterr().out


def test_a_run_made_here_settles_one(
    settings: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moe_core.settings.REFERENCE", tmp_path / "nothing_ships")
    _, before = ask(capsys, "A55")
    assert before["verdict"] == "no evidence"
    path = synthetic.write_bundle(
        settings.runs_dir, spec("bias"), findings={"bias_gradient": summary(0.0, seeds=0)}
    )
    _, after = ask(capsys, "A55")
    assert (after["verdict"], after["evidence"][0]["run"]) == ("holds", path.name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Z9"], "claim (Z9): must be one of A1 to A111, B1 to B54"),
        (["--verdict", "true"], "verdict (true): must be one of holds,"),
        (["--topic", "cooking"], "topic (cooking): must be one of parameters,"),
        (["--document", "C"], "document (C): must be one of A, B"),
    ],
)
def test_what_there_is_not_is_one_sentence(
    settings: Settings, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code, found = ask(capsys, *words)
    assert code == 2
    assert found["error"]["message"].startswith(said)


def test_decide_cites_claims_and_what_became_of_them(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["decide", "--preset", "chat", "--mixture", "qwen3-30b-a3b", "--dense", "qwen3-14b", "--json"]
    assert main(words) == 0
    factors = {one["id"]: one for one in json.loads(capsys.readouterr().out)["factors"]}
    assert factors["scale"]["claims"] == ["A95", "B28"]
    assert factors["scale"]["checked"][0].startswith("A95 does not hold: ")
    assert factors["task"]["claims"]
