"""A `.gguf` file by its header: what it holds, tensor by tensor. Weights are never read.

The layout is that of ggml (docs/gguf.md), versions 2 and 3. The header is read here, up to a limit, and
not by the gguf package, which looks at every word of the vocabulary (8 s for 150,000 of them) and believes
every count it finds. What a number of a tensor's type means stands in that package's constants.py (0.19.0).
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from moe_core import inputs
from moe_core.errors import ConfigError
from moe_core.formats import GGUF, Format, size, stored
from moe_core.hf.reader import short

_MAGIC = b"GGUF"
_LIMIT = 64_000_000  # bytes of a header: the largest vocabularies take 20 MB
_ARRAY = 1024  # elements of an array that is kept: one a layer; a vocabulary is passed over
_PARTS = 1000
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9
_TYPES: dict[int, Format] = {
    **{0: "fp32", 1: "fp16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 10: "q2_k", 11: "q3_k"},
    **{12: "q4_k", 13: "q5_k", 14: "q6_k", 15: "q8_k", 16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs"},
    **{19: "iq1_s", 20: "iq4_nl", 21: "iq3_s", 22: "iq2_s", 23: "iq4_xs", 24: "int8", 29: "iq1_m"},
    **{30: "bf16", 34: "tq1_0", 35: "tq2_0", 39: "mxfp4", 40: "nvfp4", 41: "q1_0"},
}
_BLOCKS = {"mxfp4": 32, "nvfp4": 64}  # elements of a block, where formats knows those of a scale
_COMPONENTS = (  # of a tensor's name, gguf's constants.py; first match wins
    ("tower", r"^(v|a|mm)\."),
    ("embedding", r"^token_embd\."),
    ("head", r"^output\."),
    ("router", r"\.(ffn_gate_inp|exp_probs_b)\."),
    ("shared", r"_shexp\."),
    ("experts", r"_(ch)?exps\."),
    ("mixer", r"\.(ssm_|shortconv|time_mix)"),
    ("norms", r"norm"),
    ("attention", r"\.(attn|indexer)"),
    ("ffn", r"\.ffn_"),
)
_SPLIT = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")


class Weight(NamedTuple):
    """Its format, its shape as ggml writes it (the row first), its bytes, and the part of the model."""

    form: Format
    shape: tuple[int, ...]
    nbytes: int
    component: str

    @property
    def elements(self) -> int:
        return prod(self.shape)


class Header(NamedTuple):
    """Settings by name, without long lists, and tensors by name; of every part of a split file."""

    settings: dict[str, Any]
    tensors: dict[str, Weight]
    files: int = 1


def is_one(path: Path) -> bool:
    """Whether the file at `path` begins as GGUF does, whatever it is called."""
    try:
        with inputs.opened(path) as stream:
            return stream.read(4) == _MAGIC
    except OSError:
        return False


def read(path: Path) -> Header:
    """The header of the file at `path`, and of its other parts. Raises ConfigError with one sentence."""
    header = _whole(path)
    kind = header.settings.get("general.type", "model")
    if kind != "model" or "token_embd.weight" not in header.tensors:
        what = "" if kind == "model" else f", its general.type is {short(kind)}"
        raise ConfigError(f"{short(path.name)}: holds no language model{what}")
    return header


def _whole(path: Path) -> Header:
    first = _one(path)
    parts = first.settings.get("split.count", 1)
    if not isinstance(parts, int) or parts <= 1:
        return first
    split = _SPLIT.fullmatch(path.name)
    if split is None or not parts == int(split[2]) <= _PARTS:
        raise ConfigError(f"{short(path.name)}: is one of {parts} parts, and its name does not say which")
    tensors: dict[str, Weight] = {}
    settings: dict[str, Any] = {}
    for number in range(1, parts + 1):
        file = path.with_name(f"{split[1]}-{number:05d}-of-{parts:05d}.gguf")
        if not is_one(file):
            raise ConfigError(f"{short(path.name)}: is one of {parts} parts, and part {number} is not there")
        one = _one(file)
        settings, tensors = {**one.settings, **settings}, tensors | one.tensors
    return Header(settings, tensors, parts)


def by_component(tensors: Mapping[str, Weight]) -> dict[str, Counter[Format]]:
    """Elements by component and format."""
    found: dict[str, Counter[Format]] = {}
    for tensor in tensors.values():
        found.setdefault(tensor.component, Counter())[tensor.form] += tensor.elements
    return found


class _Stream:
    """A file from its start, up to the limit."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self.stream, self.left, self.passed = stream, min(length, _LIMIT), 0

    def take(self, many: int) -> bytes:
        self._pass(many)
        found = self.stream.read(many)
        if len(found) < many:
            raise ValueError("the file ends inside its header")
        return found

    def skip(self, many: int) -> None:
        self._pass(many)
        self.stream.seek(many, 1)

    def number(self, letter: str) -> Any:
        return struct.unpack("<" + letter, self.take(struct.calcsize(letter)))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def _pass(self, many: int) -> None:
        if many > self.left:
            raise ValueError("the header is longer than the file, or than 64 MB")
        self.left -= many
        self.passed += many


