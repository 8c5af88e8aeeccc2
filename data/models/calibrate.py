"""Compute data/models/scale-dense.calibration.safetensors from the training split. About a minute.

python data/models/calibrate.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from moe_core.nn import calibration, checkpoint  # noqa: E402

SEQUENCE = 256
BATCHES = 64
WINDOWS = 2  # of each domain in a batch


def batches(corpus: Path, seed: int = 0) -> Iterator[Tensor]:
    """Windows of the training text, every domain equally often."""
    generator = torch.Generator().manual_seed(seed)
    texts = [_training_bytes(path) for path in sorted(corpus.glob("*.parquet"))]
    for _ in range(BATCHES):
        starts = [torch.randint(len(text) - SEQUENCE, (WINDOWS, 1), generator=generator) for text in texts]
        windows = [text[start + torch.arange(SEQUENCE)] for text, start in zip(texts, starts, strict=True)]
        yield torch.cat(windows).long()


def _training_bytes(path: Path) -> Tensor:
    frame = pq.read_table(path, filters=[("split", "=", "train")]).to_pandas()
    return torch.frombuffer(bytearray("\n".join(frame["text"]).encode()), dtype=torch.uint8)


def main() -> None:
    model = ROOT / "data" / "models" / "scale-dense.safetensors"
    layers = calibration.calibrate(checkpoint.load(model), batches(ROOT / "data" / "corpus"))
    made = {"tokens": str(BATCHES * WINDOWS * 8 * SEQUENCE), "seed": "0", "model": model.name}
    calibration.save(layers, model.with_name("scale-dense.calibration.safetensors"), made)


if __name__ == "__main__":
    main()
