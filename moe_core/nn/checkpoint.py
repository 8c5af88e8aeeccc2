"""Checkpoints: one safetensors file, its architecture in the header, no pickles anywhere."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from moe_core.errors import StoreError
from moe_core.nn.layers import rotary_tables
from moe_core.nn.model import Decoder
from moe_core.specs import Architecture

_HEADER_LIMIT = 2**24


def save(model: Decoder, path: Path, made: dict[str, Any], dtype: torch.dtype = torch.bfloat16) -> None:
    """Write `model` in `dtype`; `made` says how it came to be and travels in the header.

    Buffers and counts keep their own dtype: a selection bias moves in steps that bf16 would lose.
    """
    weights = dict(model.named_parameters(remove_duplicate=False))
    tensors = {
        name: (value.to(dtype) if name in weights else value).contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {"architecture": model.arch.model_dump_json(), "made": json.dumps(made, sort_keys=True)}
    save_file(tensors, path, metadata=metadata)


def load(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Decoder:
    """The decoder stored at `path`, ready to run. Raises StoreError when the file is not one of ours."""
    architecture = read_architecture(path)
    with torch.device("meta"):
        model = Decoder(architecture)
    try:
        tensors = load_file(path)
        weights = dict(model.named_parameters(remove_duplicate=False))
        cast = {name: value.to(dtype) if name in weights else value for name, value in tensors.items()}
        model.load_state_dict(cast, assign=True)
    except (SafetensorError, RuntimeError) as error:
        raise StoreError(f"{path.name} does not hold the weights its header describes") from error
    _restore_buffers(model)
    return model.to(device).eval()


def read_architecture(path: Path) -> Architecture:
    """The architecture in the header of `path`, without reading weights."""
    return Architecture.parse_json(_metadata(path, "architecture"))


def read_made(path: Path) -> dict[str, Any]:
    """How the checkpoint at `path` was made: data, steps, seed, versions, date."""
    made: dict[str, Any] = json.loads(_metadata(path, "made"))
    return made


def _metadata(path: Path, key: str) -> str:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _HEADER_LIMIT:
                raise StoreError(f"{path.name} is not a safetensors file")
            value: str = json.loads(file.read(length))["__metadata__"][key]
            return value
    except (OSError, struct.error, ValueError, KeyError) as error:
        raise StoreError(f"{path.name} cannot be read as one of our checkpoints") from error


def _restore_buffers(model: Decoder) -> None:
    """Non-persistent buffers are not in the file: rebuild the ones the meta device left empty."""
    rotary = model.rotary
    rotary.cos_SP, rotary.sin_SP = rotary_tables(rotary.head_dim, model.arch.max_positions, rotary.theta)
