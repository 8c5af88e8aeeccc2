"""Checkpoint folders: true sizes from headers, files that lie are refused."""

import json
import struct
from pathlib import Path

import pytest

from moe_core.errors import ConfigError
from moe_core.hf.checkpoint import confined, header, read
from moe_core.perf.params import count
from moe_core.settings import MODELS


def write(path: Path, tensors: dict[str, tuple[str, list[int], int]], cut: int = 0) -> None:
    """A safetensors file of zeros: name -> (dtype, shape, bytes)."""
    offset, described = 0, {}
    for name, (dtype, shape, nbytes) in tensors.items():
        described[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    head = json.dumps(described | {"__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(offset - cut))


def test_sizes_dtypes_and_components(tmp_path: Path) -> None:
    write(
        tmp_path / "model-00001-of-00002.safetensors",
        {
            "model.embed_tokens.weight": ("BF16", [100, 8], 1600),
            "model.layers.0.self_attn.q_proj.weight": ("BF16", [8, 8], 128),
            "model.layers.0.mlp.gate.weight": ("F32", [4, 8], 128),
        },
    )
    write(
        tmp_path / "model-00002-of-00002.safetensors",
        {
            "model.layers.0.mlp.experts.3.up_proj.weight": ("F8_E4M3", [16, 8], 128),
            "model.layers.0.mlp.experts.3.up_proj.weight_scale_inv": ("F32", [1, 1], 4),
            "model.layers.0.input_layernorm.weight": ("BF16", [8], 16),
        },
    )
    (tmp_path / "config.json").write_text('{"model_type": "mixtral", "num_local_experts": 4}')
    found = read(tmp_path)
    assert (found.files, found.tensors, found.nbytes) == (2, 6, 2004)
    assert found.by_dtype == {"BF16": 1744, "F32": 132, "F8_E4M3": 128}
    parts = found.breakdown
    assert (parts.embedding, parts.attention, parts.router, parts.experts, parts.norms) == (
        800,
        64,
        32,
        128,
        8,
    )
    assert found.config == {"model_type": "mixtral", "num_local_experts": 4}


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_our_own_checkpoints_hold_the_parameters_of_their_architecture(name: str) -> None:
    from moe_core.nn.checkpoint import read_architecture

    path = MODELS / f"scale-{name}.safetensors"
    beside = (".scale", "selection_bias_E")
    weights = [tensor for key, tensor in header(path).items() if not key.endswith(beside)]
    total = sum(tensor.nbytes // (1 if tensor.dtype == "I8" else 4) for tensor in weights)
    assert total == count(read_architecture(path)).total


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"{..}",
    ],
)
def test_what_is_no_safetensors_file_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.safetensors: is not a safetensors file"):
        read(tmp_path)


def test_a_file_cut_short_says_so(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", {"w": ("F32", [4], 16)}, cut=1)
    with pytest.raises(ConfigError, match="cut short"):
        read(tmp_path)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="is not a folder"):
        read(tmp_path / "nowhere")


WEIGHTS = {"lm_head.weight": ("BF16", [10, 2], 40)}


def test_what_is_held_sums_to_the_bytes_and_scales_stand_apart(tmp_path: Path) -> None:
    weights = WEIGHTS | {"lm_head.weight_scale": ("F32", [1], 4)}
    write(tmp_path / "model.safetensors", weights)
    found = read(tmp_path)
    assert [tuple(part) for part in found.held] == [("head", "BF16", 20, 40), ("scales", "F32", 1, 4)]
    assert sum(part.nbytes for part in found.held) == found.nbytes


def test_weights_that_lie_there_twice_count_once(tmp_path: Path) -> None:
    """Mistral's folders hold a consolidated file beside the one that transformers reads."""
    write(tmp_path / "consolidated.safetensors", {"output.weight": ("BF16", [10, 2], 40)})
    write(tmp_path / "model.safetensors", WEIGHTS)
    assert read(tmp_path).nbytes == 40
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}))
    assert read(tmp_path).files == 1


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ('{"weight_map": {"a": "gone.safetensors"}}', "gone.safetensors: is named in"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "is not there"),
        ("[]", "is not an index"),
        ("{", "is not an index"),
    ],
)
def test_an_index_that_lies_says_so(tmp_path: Path, index: str, sentence: str) -> None:
    write(tmp_path / "model.safetensors", WEIGHTS)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ConfigError, match=sentence):
        read(tmp_path)


def test_progress_is_told_file_by_file(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"model-{number}.safetensors", {f"w{number}": ("F32", [1], 4)})
    told: list[tuple[int, int]] = []
    read(tmp_path, lambda done, whole: told.append((done, whole)))
    assert told == [(0, 3), (1, 3), (2, 3)]


def test_only_allowed_folders_are_read(tmp_path: Path) -> None:
    """Outside, what exists and what does not are refused alike; links do not lead out."""
    home, outside = tmp_path / "home", tmp_path / "outside"
    (home / "model").mkdir(parents=True)
    outside.mkdir()
    (home / "link").symlink_to(outside)
    assert confined(str(home / "model"), [home]) == home / "model"
    assert confined("model", [home]) == home / "model"
    assert confined(str(home), [outside, home]) == home
    for text in ("..", "../outside", str(outside), str(outside / "nothing"), "link", "/etc"):
        with pytest.raises(ConfigError, match=r"must lie in .*home \(MOE_CHECKPOINT_DIRS\)"):
            confined(text, [home])
    for text in ("", "  ", "a\0b", "x" * 5000):
        with pytest.raises(ConfigError, match="must be the path of a folder"):
            confined(text, [home])
    with pytest.raises(ConfigError, match="reads no folders"):
        confined(str(home), [])
