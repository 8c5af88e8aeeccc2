"""`compare` on the command line: links, files and exports; the same table; errors as one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moe_core.cli import main
from moe_core.report import side

ONE = "architecture=Mixtral-8x7B&hardware=A100 80GB&precision=int8&batch=1"
TWO = (
    "http://localhost:8501/memory?architecture=Llama-2-70B&hardware=A100+80GB&precision=int8&batch=1&budget=3"
)


def run(capsys: pytest.CaptureFixture[str], *scenarios: str) -> dict[str, object]:
    words = [word for one in scenarios for word in ("--scenario", one)]
    assert main(["compare", *words, "--json"]) == 0
    values: dict[str, object] = json.loads(capsys.readouterr().out)
    return values


def test_a_query_and_a_link_of_another_page(capsys: pytest.CaptureFixture[str]) -> None:
    values = run(capsys, ONE, TWO)
    assert str(values["answer"]).startswith("Scenario A (Mixtral-8x7B) writes a token")
    rows = {row["key"]: row for row in values["rows"]}  # type: ignore[attr-defined]
    assert rows["time.token"]["differs"]
    assert not rows["hardware"]["differs"]
    assert {"text", "value", "source", "low", "high", "best"} == set(rows["cost.prompts"]["cells"][0])
    again = run(capsys, str(values["link"]))
    assert again["answer"] == values["answer"]
    assert again["rows"] == values["rows"]


def test_the_text_marks_what_differs_and_names_the_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--scenario", ONE, "--scenario", TWO]) == 0
    lines = capsys.readouterr().out.splitlines()
    line = next(one for one in lines if "Time per token" in one)
    assert line.startswith("≠")
    assert "* " in line
    assert "modelled" in line or "measured elsewhere" in line
    assert next(one for one in lines if "  Batch or traffic" in one).startswith(" ")


def test_files_hold_parameters_saved_scenarios_or_exports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = tmp_path / "said.json"
    said.write_text(json.dumps({"architecture": "Mixtral-8x7B", "batch": 4, "edit": False}))
    kept = tmp_path / "kept.json"
    kept.write_text(side.read(ONE)[0]._replace(name="Ours").kept().model_dump_json())
    many = tmp_path / "many.json"
    many.write_text(json.dumps([{"architecture": "Llama-2-70B"}, {"architecture": "gpt-oss-120b"}]))
    values = run(capsys, str(said), str(kept), str(many))
    names = [one["name"] for one in values["scenarios"]]  # type: ignore[attr-defined]
    assert names[:2] == ["Mixtral-8x7B on H100, batch 4", "Ours"]
    assert len(names) == 4
    exported = tmp_path / "memory.svg"
    assert main(["export", "memory", "--model", "mixtral-8x7b", "--out", str(exported)]) == 0
    capsys.readouterr()
    assert run(capsys, str(exported))["scenarios"][0]["name"] == "Mixtral-8x7B"  # type: ignore[index]


@pytest.mark.parametrize(
    ("scenarios", "says"),
    [
        (["architecture=Mixtrl"], "is not known"),
        (["nothing.json"], "must be a link, a query or a file that exists"),
        ([ONE] * 5, "scenario (5 given): must be one to 4"),
        (["architecture=DeepSeek-V3&batch=0"], "batch (0): must be a whole number"),
        (["x" * 5_000], "must be a link"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    scenarios: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *(word for one in scenarios for word in ("--scenario", one))]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("content", ["{", "[1]", '{"label": "x"}', '{"architecture": {"a": 1}}', "\x00"])
def test_a_file_that_holds_no_scenario(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.json"
    file.write_text(content)
    assert main(["compare", "--scenario", str(file)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
