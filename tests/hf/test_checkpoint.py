"""Checkpoint folders: true sizes from headers, files that lie are refused."""

import json
import struct
from pathlib import Path

import pytest

from moe_core.errors import ConfigError
from moe_core.hf.checkpoint import header, read
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
    weights = {key: t for key, t in header(path).items() if not key.endswith("selection_bias_E")}
    total = sum(t.nbytes for t in weights.values()) // 2
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
