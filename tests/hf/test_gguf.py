"""GGUF files: bytes by their own blocks, architectures that count the same, and files that lie."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core import registry
from moe_core.cli import main
from moe_core.errors import ConfigError
from moe_core.hf import checkpoint, gguf, sizes
from moe_core.perf import memory
from tests.hf import gguf_files as files

GIB = 2**30
MODELS = {
    "Llama-3.1-8B": (files.llama_8b, 4.58 * GIB),  # llama.cpp, tools/quantize/README.md
    "Qwen3-30B-A3B": (files.qwen3_30b, 21.74e9),  # bartowski/Qwen_Qwen3-30B-A3B-GGUF, its card
    "DeepSeek-V3": (files.deepseek_v3, None),
}


def weights(found: sizes.Sized) -> int:
    return sum(memory.weights(found.parameters.breakdown, found.stored).values())


@pytest.mark.parametrize("name", MODELS)
def test_a_published_model_is_known_by_its_header(name: str, tmp_path: Path) -> None:
    make, published = MODELS[name]
    settings, tensors = make()
    found = sizes.from_config(files.write(tmp_path / "any.gguf", settings, tensors))
    known = registry.get(name).architecture
    assert known is not None
    assert found.architecture is not None
    for field in ("hidden", "layers", "vocab", "attention", "experts", "tied", "first_dense"):
        assert getattr(found.architecture, field) == getattr(known, field)
    assert found.parameters.total == registry.get(name).total
    assert weights(found) == pytest.approx(files.nbytes(tensors), rel=1e-3)
    if published is not None:
        assert weights(found) == pytest.approx(published, rel=5e-3)


def test_components_have_the_formats_of_their_tensors(tmp_path: Path) -> None:
    found = sizes.from_config(files.write(tmp_path / "any.gguf", *files.llama_8b())).stored
    assert (found.of("embedding"), found.of("head"), found.of("norms")) == ("q4_k", "q6_k", "fp32")
    assert found.of("ffn") == "int4@4.844"  # a third of it is 6.5625 bits wide in half of the layers
    assert found.of("attention") == "int4@4.603"


def test_an_unknown_family_has_parameters_and_bytes(tmp_path: Path) -> None:
    settings, tensors = files.llama_8b()
    other = {name.replace("llama.", "new."): value for name, value in settings.items()}
    found = sizes.from_config(
        files.write(tmp_path / "a.gguf", other | {"general.architecture": "new"}, tensors)
    )
    assert found.architecture is None
    assert found.parameters.total == sum(prod(shape) for _, shape in tensors.values())
    assert (found.parameters.method, found.notes[-1]) == (
        "header",
        "general.architecture (new): its layers are not known here",
    )
    with pytest.raises(ConfigError, match="its layers are not known here"):
        sizes.model(found)


def test_settings_that_describe_another_model_are_not_believed(tmp_path: Path) -> None:
    settings, tensors = files.llama_8b()
    found = sizes.from_config(
        files.write(tmp_path / "a.gguf", settings | {"llama.feed_forward_length": 8192}, tensors)
    )
    assert found.architecture is None
    assert (
        "its settings describe 5,614,342,144 parameters, and the file holds 8,030,261,312" in found.notes[-1]
    )


def test_layers_that_predict_further_tokens_are_not_counted(tmp_path: Path) -> None:
    settings, tensors = files.llama_8b()
    extra = {name.replace("blk.31.", "blk.32."): own for name, own in tensors.items() if "blk.31." in name}
    more = settings | {"llama.block_count": 33, "llama.nextn_predict_layers": 1}
    found = sizes.from_config(files.write(tmp_path / "a.gguf", more, tensors | extra))
    assert found.parameters.total == registry.get("Llama-3.1-8B").total
    assert "218,112,000 parameters of layers that predict further tokens" in found.notes[-1]


def test_parts_of_a_split_file_are_one_model(tmp_path: Path) -> None:
    settings, tensors = files.qwen3_30b()
    names, split = sorted(tensors), {"split.count": 3, "split.no": 0}
    for part in range(3):
        own = {name: tensors[name] for name in names[part::3]}
        path = tmp_path / f"model-{part + 1:05d}-of-00003.gguf"
        files.write(path, split | (settings if part == 0 else {}), own)
    for where in (tmp_path / "model-00001-of-00003.gguf", tmp_path / "model-00002-of-00003.gguf", tmp_path):
        found = sizes.from_config(where)
        assert (found.parameters.total, found.name) == (30_532_122_624, "model")
    path.unlink()
    with pytest.raises(ConfigError, match=r"is one of 3 parts, and part 3 is not there"):
        sizes.from_config(tmp_path / "model-00001-of-00003.gguf")


def test_a_checkpoint_may_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, tensors = files.llama_8b()
    path = files.write(tmp_path / "a.gguf", settings, tensors)
    for where in (path, tmp_path):
        found = checkpoint.read(where)
        assert (found.files, found.tensors) == (1, len(tensors))
        assert found.nbytes == files.nbytes(tensors) == sum(part.nbytes for part in found.held)
        assert found.breakdown.ffn == 32 * 3 * 4096 * 14336
    assert main(["memory", "--config", str(path), "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["weights"] == pytest.approx(files.nbytes(tensors), rel=1e-3)
    assert answer["kv_bytes_per_token"] == 131_072
    assert main(["params", "--checkpoint", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nbytes"] == files.nbytes(tensors)


SMALL: files.Tensors = {"token_embd.weight": (files.Q4_K, (256, 64))}
LLAMA = {"general.architecture": "llama"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"GGUF", "the file ends inside its header|longer than the file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1; 2 and 3 are known"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version 50331648"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63), "it counts more than it holds"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "holds no language model"),
        (files.header(LLAMA, SMALL), "is cut short"),
        (files.header(LLAMA, {"a": (77, (256,))}), "a has type 77, which is not known here"),
        (files.header(LLAMA, {"a": (files.Q4_K, (100,))}), "a row of a is no multiple of 256"),
        (files.header(LLAMA, {"a": (files.F32, (1, 1, 1, 1, 1))}), "a tensor of 5 dimensions"),
        (files.header(LLAMA | {"general.type": "adapter"}, {}), "its general.type is adapter"),
        (files.header(LLAMA, {"a": (files.F32, (2**63,) * 4)}), "is cut short"),
    ],
)
def test_a_file_that_lies_is_one_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence) as refused:
        sizes.from_config(path)
    assert "\n" not in str(refused.value)


@given(st.data())
def test_damaged_headers_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(files.header({**LLAMA, "llama.block_count": 1, "x": ["a"], "y": [1, 2]}, SMALL))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("gguf") / "a.gguf"
    path.write_bytes(
        bytes(whole[: data.draw(st.integers(4, len(whole)))]) + bytes(data.draw(st.integers(0, 20000)))
    )
    with suppress(ConfigError):
        sizes.from_config(path)


def test_two_models_in_a_folder_are_not_chosen_between(tmp_path: Path) -> None:
    for name in ("a", "b"):
        files.write(tmp_path / f"{name}.gguf", LLAMA, SMALL)
    with pytest.raises(ConfigError, match=r"holds 2 GGUF models \(a, b\); name one file"):
        sizes.from_config(tmp_path)


def test_another_file_is_not_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_text("{}")
    assert not gguf.is_one(path)
    assert not gguf.is_one(tmp_path)
    assert not gguf.is_one(tmp_path / "nowhere")
