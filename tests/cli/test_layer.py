"""`layer`: one case, a table of cases, and what is wrong with either in one sentence."""

import csv
import json

import pytest

from moe_core.cli import main

ONE = ["layer", "--tokens", "64", "--hidden", "4096", "--inter", "14336", "--experts", "8", "--topk", "2"]
HEAD = "hardware,framework,dtype,tokens,hidden,inter,experts,topk,tp,ep,distribution\n"


def written(tmp_path, rows):
    path = tmp_path / "in.csv"
    path.write_text(HEAD + rows)
    return path


def test_one_case_as_json(capsys):
    assert main([*ONE, "--hardware", "h100_sxm", "--distribution", "balanced", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == "measured elsewhere"
    assert 0 < found["lower"] < found["seconds"] < found["upper"]
    assert found["distinct"] == 8


def test_one_case_in_words(capsys):
    assert main([*ONE, "--hardware", "H20"]) == 0
    assert "modelled: constants fitted to vllm on h100_sxm" in capsys.readouterr().out


def test_cases_are_answered_line_by_line_and_keep_their_columns(tmp_path, capsys):
    rows = "H100,vllm,bf16,64,4096,14336,8,2,1,1,balanced\na100_sxm,VLLM,bfloat16,8,7168,2048,256,8,1,8,\n"
    out = tmp_path / "out.csv"
    assert main(["layer", "--cases", str(written(tmp_path, rows)), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"cases": 2, "out": str(out)}
    first, second = csv.DictReader(out.read_text().splitlines())
    assert first["source"] == "measured elsewhere"
    assert first["hidden"] == "4096"
    assert second["source"] == "modelled"
    assert float(second["lower"]) <= float(second["seconds"]) <= float(second["upper"])


def test_cases_without_out_are_printed(tmp_path, capsys):
    rows = "H100,vllm,bf16,64,4096,14336,8,2,1,1,balanced\n"
    assert main(["layer", "--cases", str(written(tmp_path, rows))]) == 0
    assert capsys.readouterr().out.strip().endswith("measured elsewhere")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("H100,vllm,bf16,64,4096,14336,8,9,1,1,", "line 2: top_k (9): must be between 1 and experts (8)"),
        ("H100,vllm,bf17,64,4096,14336,8,2,1,1,", "line 2: dtype (bf17): must be stored, a format"),
        ("H100,vllm,bf16,some,4096,14336,8,2,1,1,", "line 2: tokens (some): must be a whole number"),
        ("H100,vllm,bf16,64,4096,14336,8,2,1,1,zipf", "line 2: distribution (zipf): must be one of uniform"),
        ("H900,vllm,bf16,64,4096,14336,8,2,1,1,", "line 2: hardware (H900)"),
        ("H100,vllm,bf16,,4096,14336,8,2,1,1,", "line 2: tokens"),
        ("H100,vllm,bf16,nan,4096,14336,8,2,1,1,", "line 2: tokens (nan): must be a whole number"),
    ],
)
def test_a_bad_line_is_named_in_one_sentence(tmp_path, capsys, row, sentence):
    assert main(["layer", "--cases", str(written(tmp_path, row + "\n"))]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert main(["layer", "--cases", str(tmp_path / "no.csv")]) == 2
    assert "cannot be read" in capsys.readouterr().err