def _one(path: Path) -> Header:
    name = short(path.name)
    try:
        with inputs.opened(path) as file:
            length = os.fstat(file.fileno()).st_size
            stream = _Stream(file, length)
            settings, tensors = _described(stream)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read ({error.strerror})") from error
    except (ValueError, OverflowError, struct.error) as error:
        raise ConfigError(f"{name}: is not a GGUF file that can be read ({error})") from error
    if sum(tensor.nbytes for tensor in tensors.values()) > length - stream.passed:
        raise ConfigError(f"{name}: is cut short, its header promises more than the file holds")
    return Header(settings, tensors)


def _described(stream: _Stream) -> tuple[dict[str, Any], dict[str, Weight]]:
    """Settings and tensors, in the order of the file."""
    if stream.take(4) != _MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = stream.number("I")
    if version not in (2, 3):
        raise ValueError(f"version {version}; 2 and 3 are known")
    tensors, settings = stream.number("Q"), stream.number("Q")
    values = dict(_setting(stream) for _ in _upto(settings, stream))
    return values, dict(_tensor(stream) for _ in _upto(tensors, stream))


def _upto(many: int, stream: _Stream) -> range:
    """As often as the header says, and no more than what is left could hold."""
    if many > stream.left // 8:
        raise ValueError("it counts more than it holds")
    return range(many)


def _setting(stream: _Stream) -> tuple[str, Any]:
    name, kind = stream.text(), stream.number("I")
    if kind == _STRING:
        return name, stream.text()
    if kind == _LIST:
        return name, _items(stream)
    return name, stream.number(_letter(kind))


def _items(stream: _Stream) -> list[Any] | None:
    """A short list; None for a long one, which is passed over."""
    kind, many = stream.number("I"), stream.number("Q")
    if kind == _STRING:
        for _ in _upto(many, stream):
            stream.skip(stream.number("Q"))
        return None
    letter = _letter(kind)
    if many > _ARRAY:
        stream.skip(many * struct.calcsize(letter))
        return None
    return [stream.number(letter) for _ in range(many)]


def _letter(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"a setting of type {kind}")
    return _SCALARS[kind]


def _tensor(stream: _Stream) -> tuple[str, Weight]:
    name, dimensions = stream.text(), stream.number("I")
    if dimensions > 4:
        raise ValueError(f"a tensor of {dimensions} dimensions")
    shape = tuple(stream.number("Q") for _ in range(dimensions))
    kind = stream.number("I")
    stream.number("Q")  # where its bytes begin
    if kind not in _TYPES:
        raise ValueError(f"{short(name)} has type {kind}, which is not known here")
    form = _TYPES[kind]
    block = _BLOCKS.get(form) or (stored(form).group if form in GGUF else None) or 1
    if (shape[0] if shape else 1) % block:
        raise ValueError(f"a row of {short(name)} is no multiple of {block}")
    return name, Weight(form, shape, size(prod(shape), form), _component(name))


def _component(name: str) -> str:
    return next((part for part, pattern in _COMPONENTS if re.search(pattern, name)), "other")


def most(forms: Counter[Format]) -> dict[Format, int]:
    """The formats of a component without those of biases and small vectors, under 0.02 % of it."""
    return {form: many for form, many in forms.items() if many * 5000 >= forms.total()}


def plain(path: Path) -> str:
    """What to call the model: the file's name, without the number of a part."""
    split = _SPLIT.fullmatch(path.name)
    return split[1] if split else path.stem or "imported"


def alone(folder: Path) -> Path | None:
    """The model of a folder without a config.json: its GGUF file, or the first part of it."""
    if inputs.exists(folder / "config.json"):
        return None
    found = [path for path in sorted(folder.glob("*.gguf")) if is_one(path)]
    first = {plain(path): path for path in reversed(found)}
    if len(first) > 1:
        names = ", ".join(sorted(first)[:3])
        raise ConfigError(
            f"{short(folder.name)}: holds {len(first)} GGUF models ({short(names)}); name one file"
        )
    return next(iter(first.values()), None)
