"""`params`, `memory`, `models`, `hardware`: what they print is exact, what they refuse is one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from moe_core import registry
from moe_core.cli import main
from moe_core.settings import MODELS, ROOT
from tests.hf.configs import flat


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of one command with --json."""
    code = main([*words, "--json"])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, answer


def test_params_of_a_registered_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = ask(capsys, "params", "--model", "MIXTRAL_8x7b")
    assert code == 0
    assert found["total"] == 46_702_792_704
    assert found["active"] == {
        "incl_embeddings": 12_879_925_248,
        "excl_input_embedding": 12_748_853_248,
        "excl_embedding_and_head": 12_617_781_248,
    }
    assert found["method"] == "closed_form"
    assert sum(found["breakdown"].values()) == found["total"]


def test_params_of_every_registered_model(capsys: pytest.CaptureFixture[str]) -> None:
    for record in registry.records():
        code, found = ask(capsys, "params", "--model", record.name)
        assert (code, found["total"], found["active"]) == (0, record.total, record.active)
        assert sum(found["breakdown"].values()) == found["total"]


def test_params_of_a_config_and_of_the_folder_it_lies_in(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(registry.get("qwen3-30b-a3b").config))
    for where in (path, tmp_path):
        _, found = ask(capsys, "params", "--config", str(where))
        assert found["total"] == 30_532_122_624
        assert found["method"] == "closed_form"


@pytest.mark.slow
def test_what_has_no_closed_form_is_built(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "jamba.json"
    path.write_text(json.dumps(registry.get("jamba-1.5-large").config))
    _, found = ask(capsys, "params", "--config", str(path))
    assert (found["total"], found["method"], found["name"]) == (398_555_145_696, "meta", "jamba")
    code, refused = ask(capsys, "params", "--config", str(path), "--method", "closed_form")
    assert (code, refused["error"]["kind"]) == (2, "unsupported")
    code, sized = ask(capsys, "memory", "--config", str(path), "--context", "262144")
    assert code == 0
    assert sized["kv_cache"] == 9 * 2 * 8 * 128 * 2 * 262_144  # nine of 72 layers attend
    assert sized["state"] == 63 * (16_384 * 16 * 4 + 16_384 * 4 * 2)


@pytest.mark.slow
def test_both_methods_agree(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("deepseek-v3", "gpt-oss-20b", "qwen3-next-80b-a3b"):
        closed = ask(capsys, "params", "--model", name, "--method", "closed_form")[1]
        built = ask(capsys, "params", "--model", name, "--method", "meta")[1]
        assert closed["breakdown"] == built["breakdown"]
        assert (closed["method"], built["method"]) == ("closed_form", "meta")


def test_memory_of_mixtral(capsys: pytest.CaptureFixture[str]) -> None:
    workload = ["--dtype", "bf16", "--kv-dtype", "bf16", "--batch", "1", "--context", "4096"]
    code, found = ask(capsys, "memory", "--model", "mixtral-8x7b", *workload)
    assert code == 0
    assert found["weights"] == 93_405_585_408
    assert found["kv_bytes_per_token"] == 131_072
    assert found["kv_cache"] == 4096 * 131_072
    assert sum(found["components"].values()) == found["total"]


def test_memory_against_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = ask(capsys, "memory", "--model", "mixtral-8x7b", "--hardware", "h100")
    fits = found["hardware"]
    assert not fits["fits"]
    assert (fits["devices_needed"], fits["tensor"]) == (2, 2)
    _, halved = ask(capsys, "memory", "--model", "mixtral-8x7b", "--hardware", "h100", "--tensor", "2")
    assert halved["hardware"]["fits"]
    assert halved["hardware"]["longest_context"] > 100_000
    _, mixed = ask(capsys, "memory", "--model", "mixtral-8x7b", "--experts-dtype", "mxfp4")
    assert mixed["components"]["experts"] == 45_097_156_608 * 17 // 32


def test_models_and_hardware(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = ask(capsys, "models")
    assert len(found["models"]) == 71
    assert found["rumoured"] == ["GPT-4 (rumoured)"]
    assert all(row["sources"] for row in found["models"])
    _, devices = ask(capsys, "hardware")
    assert {"H100", "MI355X"} <= {row["name"] for row in devices["hardware"]}


@pytest.mark.parametrize("words", [["models"], ["hardware"], ["params", "--model", "glm-4.5"]])
def test_text_is_readable_too(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "{" not in printed
    assert len(printed.splitlines()) > 5


def test_memory_as_text_says_whether_it_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "--model", "deepseek-v3", "--dtype", "fp8", "--hardware", "h200"]) == 0
    assert "does not fit on 1 x H200; needs 6" in capsys.readouterr().out


def test_a_checkpoint_folder(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = ask(capsys, "params", "--checkpoint", str(MODELS))
    assert found["nbytes"] > 10_000_000
    assert found["by_dtype"]["I8"] > 10_000_000


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        (["params"], "one of --model and --config must be given", 2),
        (["params", "--model", "a", "--config", "b"], "one of --model and --config", 2),
        (["params", "--model", "mixtral"], "close matches: Mixtral", 2),
        (["params", "--model", "mixtral-8x7b", "--method", "guess"], "method (guess)", 2),
        (["params", "--model", "gpt-4-rumoured"], "is a rumour", 2),
        (["params", "--model", "grok-1", "--method", "meta"], "transformers has no class", 2),
        (["params", "--config", "nowhere.json"], "cannot be read", 2),
        (["params", "--checkpoint", str(ROOT / "tests")], "holds no .safetensors files", 2),
        (["memory", "--model", "mixtral-8x7b", "--dtype", "fp7"], "dtype (fp7): must be stored, a format", 2),
        (["memory", "--model", "mixtral-8x7b", "--batch", "0"], "batch (0)", 2),
        (["memory", "--model", "mixtral-8x7b", "--context", "-1"], "context (-1)", 2),
        (["memory", "--model", "mixtral-8x7b", "--tensor", "3"], "32 heads cannot be split 3 ways", 3),
        (["memory", "--model", "mixtral-8x7b", "--hardware", "abacus"], "hardware (abacus)", 2),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], words: list[str], sentence: str, code: int) -> None:
    found, answer = ask(capsys, *words)
    assert found == code
    assert sentence in answer["error"]["message"]


def test_a_hundred_megabytes_of_junk(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    code, answer = ask(capsys, "params", "--config", str(path))
    assert code == 2
    assert "at most 4,000,000" in answer["error"]["message"]


def test_a_missing_field_has_the_default_of_its_class_and_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(flat("olmoe", without=("intermediate_size",), num_experts=4, num_experts_per_tok=2))
    )
    code, answer = ask(capsys, "params", "--config", str(path))
    assert code == 0
    assert "class defaults" in answer["notes"][0]
    assert "intermediate_size 2048" in answer["notes"][0]
