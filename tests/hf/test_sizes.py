"""A folder with weights in it: formats by the headers of its files, where they are those of its model."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from moe_core.hf import sizes
from moe_core.hf.config import load
from moe_core.perf import memory
from tests.hf.configs import flat
from tests.hf.test_checkpoint import write

CONFIG = flat("mixtral", num_local_experts=4, num_experts_per_tok=2)
HIDDEN, WIDTH = CONFIG["hidden_size"], CONFIG["intermediate_size"]
Tensors = dict[str, tuple[str, list[int], int]]


def dense(shape: list[int]) -> Tensors:
    return {".weight": ("BF16", shape, 2 * prod(shape))}


def fp8(shape: list[int]) -> Tensors:
    return {
        ".weight": ("F8_E4M3", shape, prod(shape)),
        ".weight_scale": ("F32", [shape[0], 1], 4 * shape[0]),
    }


def packed(shape: list[int]) -> Tensors:
    """Four bits in groups of 16, as GPTQ packs them."""
    rows, columns = shape
    return {
        ".qweight": ("I32", [columns // 8, rows], rows * columns // 2),
        ".scales": ("F16", [columns // 16, rows], 2 * rows * columns // 16),
    }


def model(linear: Any, layers: int = 6) -> Tensors:
    heads, keys = 4 * 16, 2 * 16
    modules = {
        **{"self_attn.q_proj": [heads, HIDDEN], "self_attn.k_proj": [keys, HIDDEN]},
        **{"self_attn.v_proj": [keys, HIDDEN], "self_attn.o_proj": [HIDDEN, heads]},
    }
    for expert in range(4):
        own = f"block_sparse_moe.experts.{expert}"
        modules |= {f"{own}.w{n}": [HIDDEN, WIDTH] if n == 2 else [WIDTH, HIDDEN] for n in (1, 2, 3)}
    found = {f"model.embed_tokens{end}": own for end, own in dense([130, HIDDEN]).items()}
    found |= {f"lm_head{end}": own for end, own in dense([130, HIDDEN]).items()}
    for layer in range(layers):
        for name, shape in modules.items():
            found |= {f"model.layers.{layer}.{name}{end}": own for end, own in linear(shape).items()}
        gate = dense([4, HIDDEN])
        found |= {f"model.layers.{layer}.block_sparse_moe.gate{end}": own for end, own in gate.items()}
    return found


def folder(place: Path, tensors: Tensors, config: dict[str, Any] = CONFIG) -> Path:
    (place / "config.json").write_text(json.dumps(config))
    write(place / "model.safetensors", tensors)
    return place


@pytest.mark.parametrize("linear", [dense, fp8, packed])
def test_the_bytes_are_those_of_the_files(linear: Any, tmp_path: Path) -> None:
    tensors = model(linear, layers=7)  # the last one predicts a further token
    found = sizes.from_config(folder(tmp_path, tensors))
    main = sum(nbytes for name, (_, _, nbytes) in tensors.items() if ".layers.6." not in name)
    total = sum(memory.weights(found.parameters.breakdown, found.stored).values())
    norms = 2 * found.parameters.breakdown.norms
    assert total - norms == pytest.approx(main, rel=1e-3)
    assert found.architecture is not None
    assert found.architecture.stored == found.stored
    assert bool(found.notes) == (linear is not dense)
    assert found.stored.of("embedding") == found.stored.of("router") == "bf16"


def test_what_the_config_says_otherwise_is_named(tmp_path: Path) -> None:
    block = {"quant_method": "gptq", "bits": 4, "group_size": 16, "sym": True}
    config = CONFIG | {"quantization_config": block}
    stated = load(config)
    found = sizes.from_config(folder(tmp_path, model(packed), config))
    assert found.stored.of("experts") == "int4@5"  # GPTQ's packed zero points are not in these files
    assert found.notes == (
        *stated.notes,
        "attention: int4@5 by the headers of the files, not int4-g16+20",
        "experts: int4@5 by the headers of the files, not int4-g16+20",
    )


def test_files_of_another_model_are_not_believed(tmp_path: Path) -> None:
    tensors = {name: own for name, own in model(fp8).items() if "self_attn" not in name}
    found = sizes.from_config(folder(tmp_path, tensors))
    assert found.stored.of("experts") == "bf16"
    assert found.notes[-1].endswith("the files hold no attention of this size")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    found = sizes.from_config(tmp_path)
    assert found.notes[-1].startswith("the formats are those of config.json: model.safetensors")
