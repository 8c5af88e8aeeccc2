"""Reading files that people upload: anything but a small JSON object is one sentence."""

from pathlib import Path
from typing import Any

import pytest

from moe_core.errors import ConfigError
from moe_core.hf import reader, sizes
from moe_core.hf.reader import LIMIT_BYTES, language, parse, read


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[1, 2]", "must hold a JSON object, not a list"),
        (b"3", "must hold a JSON object, not a int"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"[" * 100_000, "nested too deeply|is not JSON"),
        (b" " * (LIMIT_BYTES + 1), "at most 4,000,000"),
        ("x" * (LIMIT_BYTES + 1), "at most 4,000,000"),
        ('{"model_type": "\\ud800"}', "half a character"),
    ],
)
def test_junk(text: bytes | str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as raised:
        parse(text)
    assert len(str(raised.value)) < 200


def test_a_hundred_megabytes_are_refused_by_their_size(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(ConfigError, match=r"config\.json \(100,000,000 bytes\)"):
        read(path)


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"model_type": "llama"}')
    assert read(path) == {"model_type": "llama"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "config.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path)


def test_a_device_is_not_read_for_ever() -> None:
    with pytest.raises(ConfigError, match="zero: cannot be read"):
        read(Path("/dev/zero"))


def test_infinity_as_transformers_writes_it() -> None:
    """A Mamba's time step has no upper end; strict JSON has no word for that."""
    found = parse('{"time_step_limit": [0.0, {"__float__": "Infinity"}], "other": {"__float__": "x"}}')
    assert found["time_step_limit"] == [0.0, float("inf")]
    assert found["other"] == {"__float__": "x"}


def test_the_innermost_text_config_is_the_language_model() -> None:
    nested = {"model_type": "outer", "thinker_config": {"text_config": {"hidden_size": 3}}}
    found = language(nested)
    assert found.nested
    assert found.values["hidden_size"] == 3
    assert not language({"model_type": "llama", "text_config": None}).nested


def test_fields() -> None:
    fields = reader.Fields({"a": 1, "b": None, "c": 0, "d": 1.5, "e": [1]})
    assert fields.size("b", "a") == 1
    assert fields.maybe_size("b") is None
    assert fields.count("c") == 0
    assert fields.count("zz", default=4) == 4
    assert fields.number("d", 0.0) == 1.5
    assert fields.items("e") == [1]
    assert fields.items("b") == []
    assert fields.text("a", "fallback") == "fallback"
    for wrong in (lambda: fields.size("d"), lambda: fields.count("d"), lambda: fields.flag("c", True)):
        with pytest.raises(ConfigError):
            wrong()
    with pytest.raises(ConfigError, match="so the class default of transformers applies"):
        fields.size("absent")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"dim": 6144, "n_layers": 56, "n_heads": 48, "moe": {"num_experts": 8}}, r"params\.json"),
        ({"peft_type": "LORA", "r": 8}, "adapter"),
        ({"metadata": {}, "weight_map": {"a": "b"}}, "index of a checkpoint"),
        ({"tokenizer_class": "LlamaTokenizer"}, r"tokenizer_config\.json"),
        ({"eos_token_id": 2, "transformers_version": "5.23.0"}, r"generation_config\.json"),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}, r"hf_quant_config\.json"),
        ({"bits": 4, "group_size": 128}, r"quantize_config\.json"),
    ],
)
def test_another_file_of_a_checkpoint_is_named_as_what_it_is(values: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=rf"{what}.*; the config\.json beside it is wanted"):
        sizes.from_values(values)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        ((200).to_bytes(8, "little") + b'{"a": {"dtype": "BF16"}}', "safetensors"),
        (b"PK\x03\x04" + bytes(40), "never opened"),
        *((bytes([0x80, protocol]) + b"}q\x00.", "a pickle") for protocol in (2, 3, 4, 5)),
    ],
)
def test_weights_are_no_config(data: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    for ask in (lambda: read(path), lambda: parse(data)):
        with pytest.raises(ConfigError, match=rf"{what}.*; a config\.json is wanted"):
            ask()
