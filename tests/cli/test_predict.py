"""`predict`: the question in the README is answered, what does not fit or makes no sense is one sentence."""

import json

import pytest

from moe_core.cli import main

ASKED = ["predict", "--model", "mixtral-8x7b", "--phase", "decode", "--batch", "1", "--context", "1024"]


def ask(capsys, *words):
    """Exit code and answer of one command with --json."""
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["h100_sxm", "H100"])
def test_the_question_of_the_readme(capsys, name):
    code, found = ask(capsys, *ASKED, "--hardware", name, "--dtype", "bf16")
    assert code == 0
    assert found["devices"] == found["tensor"] == 2  # 93.8 GB do not fit on one
    assert found["interval"] == [found["lower"], found["upper"]]
    assert found["lower"] < found["seconds"] < found["upper"]
    assert found["bytes"] == pytest.approx(12.8e9, rel=0.02)
    assert found["distinct_experts"] == 2
    assert found["bound"] == "memory"
    assert found["source"] == "measured elsewhere"
    assert sum(part["flops"] for part in found["parts"]) == found["flops"]


def test_what_does_not_fit_is_refused_with_the_numbers(capsys):
    code, found = ask(capsys, *ASKED, "--hardware", "H100", "--tensor", "1")
    assert code == 3
    assert "needs 93.8 GB, the device has 85.5 GB" in found["error"]["message"]


def test_the_work_of_a_token_says_its_state(capsys):
    words = ["predict", "--model", "deepseek-v3", "--hardware", "H200", "--context", "4096", "--dtype", "fp8"]
    _, found = ask(capsys, *words)
    assert found["devices"] > 1
    assert found["token_flops"] == 142_858_076_160
    assert found["token_state"] == "latent attention absorbed, at a context of 4,096"


def test_prefill_is_the_whole_prompt(capsys):
    words = ["predict", "--model", "llama-3.1-8b", "--hardware", "H100", "--context", "2048"]
    _, prompt = ask(capsys, *words, "--phase", "prefill")
    _, token = ask(capsys, *words, "--phase", "decode")
    assert prompt["bound"] == "compute"
    assert prompt["seconds"] > 5 * token["seconds"]
    assert prompt["tokens_per_second"] == pytest.approx(2048 / prompt["seconds"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--phase", "both"], "phase (both): must be prefill or decode"),
        (["--dtype", "fp3"], "dtype (fp3): must be stored, a format"),
        (["--context", "0"], "context (0): must be at least 1"),
        (["--framework", "other"], "framework (other): must be one of vllm, sglang, trtllm"),
        (["--hardware", "h1000"], "hardware (h1000): is not known; close matches"),
    ],
)
def test_bad_input_is_one_sentence(capsys, words, said):
    code, found = ask(capsys, "predict", "--model", "llama-3.1-8b", "--hardware", "H100", *words)
    assert code == 2
    assert said in found["error"]["message"]


def test_the_text_names_parts_and_sources(capsys):
    assert main([*ASKED, "--hardware", "H200", "--dtype", "fp8"]) == 0
    text = capsys.readouterr().out
    for word in ("experts", "attention", "80 %", "measured elsewhere", "experts hit a layer"):
        assert word in text
