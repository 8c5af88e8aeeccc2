"""`decide` on the command line: JSON complete, text readable, errors with their exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moe_core.cli import main

TWO = [
    "--mixture",
    "mixtral-8x7b",
    "--dense",
    "llama-2-70b",
    "--hardware",
    "A100 80GB",
    "--precision",
    "int8",
]


def test_a_preset_and_two_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decide", "--preset", "device", *TWO, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["verdict"] == "mixture"
    assert values["margin_low"] <= values["margin"] <= values["margin_high"]
    assert {"id", "winner", "weight", "score", "evidence", "provenance"} <= set(values["factors"][0])
    assert {"knob", "at", "below", "above", "sentence"} <= set(values["flips"][0])
    assert values["pair"]["rule"] == "published"
    assert values["counter_arguments"]


def test_a_spec_file_and_its_own_output_ask_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {"preset": "chat", "mixture": "qwen3-30b-a3b", "dense": "qwen3-14b"}
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(asked))
    assert main(["decide", "--spec", str(file), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    file.write_text(json.dumps(first["spec"]))
    assert main(["decide", "--spec", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first


def test_options_win_over_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({"preset": "chat", "mixture": "qwen3-30b-a3b", "dense": "qwen3-14b"}))
    assert main(["decide", "--spec", str(file), "--batch", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spec"]["workload"]["batch"] == 2


def test_text_names_the_pair_the_reason_and_what_speaks_against_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["decide", "--preset", "device", *TWO]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Mixture: Mixtral-8x7B writes a token ")
    assert "answer    mixture, margin +0." in text
    for word in ("pair ", "why ", "against ", "flips "):
        assert f"\n{word}" in text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (
            [
                "--preset",
                "device",
                "--mixture",
                "mixtral-8x7b",
                "--dense",
                "llama-2-70b",
                "--hardware",
                "RTX 4090",
            ],
            3,
        ),
        (["--mixture", "nobody"], 2),
        (["--preset", "nope", *TWO], 2),
        (["--spec", "/nowhere.json"], 2),
    ],
)
def test_a_no_and_a_mistake_have_their_codes(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["decide", *arguments, "--json"]) == code
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == code


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"mixture": 3}', "[" * 5000])
def test_a_file_that_is_no_spec(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "spec.json"
    file.write_text(text)
    assert main(["decide", "--spec", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
