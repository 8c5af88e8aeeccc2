"""Formats: which one a path is, by its name and by what stands in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from moe_core import inputs
from moe_core.errors import ConfigError
from moe_core.hf.traces import arrays, flame, megatron, plain, responses, sglang
from moe_core.hf.traces.shape import Known, Trace

Reader = Callable[[Path, Known, str], Trace]
BY_ENDING: dict[str, Reader] = {
    ".npy": arrays.read,
    ".pt": sglang.read,
    ".parquet": plain.parquet,
    ".csv": plain.csv,
    ".json": responses.read,
}


def read(path: Path | str, known: Known | None = None) -> Trace:
    """The trace at `path`: a file of one of the endings, JSON lines, or a folder of FLAME-MoE.

    Raises ConfigError with one sentence, also while it is read, and for what only the caller can know.
    """
    path, known = Path(path), known or Known()
    what = inputs.named("trace", path)
    if inputs.is_folder(path):
        return flame.read(path, known, what)
    if path.suffix == ".jsonl":
        return (
            megatron.read(path, known, what)
            if megatron.is_one(path, what)
            else responses.lines(path, known, what)
        )
    if path.suffix not in BY_ENDING:
        raise ConfigError(f"{what}: must be a folder or end in {', '.join([*BY_ENDING, '.jsonl'])}")
    return BY_ENDING[path.suffix](path, known, what)
