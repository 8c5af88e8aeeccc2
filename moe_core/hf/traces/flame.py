"""FLAME-MoE: a folder with `actives/iter_N/layer_NN.parquet` (indices, scores) and `samples/` (token_id)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from moe_core.errors import ConfigError
from moe_core.hf.traces.plain import parquet_file, widened
from moe_core.hf.traces.shape import Known, Trace

_LAYER = re.compile(r"layer_(\d+)\.parquet")
_STEP = re.compile(r"iter_(\d+)")


def read(path: Path, known: Known, what: str) -> Trace:
    """The newest checkpoint's choices. The text is one sequence: where its documents end is not written."""
    steps = sorted((int(found[1]), one) for one in _inside(path) if (found := _STEP.fullmatch(one.name)))
    if not steps:
        raise ConfigError(f"{what}: has no actives/iter_N with layer_NN.parquet")
    step, folder = steps[-1]
    layers = {int(found[1]): one for one in sorted(folder.iterdir()) if (found := _LAYER.fullmatch(one.name))}
    if not layers:
        raise ConfigError(f"{what}: {folder.name} has no layer_NN.parquet")
    tokens = _tokens(path / "samples", what)
    also = "" if len(steps) == 1 else f", the last of {len(steps)}"
    note = f"checkpoint of step {step:,}{also}; {len(layers)} layers, as one sequence"
    return Trace("FLAME-MoE", (note,), _batches(layers, tokens, known, what))


def _inside(path: Path) -> Iterator[Path]:
    """Folders of `actives`, links out of it left alone."""
    actives = path / "actives"
    if actives.is_dir():
        yield from (one for one in sorted(actives.iterdir()) if one.is_dir() and not one.is_symlink())


def _tokens(folder: Path, what: str) -> np.ndarray | None:
    """Token ids in the order of the files; None without samples."""
    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    parts = [parquet_file(file, what) for file in files]
    if not parts:
        return None
    if any("token_id" not in part.schema_arrow.names for part in parts):
        raise ConfigError(f"{what}: samples have no token_id")
    columns = [part.read(columns=["token_id"])["token_id"].to_numpy() for part in parts]
    return np.concatenate(columns).astype(np.int32)


def _batches(
    layers: dict[int, Path], tokens: np.ndarray | None, known: Known, what: str
) -> Iterator[pa.RecordBatch]:
    for layer, file in layers.items():
        start = 0
        for batch in parquet_file(file, what).iter_batches(columns=["indices", "scores"]):
            yield widened(
                batch["indices"], batch["scores"], layer, start, tokens, known, f"{what}, {file.name}"
            )
            start += batch.num_rows
