"""What a page says about a folder of safetensors."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.architectures import checkpoints
from app.architectures.checkpoints import Read
from moe_core.hf import checkpoint
from tests.hf.test_checkpoint import write


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/home/a/models/My-Model", "My-Model"),
        ("/home/a/.cache/huggingface/hub/models--allenai--OLMoE-1B-7B/snapshots/0a1b2c", "OLMoE-1B-7B"),
        ("/", "checkpoint"),
        ("/x/" + "n" * 60, "n" * 37 + "..."),
    ],
)
def test_names(folder: str, name: str) -> None:
    assert checkpoints.name_of(Path(folder)) == name


def test_a_table_and_a_sentence_of_what_is_there(tmp_path: Path) -> None:
    weights = {
        "model.layers.0.mlp.up_proj.weight": ("F8_E4M3", [30, 10], 300),
        "model.layers.0.mlp.up_proj.weight_scale_inv": ("F32", [1, 1], 4),
        "lm_head.weight": ("BF16", [10, 2], 40),
    }
    write(tmp_path / "model.safetensors", weights)
    kept = Read("mine", checkpoint.read(tmp_path))
    table = checkpoints.rows(kept.found)
    assert list(table["component"]) == ["ffn", "head", "scales"]
    assert list(table["nbytes"]) == [300, 40, 4]
    assert table["share"].sum() == pytest.approx(100)
    said = checkpoints.sentence(kept)
    assert "344 B in 1 file, 3 tensors, 87.2\N{NO-BREAK SPACE}% of the bytes in F8_E4M3" in said
    assert "320 elements beside the scales" in said
