"""A local checkpoint folder: true sizes and dtypes from safetensors headers. Weights are never read."""

from __future__ import annotations

import json
import struct
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from moe_core.errors import ConfigError
from moe_core.hf import reader
from moe_core.hf.names import breakdown
from moe_core.perf.params import Breakdown

_HEADER_LIMIT = 256 * 2**20  # the format's own limit is 100 MB; a header beyond it is not one
_FILES_LIMIT = 10_000
_SCALES = ("_scale", "_scales", "_scale_inv", "_zeros", "qzeros", "g_idx", "_blocks_shape")


class Tensor(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class Checkpoint(NamedTuple):
    """What is on disk: elements and bytes by dtype, elements by component, and the config if there is one.

    Packed formats store several weights in one element, so `elements` counts what is stored.
    """

    files: int
    tensors: int
    elements: int
    nbytes: int
    by_dtype: dict[str, int]
    breakdown: Breakdown
    config: dict[str, Any] | None


def read(folder: Path) -> Checkpoint:
    """Headers of every *.safetensors file in `folder`. Raises ConfigError with one sentence."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is not a folder")
    files = sorted(folder.glob("*.safetensors"))[:_FILES_LIMIT]
    if not files:
        raise ConfigError(f"{folder}: holds no .safetensors files")
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= header(file)
    config = reader.read(folder / "config.json") if (folder / "config.json").exists() else None
    by_dtype = Counter[str]()
    for tensor in tensors.values():
        by_dtype[tensor.dtype] += tensor.nbytes
    shapes = {name: tensor.shape for name, tensor in tensors.items() if not name.endswith(_SCALES)}
    return Checkpoint(
        files=len(files),
        tensors=len(tensors),
        elements=sum(prod(tensor.shape) for tensor in tensors.values()),
        nbytes=sum(by_dtype.values()),
        by_dtype=dict(by_dtype),
        breakdown=breakdown(shapes, _experts(config)),
        config=config,
    )


def header(file: Path) -> dict[str, Tensor]:
    """Tensors described by the header of one safetensors file, checked against the file's length."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(_HEADER_LIMIT, file.stat().st_size):
                raise ConfigError(f"{file.name}: is not a safetensors file")
            described = json.loads(stream.read(length))
        found = {name: _tensor(value) for name, value in described.items() if name != "__metadata__"}
    except (OSError, struct.error, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{file.name}: is not a safetensors file") from error
    stored = file.stat().st_size - 8 - length
    if sum(tensor.nbytes for tensor in found.values()) > stored:
        raise ConfigError(f"{file.name}: is cut short, its header promises more than the file holds")
    return found


def _tensor(value: dict[str, Any]) -> Tensor:
    start, stop = value["data_offsets"]
    return Tensor(str(value["dtype"]), tuple(int(size) for size in value["shape"]), int(stop) - int(start))


def _experts(config: dict[str, Any] | None) -> int | None:
    if config is None:
        return None
    fields = reader.language(config)
    return fields.maybe_size("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
