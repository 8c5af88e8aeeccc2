"""A local checkpoint: true sizes and dtypes from the headers of its files. Weights are never read."""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from moe_core import inputs
from moe_core.errors import ConfigError
from moe_core.hf import gguf, reader
from moe_core.hf.names import breakdown, components
from moe_core.hf.reader import short
from moe_core.perf.params import Breakdown

_LIMIT = 32_000_000  # bytes of a header or an index: of 400,000 tensors; the format allows 100 MB
_RANKS = 32  # dimensions of a tensor
_BITS = {  # of an element; the names and sizes of safetensors 0.8
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
_FILES_LIMIT = 10_000
_SCALES = ("_scale", "_scales", "_scale_inv", "_zeros", "qzeros", "g_idx", "_blocks_shape")
SCALES = "scales"
Progress = Callable[[int, int], object]  # files read, files in all


class Tensor(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class Held(NamedTuple):
    """What one component holds in one dtype."""

    component: str
    dtype: str
    elements: int
    nbytes: int


class Checkpoint(NamedTuple):
    """What is on disk: elements and bytes by dtype, elements by component, and the config if there is one.

    Packed formats store several weights in one element, so `elements` counts what is stored. `held` sums
    to `nbytes`; the scales of quantised weights are a component of their own there.
    """

    files: int
    tensors: int
    elements: int
    nbytes: int
    by_dtype: dict[str, int]
    breakdown: Breakdown
    held: tuple[Held, ...]
    config: dict[str, Any] | None


def confined(typed: str, allowed: Sequence[Path]) -> Path:
    """The folder somebody typed, links followed, if it lies in one of `allowed`.

    What lies outside is refused in the same words whether it exists or not. Raises ConfigError.
    """
    text = typed.strip()
    if not allowed:
        raise ConfigError("checkpoint: this installation reads no folders (MOE_CHECKPOINT_DIRS is none)")
    if not text or "\0" in text or len(text) > 4096:
        raise ConfigError("checkpoint: must be the path of a folder")
    found = Path(os.path.realpath(allowed[0] / os.path.expanduser(text)))
    if not any(found == place or place in found.parents for place in allowed):
        places = ", ".join(str(place) for place in allowed)
        raise ConfigError(f"checkpoint ({short(text)}): must lie in {places} (MOE_CHECKPOINT_DIRS)")
    return found


def read(folder: Path, progress: Progress | None = None) -> Checkpoint:
    """Headers of the *.safetensors files in `folder`, or of the .gguf file that is one or lies in it.

    Raises ConfigError with one sentence.
    """
    if single := folder if gguf.is_one(folder) else _lone_gguf(folder):
        return _of_gguf(single)
    config = reader.read(folder / "config.json") if inputs.exists(folder / "config.json") else None
    files = _files(folder)
    tensors = _tensors(files, progress)
    by_dtype = Counter[str]()
    for tensor in tensors.values():
        by_dtype[tensor.dtype] += tensor.nbytes
    shapes = {name: tensor.shape for name, tensor in tensors.items() if not name.endswith(_SCALES)}
    experts = _experts(config)
    return Checkpoint(
        files=len(files),
        tensors=len(tensors),
        elements=sum(prod(tensor.shape) for tensor in tensors.values()),
        nbytes=sum(by_dtype.values()),
        by_dtype=dict(by_dtype),
        breakdown=breakdown(shapes, experts),
        held=_held(tensors, components(shapes, experts)),
        config=config,
    )


def _tensors(files: Sequence[Path], progress: Progress | None = None) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for number, file in enumerate(files):
        if progress:
            progress(number, len(files))
        found |= header(file)
    return found


def bytes_of(folder: Path, layers: int, experts: int | None) -> dict[str, Counter[str]]:
    """Bytes by component and dtype, scales included, of the first `layers` layers and what is around them."""
    tensors = _tensors(_files(folder))
    parts = components({name: tensor.shape for name, tensor in tensors.items()}, experts)
    found: dict[str, Counter[str]] = {}
    for name, tensor in tensors.items():
        layer = re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,6})\.", name)
        if layer is None or int(layer[1]) < layers:
            found.setdefault(parts[name], Counter())[tensor.dtype] += tensor.nbytes
    return found


def _lone_gguf(folder: Path) -> Path | None:
    """The GGUF model of a folder without safetensors."""
    if not inputs.is_folder(folder) or any(folder.glob("*.safetensors")):
        return None
    return gguf.alone(folder)


