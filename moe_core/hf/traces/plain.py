"""Plain tables: Parquet or CSV with a row a choice (layer, expert), or a row a token (layer, experts).

Names in brackets are read where they are there: [sequence], position (or token), [slot], [weight or weights],
[token_id], [domain], [part]. Ours, of `moe_core.record`, is one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from moe_core import inputs
from moe_core.errors import ConfigError
from moe_core.hf.traces.shape import SCHEMA, Known, Trace

ROWS = 2**19  # of a piece
_EITHER = {
    "position": ("position", "token"),
    "expert": ("expert", "expert_id"),
    "experts": ("experts", "indices"),
}


def parquet(path: Path, known: Known, what: str) -> Trace:
    """Read row group by row group."""
    file = parquet_file(path, what)
    names = _names(file.schema_arrow.names, what)
    found = file.iter_batches(batch_size=ROWS, columns=sorted(set(names.values())))
    return _trace("Parquet", found, names, known, what)


def csv(path: Path, known: Known, what: str) -> Trace:
    """Read in pieces; a row a choice."""
    try:
        with inputs.opened(path):
            pass
        reader = arrow_csv.open_csv(path, read_options=arrow_csv.ReadOptions(block_size=2**24))
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{what}: cannot be read as CSV ({str(error).splitlines()[0]})") from error
    names = _names(reader.schema.names, what)
    if "experts" in names:
        raise ConfigError(f"{what}: CSV has a row a choice: layer, position, expert")
    return _trace("CSV", iter(reader), names, known, what)


def parquet_file(path: Path, what: str) -> pq.ParquetFile:
    """A regular Parquet file. Raises ConfigError."""
    try:
        with inputs.opened(path):
            pass
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(
            f"{what}: {path.name} cannot be read as Parquet ({str(error).splitlines()[0]})"
        ) from error


def _names(there: list[str], what: str) -> dict[str, str]:
    """Our name -> the file's."""
    names = {
        ours: found
        for ours in ("layer", "sequence", "position", "slot", "expert", "experts", "weight", "weights")
        if (found := next((one for one in _EITHER.get(ours, (ours,)) if one in there), None)) is not None
    }
    names |= {name: name for name in ("token_id", "domain") if name in there}
    if "layer" not in names or not {"expert", "experts"} & set(names):
        raise ConfigError(
            f"{what}: must have the columns layer and expert (or experts), has {', '.join(there)[:200]}"
        )
    if "position" not in names:
        raise ConfigError(f"{what}: must have the column position (or token): which token chose is not told")
    return names


def _trace(
    kind: str, found: Iterator[pa.RecordBatch], names: dict[str, str], known: Known, what: str
) -> Trace:
    read_as = ", ".join(ours if ours == theirs else f"{theirs} as {ours}" for ours, theirs in names.items())
    wide = "experts" in names
    note = f"columns {read_as}; a row a {'token' if wide else 'choice'}"
    return Trace(kind, (note,), _pieces(found, names, wide, known, what))


def _pieces(
    found: Iterator[pa.RecordBatch], names: dict[str, str], wide: bool, known: Known, what: str
) -> Iterator[pa.RecordBatch]:
    try:
        for piece in found:
            columns = {
                ours: piece.column(piece.schema.get_field_index(theirs)) for ours, theirs in names.items()
            }
            yield _spread(columns, known, what) if wide else _choices(columns, known, what)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{what}: cannot be read on ({str(error).splitlines()[0]})") from error


def _choices(columns: dict[str, Any], known: Known, what: str) -> pa.RecordBatch:
    """A row a choice."""
    rows = len(columns["layer"])
    columns = {"sequence": pa.repeat(pa.scalar(0, pa.int32()), rows), **columns}
    if "slot" not in columns:
        columns["slot"] = _slots(columns)
    if known.domain is not None:
        columns["domain"] = pa.repeat(known.domain, rows)
    made = [
        columns[field.name].cast(field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in SCHEMA
    ]
    return _valid(pa.RecordBatch.from_arrays(made, schema=SCHEMA), known, what)


def _slots(columns: dict[str, Any]) -> pa.Array:
    """The number of a choice among those of its token, as they stand: rows of a token stand together."""
    keys = np.stack([np.asarray(columns[name], dtype=np.int64) for name in ("layer", "sequence", "position")])
    new_N = np.ones(keys.shape[1], dtype=bool)
    new_N[1:] = (keys[:, 1:] != keys[:, :-1]).any(0)
    at_N = np.arange(len(new_N))
    return pa.array(at_N - np.maximum.accumulate(np.where(new_N, at_N, 0)))


def _spread(columns: dict[str, Any], known: Known, what: str) -> pa.RecordBatch:
    """A row a token: its list becomes rows."""
    lists = columns["experts"]
    flat, counts = (
        pc.list_flatten(lists),
        pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False),
    )
    row_N = np.repeat(np.arange(len(lists)), counts)
    starts_N = np.repeat(np.cumsum(counts) - counts, counts)
    repeated = {
        name: column.take(pa.array(row_N))
        for name, column in columns.items()
        if name not in ("experts", "weights")
    }
    repeated |= {"expert": flat, "slot": pa.array(np.arange(len(row_N)) - starts_N)}
    if "weights" in columns:
        repeated["weight"] = pc.list_flatten(columns["weights"])
        if len(repeated["weight"]) != len(flat):
            raise ConfigError(f"{what}: must have as many weights as experts in every row")
    return _choices(repeated, known, what)


def widened(
    experts: Any, weights: Any, layer: int, start: int, tokens: np.ndarray | None, known: Known, what: str
) -> pa.RecordBatch:
    """Lists of one layer from token `start` on."""
    rows = len(experts)
    columns = {
        "layer": pa.repeat(pa.scalar(layer, pa.int16()), rows),
        "position": pa.array(np.arange(start, start + rows)),
        **{"experts": experts, "weights": weights},
    }
    if tokens is not None:
        if len(tokens) < start + rows:
            raise ConfigError(f"{what}: has more rows than the samples have tokens ({len(tokens):,})")
        columns["token_id"] = pa.array(tokens[start : start + rows])
    return _spread(columns, known, what)


def _valid(piece: pa.RecordBatch, known: Known, what: str) -> pa.RecordBatch:
    """Without rows that chose nothing (below zero). Raises ConfigError for what cannot be."""
    for name in ("layer", "sequence", "position", "slot", "expert"):
        if piece[name].null_count:
            raise ConfigError(f"{what}: column {name} has gaps")
    piece = piece.filter(pc.greater_equal(piece["expert"], 0))
    most = pc.max(piece["expert"]).as_py() if piece.num_rows else -1
    if known.experts is not None and most >= known.experts:
        raise ConfigError(f"{what}: expert {most}, the model has {known.experts}; are they physical ids?")
    if known.layers is not None and piece.num_rows:
        foreign = set(pc.unique(piece["layer"]).to_pylist()) - set(known.layers)
        if foreign:
            raise ConfigError(f"{what}: layer {min(foreign)} has no experts in this model")
    return piece
