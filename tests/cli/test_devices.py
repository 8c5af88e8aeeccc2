"""A device of one's own on the command line: a small TOML wherever a device is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moe_core.cli import main
from tests.test_hardware import CARD, LINE

LAYER = ("--tokens", "8", "--hidden", "2048", "--inter", "1024", "--experts", "64", "--topk", "8")


@pytest.fixture
def card(tmp_path: Path) -> str:
    path = tmp_path / "card.toml"
    path.write_text(CARD, encoding="utf-8")
    return str(path)


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_prediction_on_it(capsys: pytest.CaptureFixture[str], card: str) -> None:
    found = asked(capsys, "predict", "--model", "OLMoE-1B-7B", "--hardware", card, "--batch", "4")
    assert (found["hardware"], found["device"]) == (LINE, "My card (your own device)")
    assert found["source"] == "modelled"
    assert found["joules_per_token"] == pytest.approx(300 * found["seconds"] / 4)
    again = asked(capsys, "predict", "--model", "OLMoE-1B-7B", "--hardware", LINE, "--batch", "4")
    assert again == found


def test_joules_need_a_power_figure(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("predict", "--model", "OLMoE-1B-7B", "--hardware")
    assert asked(capsys, *words, "TPU v6e")["joules_per_token"] is None
    h100 = asked(capsys, *words, "H100")
    assert h100["joules_per_token"] == pytest.approx(700 * h100["seconds"])
    main([*words, "TPU v6e"])
    assert "no power figure" in capsys.readouterr().out


def test_every_command_takes_it(capsys: pytest.CaptureFixture[str], card: str, tmp_path: Path) -> None:
    assert asked(capsys, "layer", "--hardware", card, *LAYER)["hardware"] == LINE
    fits = asked(capsys, "memory", "--model", "OLMoE-1B-7B", "--hardware", card)["hardware"]
    assert (fits["name"], fits["fits"]) == (LINE, True)
    assert asked(capsys, "hardware", "--hardware", card)["hardware"][0]["name"] == LINE
    query = "architecture=OLMoE-1B-7B&hardware=H100"
    found = asked(capsys, "compare", "--scenario", query, "--hardware", card)
    assert found["scenarios"][0]["resolved"]["hardware"] == LINE
    (again,) = asked(capsys, "compare", "--scenario", found["link"])["scenarios"]
    assert again["resolved"] == found["scenarios"][0]["resolved"]


def test_a_verdict_on_it_has_joules(capsys: pytest.CaptureFixture[str], card: str) -> None:
    found = asked(capsys, "decide", "--mixture", "OLMoE-1B-7B", "--hardware", card)
    assert found["spec"]["hardware"] == LINE
    assert 0 < found["joules"]["mixture"] < 100


def test_a_manifest_keeps_it_whole(capsys: pytest.CaptureFixture[str], card: str, tmp_path: Path) -> None:
    out = tmp_path / "memory.svg"
    asked(capsys, "export", "memory", "--model", "OLMoE-1B-7B", "--hardware", card, "--out", str(out))
    assert asked(capsys, "reproduce", str(out))
    assert LINE in out.read_text(encoding="utf-8").replace("&quot;", '"')


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "must be a file that exists"),
        ("watts = [", "must be TOML"),
        ("name = 1", "name"),
        ("[[device]]", "without [[device]]"),
    ],
)
def test_a_bad_file_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str | None, sentence: str
) -> None:
    path = tmp_path / "bad.toml"
    if text is not None:
        path.write_text(text)
    assert main(["predict", "--model", "OLMoE-1B-7B", "--hardware", str(path), "--json"]) != 0
    error = json.loads(capsys.readouterr().out)["error"]["message"]
    assert sentence in error
    assert "\n" not in error