def _of_gguf(path: Path) -> Checkpoint:
    """The same of a GGUF file, whose elements are weights; scales lie beside them in every block."""
    header = gguf.read(path)
    elements, nbytes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    by_dtype, parts = Counter[str](), Counter[str]()
    for tensor in header.tensors.values():
        key, many = (tensor.component, tensor.form), tensor.elements
        elements[key] += many
        nbytes[key] += tensor.nbytes
        by_dtype[tensor.form] += tensor.nbytes
        parts[tensor.component] += many
    return Checkpoint(
        files=header.files,
        tensors=len(header.tensors),
        elements=sum(elements.values()),
        nbytes=sum(by_dtype.values()),
        by_dtype=dict(by_dtype),
        breakdown=Breakdown(**parts),
        held=tuple(Held(*key, elements[key], size) for key, size in nbytes.most_common()),
        config=None,
    )


def _held(tensors: Mapping[str, Tensor], parts: Mapping[str, str]) -> tuple[Held, ...]:
    """Elements and bytes by component and dtype, the largest first."""
    elements, nbytes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for name, tensor in tensors.items():
        key = (parts.get(name, SCALES), tensor.dtype)
        elements[key] += prod(tensor.shape)
        nbytes[key] += tensor.nbytes
    return tuple(Held(*key, elements[key], size) for key, size in nbytes.most_common())


def _files(folder: Path) -> list[Path]:
    """Those the index names where there is one: some folders hold the same weights a second time."""
    try:
        if not folder.is_dir():
            raise ConfigError(f"{folder.name}: is not a folder")
        found = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
        index = folder / "model.safetensors.index.json"
        listed = _indexed(index) if index.is_file() else []
    except OSError as error:
        raise ConfigError(f"{folder.name}: cannot be read ({error.strerror})") from error
    if not found and not listed:
        raise ConfigError(f"{folder.name}: holds no .safetensors files")
    if len(found) > _FILES_LIMIT:
        raise ConfigError(f"{folder.name}: holds {len(found):,} files, more than {_FILES_LIMIT:,}")
    missing = sorted(set(listed) - {path.name for path in found})
    if missing:
        raise ConfigError(f"{short(missing[0])}: is named in {index.name} and is not there")
    whole = [path for path in found if path.name == "model.safetensors"]
    return [path for path in found if path.name in listed] if listed else whole or found


def _indexed(index: Path) -> list[str]:
    """The files of the shards of a model."""
    try:
        values = inputs.parse(inputs.read(index, index.name, _LIMIT), index.name)
        return sorted({str(name) for name in values["weight_map"].values()})
    except (ConfigError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{index.name}: is not an index of safetensors files") from error


def header(file: Path) -> dict[str, Tensor]:
    """Tensors described by the header of one safetensors file, checked against the file's length."""
    name = short(file.name, 80)
    try:
        described, stored = _described(file)
        found = {key: _tensor(value) for key, value in described.items() if key != "__metadata__"}
    except (OSError, struct.error, ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
        raise ConfigError(f"{name}: is not a safetensors file") from error
    end = 0
    for start, tensor in sorted(found.values()):
        if start < end and tensor.nbytes:
            raise ConfigError(f"{name}: its header gives the same bytes to several tensors")
        end = max(end, start + tensor.nbytes)
    if end > stored:
        raise ConfigError(f"{name}: is cut short, its header promises more than the file holds")
    return {key: tensor for key, (_, tensor) in found.items()}


def _described(file: Path) -> tuple[dict[str, Any], int]:
    """The header as it stands there, and how many bytes follow it."""
    with inputs.opened(file) as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        stored = os.fstat(stream.fileno()).st_size - 8 - length
        if length > _LIMIT or stored < 0:
            raise ValueError("the header is longer than the file")
        return inputs.parse(stream.read(length), file.name), stored


def _tensor(value: dict[str, Any]) -> tuple[int, Tensor]:
    """Where its bytes begin, and what they are: as many as its shape and dtype say."""
    dtype, shape, (start, stop) = str(value["dtype"]), tuple(value["shape"]), value["data_offsets"]
    if len(shape) > _RANKS or not all(type(size) is int and size >= 0 for size in (*shape, start, stop)):
        raise ValueError("a shape or a place in the file is none")
    nbytes, bits = stop - start, _BITS.get(dtype)
    if nbytes < 0 or (prod(shape) > 8 * nbytes if bits is None else prod(shape) * bits != 8 * nbytes):
        raise ValueError("the shape and the bytes of a tensor differ")
    return start, Tensor(dtype, shape, nbytes)


def _experts(config: dict[str, Any] | None) -> int | None:
    if config is None:
        return None
    fields = reader.language(config)
    return fields.maybe_size("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
