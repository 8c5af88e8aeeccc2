"""Megatron: one JSON object a line and layer: step, layer, rank, num_tokens, topk, top_indices.

Ranks hold other tokens of the same step: each is a sequence of its own here, its steps one after another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from moe_core import inputs
from moe_core.errors import ConfigError
from moe_core.hf.traces.responses import objects
from moe_core.hf.traces.shape import Columns, Known, Trace, of_array

FIELDS = ("step", "layer", "num_tokens", "topk", "top_indices")
_START = 2**16


def is_one(path: Path, what: str) -> bool:
    """Whether the first line has the fields of this format."""
    try:
        with inputs.opened(path) as file:
            start = file.read(_START)
    except OSError as error:
        raise ConfigError(f"{what}: cannot be read ({error.strerror})") from error
    return b'"top_indices"' in start.split(b"\n", 1)[0]


def read(path: Path, known: Known, what: str) -> Trace:
    """Read line by line. Raises ConfigError for a line that is not of the format."""
    found = objects(path, what)
    first = next(found, None)
    if first is None:
        raise ConfigError(f"{what}: is empty")
    where, line = first
    _indices(line, where)
    note = f"layers as they are numbered there, {line['topk']} experts a token; a rank is a sequence"
    return Trace("Megatron", (note,), _batches(chain([first], found), known, what))


def _batches(found: Iterator[tuple[str, Any]], known: Known, what: str) -> Iterator[pa.RecordBatch]:
    known = known._replace(zero="expert")  # a line says how many tokens it has: none is missing
    reached: dict[tuple[int, int], int] = defaultdict(int)  # (rank, layer) -> tokens so far
    for where, line in found:
        ids_TK = _indices(line, where)
        rank, layer = int(line.get("rank", 0)), int(line["layer"])
        if known.layers is not None and layer not in known.layers:
            raise ConfigError(f"{where}: layer {layer} has no experts in this model")
        start = reached[rank, layer]
        reached[rank, layer] += len(ids_TK)
        here = Columns((layer,), (0,), "")
        positions_T = np.arange(start, start + len(ids_TK))
        yield from of_array(ids_TK[:, None], here, known, where, sequence=rank, positions_T=positions_T)


def _indices(line: Any, what: str) -> np.ndarray:
    """[tokens, k] of one line."""
    if not isinstance(line, dict) or any(field not in line for field in FIELDS):
        raise ConfigError(f"{what}: must have {', '.join(FIELDS)}")
    tokens, top_k = line["num_tokens"], line["topk"]
    if not isinstance(tokens, int) or not isinstance(top_k, int) or not isinstance(line["layer"], int):
        raise ConfigError(f"{what}: num_tokens, topk and layer must be whole numbers")
    try:
        ids = np.array(line["top_indices"])
        if not np.issubdtype(ids.dtype, np.integer):
            raise ValueError
        return ids.reshape(tokens, top_k)
    except ValueError as error:
        raise ConfigError(f"{what}: top_indices must be {tokens} times {top_k} whole numbers") from error
