"""Reading one config.json: every value checked, every missing field named.

A class default of transformers need not be the checkpoint's value (OLMoE's experts are 1,024 wide, the
class default says 2,048), so a size that is missing is `Missing`, and whoever fills it in says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from moe_core import inputs
from moe_core.errors import ConfigError
from moe_core.errors import short as short

LIMIT_BYTES = 4_000_000  # the largest published configs, with a scale a layer, are under 1 MB
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")


class Unsupported(ConfigError):
    """The closed form cannot express this model; exact counting still may."""


class Missing(Unsupported):
    """A value is missing that transformers fills in, as a nested config writes only what differs."""


class Fields:
    """The values of one config, read with their rule."""

    def __init__(self, values: Mapping[str, Any], nested: bool = False) -> None:
        self.values = values
        self.nested = nested
        self.silent: list[str] = []

    def size(self, *names: str) -> int:
        """A required positive integer under the first of `names` that is present."""
        found = self.maybe_size(*names)
        if found is None:
            raise self.missing(names[0])
        return found

    def maybe_size(self, *names: str) -> int | None:
        """A positive integer, or None where it is absent or null."""
        name, value = self._first(names)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} ({short(value)}): must be a whole number of at least 1")
        return value

    def count(self, *names: str, default: int = 0) -> int:
        """An integer of at least 0."""
        name, value = self._first(names)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigError(f"{name} ({short(value)}): must be a whole number of at least 0")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name, default)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise ConfigError(f"{name} ({short(value)}): must be true or false")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{name} ({short(value)}): must be a number")
        return float(value)

    def text(self, name: str, default: str = "") -> str:
        value = self.values.get(name)
        return value if isinstance(value, str) else default

    def items(self, name: str) -> list[Any]:
        value = self.values.get(name)
        if value is not None and not isinstance(value, list):
            raise ConfigError(f"{name} ({short(value)}): must be a list")
        return value or []

    def group(self, name: str) -> Fields:
        """A required nested object, such as DBRX's ffn_config."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise self.missing(name)
        return Fields(value, self.nested)

    def stated(self, *names: str) -> None:
        """Note in `silent` where none of `names` is given, not even as null: then a class default decides."""
        if not any(name in self.values for name in names):
            self.silent.append(names[0])

    def missing(self, name: str) -> ConfigError:
        return Missing(f"config.json: {name} is missing, so the class default of transformers applies")

    def _first(self, names: tuple[str, ...]) -> tuple[str, Any]:
        present = [(name, self.values[name]) for name in names if self.values.get(name) is not None]
        return present[0] if present else (names[0], None)


def read(path: Path) -> dict[str, Any]:
    """The object in the file at `path`. Raises ConfigError for anything that is not a small JSON object."""
    with suppress(OSError), inputs.opened(path) as file:
        _require_text(file.read(16), short(path.name, 80))
    return parse(inputs.read(path, short(path.name, 80), LIMIT_BYTES), path.name)


def _require_text(head: bytes, what: str) -> None:
    """Raises ConfigError for the beginning of another kind of file, saying which."""
    found = next((said for begins, said in _BINARY.items() if head.startswith(begins)), None)
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < 2**32:
        found = "the weights of a checkpoint (safetensors); --checkpoint takes their folder"
    if found is not None:
        raise ConfigError(f"{what}: this is {found}; a config.json is wanted")


_BINARY = {
    b"GGUF": "a GGUF file; --config takes its path, and so does the Architectures page",
    b"PK\x03\x04": "a zip or weights in PyTorch's own format, which is never opened",
    **{bytes((0x80, protocol)): "a pickle, which is never opened" for protocol in (2, 3, 4, 5)},
    b"%PDF": "a PDF",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "compressed (gzip)",
}


def parse(text: bytes | str, name: str = "config.json") -> dict[str, Any]:
    """The JSON object in `text`, an upload or a paste."""
    what = short(name, 80)
    if len(text) > LIMIT_BYTES:
        raise ConfigError(f"{what} ({len(text):,} bytes): must have at most {LIMIT_BYTES:,}")
    if isinstance(text, bytes):
        _require_text(text[:16], what)
    value = inputs.parse(text, what, finite=False, pairs=_infinite)
    if not isinstance(value, dict):
        raise ConfigError(f"{what}: must hold a JSON object, not a {type(value).__name__}")
    return value


def language(config: Mapping[str, Any]) -> Fields:
    """The language model's part: a nested text config where there is one, with the outer tie and type."""
    for name in _NESTED:
        inner = config.get(name)
        if isinstance(inner, dict):
            if any(isinstance(inner.get(deeper), dict) for deeper in _NESTED):
                return language(inner)
            outer = {key: config[key] for key in ("tie_word_embeddings",) if key in config}
            return Fields({**outer, "model_type": config.get("model_type"), **inner}, nested=True)
    return Fields(config)


def no_model(config: Mapping[str, Any]) -> ConfigError:
    """What to say of a file without a model_type: which other file it is, where that shows."""
    what = next((what for marks, what in _OTHERS if all(mark in config for mark in marks)), None)
    if what is None:
        return ConfigError("config.json: model_type is missing")
    return ConfigError(f"config.json: this is {what}; the config.json beside it is wanted")


_OTHERS: tuple[tuple[tuple[str, ...], str], ...] = (  # the fields that give a file away
    (("dim", "n_layers", "n_heads"), "Mistral's own params.json"),
    (("peft_type",), "the configuration of an adapter (adapter_config.json)"),
    (("weight_map",), "the index of a checkpoint's safetensors files"),
    (("tokenizer_class",), "the configuration of a tokenizer (tokenizer_config.json)"),
    (("added_tokens", "model"), "a tokenizer (tokenizer.json)"),
    (("eos_token_id", "transformers_version"), "how text is generated (generation_config.json)"),
    (("producer", "quantization"), "how the weights are quantised (hf_quant_config.json)"),
    (("quant_method",), "how the weights are quantised (quantize_config.json)"),
    (("bits", "group_size"), "how the weights are quantised (quantize_config.json)"),
    (("image_processor_type",), "how pictures are prepared (preprocessor_config.json)"),
    (("processor_class",), "how inputs are prepared (preprocessor_config.json)"),
    (("_class_name", "_diffusers_version"), "the configuration of a diffusion model"),
)


def _infinite(pairs: list[tuple[str, Any]]) -> Any:
    """transformers writes an infinite time step as {"__float__": "Infinity"}."""
    value = dict(pairs)
    if value.keys() == {"__float__"} and value["__float__"] in ("Infinity", "-Infinity", "NaN"):
        return float(value["__float__"])
    return value
