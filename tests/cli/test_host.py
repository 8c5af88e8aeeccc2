"""Experts in host memory, on the command line."""

import pytest

from moe_core.cli import main
from tests.cli.test_predict import ask

ASKED = ["predict", "--model", "gpt-oss-120b", "--hardware", "RTX-4090"]


def test_a_step_slows_down_with_every_expert_on_the_host(capsys):
    seen = []
    for share in ("fit", "0.8", "1"):
        code, found = ask(capsys, *ASKED, "--host-experts", share)
        assert code == 0
        seen.append(found["host"])
    assert 0.6 < seen[0]["share"] < 0.7  # 65.1 GB of weights, a card of 25.2 GB less a twentieth
    for name in ("host", "step_moved", "step_computed"):
        assert [one[name] for one in seen] == sorted(one[name] for one in seen)
    assert seen[-1]["crossing"] == pytest.approx(seen[-1]["host"] * 4 / 128, rel=1e-6)
    assert seen[-1]["moved"] > seen[-1]["computed"]  # PCIe 4.0 against two channels of DDR5


def test_a_prompt_reads_what_all_its_tokens_touch(capsys):
    words = [*ASKED, "--host-experts", "0.8", "--phase", "prefill", "--context", "8192"]
    _, found = ask(capsys, *words)
    assert found["host"]["crossing"] == pytest.approx(found["host"]["host"], rel=0.01)


def test_memory_names_the_command_that_keeps_experts_on_the_host(capsys):
    _, found = ask(capsys, "memory", "--model", "gpt-oss-120b", "--hardware", "RTX-4090")
    assert "--n-cpu-moe 25" in found["host"]["text"][1]  # of 36 layers
    _, found = ask(capsys, "memory", "--model", "deepseek-v3", "--hardware", "H200")
    assert "no fp8_block" in found["host"]["text"][1]


def test_it_is_for_one_device(capsys):
    code, found = ask(capsys, *ASKED, "--host-experts", "0.8", "--tensor", "2")
    assert code == 2
    assert found["error"]["message"] == "host_experts: is for one device, without --tensor and --expert"


def test_no_ways_at_all_are_not_one(capsys):
    code, found = ask(capsys, *ASKED, "--tensor", "0")
    assert code == 2
    assert "tensor" in found["error"]["message"]


def test_a_device_that_is_too_small_is_called_by_its_name_and_has_what_it_has(capsys):
    line = "Mine: memory=1 bandwidth=100 host=16 bf16=10"
    assert main(["predict", "--model", "Qwen3-30B-A3B", "--hardware", line, "--host-experts", "fit"]) == 3
    said = capsys.readouterr().err
    assert "Mine (your own device) has 950 MB for it" in said
    assert "memory=" not in said
