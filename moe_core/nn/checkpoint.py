"""Checkpoints: one safetensors file, its architecture in the header, no pickles anywhere.

Shipped models are int8: each row of a matrix (along its longer side) has a scale in fp16, so that a weight is
off by at most half a 127th of the largest in its row. `<name>.scale` lies beside `<name>`.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from moe_core.errors import StoreError
from moe_core.nn.layers import rotary_tables
from moe_core.nn.model import Decoder
from moe_core.specs import Architecture

SCALE = ".scale"
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


def save_int8(model: Decoder, path: Path, made: dict[str, Any]) -> None:
    """Write `model` with its matrices in int8 and its vectors in fp32. Buffers keep their dtype."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name in weights and value.ndim >= 2:
            tensors[name], tensors[name + SCALE] = quantised(value)
        else:
            tensors[name] = value.contiguous()
    metadata = {"architecture": model.arch.model_dump_json(), "made": json.dumps(made, sort_keys=True)}
    save_file(tensors, path, metadata=metadata)


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix (the last two axes) as int8 and the scales of its rows, fp16, of a shape that broadcasts."""
    axis = -1 if weight.shape[-1] >= weight.shape[-2] else -2
    scale = (weight.float().abs().amax(axis, keepdim=True) / 127).half().clamp_min(2.0**-24)
    whole = (weight.float() / scale.float()).round().clamp(-127, 127).to(torch.int8)
    return whole.contiguous(), scale.contiguous()


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a file, int8 ones multiplied out."""
    return {
        name: value.float() * tensors[name + SCALE].float() if name + SCALE in tensors else value
        for name, value in tensors.items()
        if not name.endswith(SCALE)
    }


def load(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Decoder:
    """The decoder stored at `path`, ready to run. Raises StoreError when the file is not one of ours."""
    architecture = read_architecture(path)
    with torch.device("meta"):
        model = Decoder(architecture)
    try:
        tensors = _plain(load_file(path))
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
